"""mailsubj(1): mails standard input to the addresses behind the first word, which is the subject.

Hands qmail-inject a header and the text. qmail's is a shell script; a line end within a word, which would end the
header there, is a blank here.
"""

import re
from collections.abc import Iterator, Sequence

from programs import inject
from programs.complaint import PERMANENT, die, octets

_LINE_ENDS = re.compile(rb"[\r\n]+")


def main(words: Sequence[str]) -> int:
    """qmail-inject's exit status; 100 without a word."""
    if not words:
        return die(PERMANENT, "mailsubj: usage: mailsubj subject recipient ...")
    subject, *recipients = (_LINE_ENDS.sub(b" ", octets(word)) for word in words)
    return inject.inject((), _message(subject, recipients, inject.lines()))


def _message(subject: bytes, recipients: Sequence[bytes], text: Iterator[bytes]) -> Iterator[bytes]:
    yield b"Subject: %b\n" % subject
    yield b"To: %b\n" % b" ".join(recipients)
    yield b"\n"
    yield from text
