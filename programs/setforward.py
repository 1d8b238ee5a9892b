"""setforward(1): makes a forwarding database of a table on standard input."""

from collections.abc import Sequence

from mail import forwardtable
from programs import database
from programs.complaint import PERMANENT, die, reported
from programs.replacement import replace
from programs.stdio import standard_input


def main(words: Sequence[str]) -> int:
    """0 when the database is in place; 100 or 111 with a reason, and then the old one is."""
    if len(words) < 2:
        return die(PERMANENT, "setforward: usage: setforward data.cdb data.tmp")
    return reported("setforward", _set, words)


def _set(words: Sequence[str]) -> int:
    replace(words[0], words[1], [database.made(forwardtable.records(standard_input()))])
    return 0
