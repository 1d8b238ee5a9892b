"""printforward(1): shows a forwarding database on standard input as setforward reads it."""

from collections.abc import Sequence

from mail import cdb, forwarding
from programs.complaint import PERMANENT, Fatal, reported
from programs.stdio import standard_input, standard_output

_CALLED = "printmaillist"  # so it calls itself when it complains, in 0.51 and everywhere since


def main(words: Sequence[str]) -> int:
    """0; 100 when it is no such database, after the part that is."""
    return reported(_CALLED, _print, words)


def _print(_words: Sequence[str]) -> int:
    try:
        content = standard_input()
        standard_output(forwarding.printed(key, value) for key, value in cdb.records(content))
    except (cdb.BadCdb, forwarding.BadFormat) as error:
        raise Fatal(PERMANENT, "bad database format") from error
    return 0
