"""newaliases(1): makes the forwarding database of /etc/aliases.

Unlike qmail's it takes words: `newaliases [ table [ database ] ]`, for a table elsewhere or one beside which
nothing can be written. What follows the last LF of the table is left out, as qmail does, but not without a word.
"""

from collections.abc import Iterator, Sequence

from mail import aliases
from programs import database
from programs.complaint import PERMANENT, die, reported, say
from programs.completion import names
from programs.replacement import WORLD_READABLE, replace
from programs.stdio import file

_TABLE = "/etc/aliases"


def main(words: Sequence[str]) -> int:
    """0 when the database is in place; 100 or 111 with a reason, and then the old one is."""
    if len(words) > 2 or any(word.startswith("-") for word in words):
        return die(PERMANENT, "newaliases: usage: newaliases [ table [ data.cdb ] ]")
    return reported("newaliases", _make, words)


def _make(words: Sequence[str]) -> int:
    table = words[0] if words else _TABLE
    base = words[1].removesuffix(".cdb") if len(words) > 1 else table
    completing = names()
    content = file(table)
    if content and not content.endswith(b"\n"):
        say(f"newaliases: warning: the last line of {table} does not end; left out")
    made = database.made(_records(content, completing))
    replace(f"{base}.cdb", f"{base}.tmp", [made], WORLD_READABLE)
    return 0


def _records(content: bytes, completing: aliases.Names) -> Iterator[tuple[bytes, bytes]]:
    for instruction in aliases.instructions(content):
        yield from aliases.records(instruction, completing)
