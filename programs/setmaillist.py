"""setmaillist(1): makes a binary mailing list of the addresses on standard input, one a line."""

from collections.abc import Sequence

from mail import forwarding
from programs.complaint import PERMANENT, die, reported
from programs.database import complaint
from programs.replacement import WORLD_READABLE, replace
from programs.stdio import standard_input


def main(words: Sequence[str]) -> int:
    """0 when the list is in place; 100 or 111 with a reason, and then the old one is."""
    if len(words) < 2:
        return die(PERMANENT, "setmaillist: usage: setmaillist list.bin list.tmp")
    return reported("setmaillist", _set, words)


def _set(words: Sequence[str]) -> int:
    try:
        content = b"".join(forwarding.mailing_list(standard_input().split(b"\n")))
    except forwarding.BadLine as error:
        raise complaint(error) from error
    replace(words[0], words[1], [content], WORLD_READABLE)
    return 0
