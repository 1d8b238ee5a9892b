"""newinclude(1): makes LIST.bin, a binary mailing list for fastforward, of LIST, an :include: file of sendmail's."""

import os
import re
from collections.abc import Iterator, Sequence

from mail import aliases, forwarding
from programs.complaint import PERMANENT, die, reported
from programs.completion import names
from programs.database import complaint
from programs.replacement import WORLD_READABLE, replace
from programs.stdio import file


def main(words: Sequence[str]) -> int:
    """0 when the list is in place; 100 or 111 with a reason, and then the old one is."""
    if not words:
        return die(PERMANENT, "newinclude: usage: newinclude list")
    return reported("newinclude", _make, words)


def _make(words: Sequence[str]) -> int:
    completing = names(os.environb)
    try:
        content = b"".join(_commands(file(words[0]), completing))
    except forwarding.BadLine as error:
        raise complaint(error) from error
    replace(f"{words[0]}.bin", f"{words[0]}.tmp", [content], WORLD_READABLE, "write to")
    return 0


def _commands(content: bytes, completing: aliases.Names) -> Iterator[bytes]:
    for line in re.findall(rb"[^\n]*\n|[^\n]+", content):
        for command in aliases.included(line, completing):
            yield command + b"\0"
