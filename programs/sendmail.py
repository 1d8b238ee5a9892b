"""The name under which everybody hands mail in: qmail's sendmail, which is qmail-inject with other letters.

Knows the letters and what each becomes. `-bp` (and the name `mailq`) is qmail-qread; `-bs` is SMTP on standard input
and output for whoever called, see programs/smtp.py.
"""

import os
from collections.abc import Sequence

from programs import place
from programs.complaint import PERMANENT, TEMPORARY, die, octets
from programs.options import WRONG, Options

_USAGE = "sendmail: usage: sendmail [ -t ] [ -fsender ] [ -Fname ] [ -bp ] [ -bs ] [ arg ... ]"
_LETTERS = "vimte:f:p:o:B:F:EJxb:"

# With -f, these would name another author than the sender.
_AUTHOR = (b"QMAILNAME", b"MAILNAME", b"NAME", b"QMAILHOST", b"MAILHOST")


def main(words: Sequence[str]) -> int:
    """The exit status of what the letters ask for; 100 and how it is used when nobody knows them."""
    takes_fields, sender = False, None
    options = Options("sendmail", words, _LETTERS)
    for letter, word in options:
        if letter == WRONG or (letter == "b" and word[:1] not in ("m", "p", "s")):
            return die(PERMANENT, _USAGE)
        if letter == "b" and word[0] != "m":
            return _show_queue() if word[0] == "p" else _speak_smtp()
        if letter == "t":
            takes_fields = True
        elif letter == "f":
            sender = word
        elif letter == "F":
            os.environb[b"MAILNAME"] = octets(word)
        elif letter in "EJ":
            options.skip()  # Sony's, with a word that may be missing
    return _inject(takes_fields, sender, options.rest)


def _inject(takes_fields: bool, sender: str | None, recipients: Sequence[str]) -> int:
    from programs import inject

    words = ["-H" if takes_fields else "-a"]
    if sender is not None:
        words += ["-f", sender]
        _become(octets(sender))
    return inject.main([*words, "--", *recipients])


def _become(sender: bytes) -> None:
    """The author of the message is its sender."""
    for variable in _AUTHOR:
        os.environb.pop(variable, None)
    user, at, host = sender.rpartition(b"@")
    os.environb[b"QMAILUSER"] = user if at else sender
    if at:
        os.environb[b"QMAILHOST"] = host


def _show_queue() -> int:
    qread = os.path.join(place.CHECKOUT, "bin", "qmail-qread")
    try:
        os.execv(qread, [qread])
    except OSError:
        return die(TEMPORARY, "sendmail: fatal: unable to run qmail-qread")


def _speak_smtp() -> int:
    from programs import smtp

    return smtp.serve()
