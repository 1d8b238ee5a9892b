"""forward(1): hands the message on standard input to more addresses, from within a `.qmail` file.

The message gets the Delivered-To line of this delivery first, so a circle of forwards ends. `hand_on` is what the other
programs that forward use; which addresses and why is theirs to know.
"""

import os
from collections.abc import Iterator, Sequence

from programs.complaint import PERMANENT, TEMPORARY, Fatal, because, reported, say
from programs.submit import NotQueued, submit

_READ_OCTETS = 128 * 1024


def main(words: Sequence[str]) -> int:
    """0 when the message is queued for all the addresses; 100 or 111 with a reason on standard error."""
    return reported("forward", _forward, words)


def _forward(words: Sequence[str]) -> int:
    sender, line = from_delivery("NEWSENDER"), from_delivery("DTLINE")
    say(b"forward: qp " + hand_on(sender, [os.fsencode(word) for word in words], line))
    return 0


def from_delivery(variable: str) -> bytes:
    """What qmail-command(8) promises in the environment; Fatal (100) where it is not set."""
    value = os.environb.get(variable.encode())
    if value is None:
        raise Fatal(PERMANENT, f"{variable} not set")
    return value


def hand_on(sender: bytes, recipients: Sequence[bytes], line: bytes, trouble: str = "") -> bytes:
    """Queues `line` and what is still to be read on standard input; returns the id, or raises Fatal with qmail-queue's
    words behind `trouble`."""
    try:
        return submit(sender, recipients, _message(line)).encode()
    except NotQueued as refusal:
        raise Fatal(PERMANENT if refusal.permanent else TEMPORARY, f"{trouble}{refusal.text}") from refusal


def _message(line: bytes) -> Iterator[bytes]:
    yield line
    try:
        while octets := os.read(0, _READ_OCTETS):
            yield octets
    except OSError as error:
        raise because("unable to read message: ", error) from error
