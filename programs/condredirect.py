"""condredirect(1): forwards the message to another address if a program says so, and then ends the `.qmail` file."""

import os
from collections.abc import Sequence

from programs import question
from programs.complaint import PERMANENT, because, die, reported, say
from programs.forward import from_delivery, hand_on

_REDIRECTED = 99  # qmail-command(8): it succeeded, and the rest of .qmail is not for this message


def main(words: Sequence[str]) -> int:
    """99 when the message was forwarded, 0 when the program did not exit 0; 100 or 111 with a reason."""
    if len(words) < 2:
        return die(PERMANENT, "condredirect: usage: condredirect newaddress program [ arg ... ]")
    return reported("condredirect", _redirect, words)


def _redirect(words: Sequence[str]) -> int:
    if not question.agrees(words[1:]):
        return 0
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as error:
        raise because("unable to rewind: ", error) from error
    sender, line = from_delivery("SENDER"), from_delivery("DTLINE")
    say(b"condredirect: qp " + hand_on(sender, [os.fsencode(words[0])], line))
    return _REDIRECTED
