"""printmaillist(1): shows a binary mailing list on standard input as setmaillist reads it."""

from collections.abc import Sequence

from mail import forwarding
from programs.complaint import PERMANENT, Fatal, reported
from programs.stdio import standard_input, standard_output


def main(words: Sequence[str]) -> int:
    """0; 100 when it is no such list, after the part that is."""
    return reported("printmaillist", _print, words)


def _print(_words: Sequence[str]) -> int:
    try:
        standard_output(forwarding.mailing_list_printed(standard_input()))
    except forwarding.BadFormat as error:
        raise Fatal(PERMANENT, "bad mailing list format") from error
    return 0
