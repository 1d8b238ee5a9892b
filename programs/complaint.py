"""What a program says on descriptor 2, in the shape of qmail's strerr(3): `forward: fatal: NEWSENDER not set`.

Knows the sentence and the exit status, not when to complain. A line is written in one go, so that two programs of one
pipeline do not mix theirs.
"""

import contextlib
import os
from collections.abc import Callable, Sequence

from mail import trouble

PERMANENT = 100
TEMPORARY = 111


class Fatal(Exception):
    """The program cannot go on: its exit status, and what follows `NAME: fatal: `."""

    def __init__(self, status: int, text: str | bytes) -> None:
        self.status = status
        self.text = octets(text)
        super().__init__(status, text)


def because(what: str, error: OSError) -> Fatal:
    """A failed system call as qmail reports it: temporary, `what` and its words for the error."""
    return Fatal(TEMPORARY, f"{what}{trouble.words(error.errno)}")


def octets(text: str | bytes) -> bytes:
    """Text that may have come from the command line or the environment, as it came."""
    return text if isinstance(text, bytes) else os.fsencode(text)


def say(text: str | bytes) -> None:
    """One line to descriptor 2; when nobody can take it, it is lost, as in qmail."""
    rest = memoryview(octets(text) + b"\n")
    with contextlib.suppress(OSError):
        while rest:
            rest = rest[os.write(2, rest) :]


def die(status: int, text: str | bytes) -> int:
    """Says the line and returns the exit status."""
    say(text)
    return status


def reported(name: str, work: Callable[[Sequence[str]], int], words: Sequence[str]) -> int:
    """Runs the program; a Fatal is said and becomes its exit status."""
    try:
        return work(words)
    except Fatal as fatal:
        return die(fatal.status, octets(name) + b": fatal: " + fatal.text)
