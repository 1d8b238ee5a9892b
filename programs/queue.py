"""qmail-queue(8): the message on descriptor 0, the envelope on descriptor 1, and nothing said but the exit code."""

import os
import signal
from collections.abc import Iterator, Sequence

from programs.submit import READ_ERROR, TIMEOUT, NotQueued, hand_in

# What qmail-queue gives a whole message (DEATH in qmail-queue.c).
_ALARM_S = 86_400
_READ_OCTETS = 128 * 1024


def main(words: Sequence[str]) -> int:
    """0 when the message is queued, otherwise an exit code of qmail-queue(8)."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(TIMEOUT))
    signal.alarm(_ALARM_S)
    os.environ.pop("QMAILQUEUE", None)  # that is how others reach this program
    try:
        hand_in(_octets(0), _envelope(1))
    except NotQueued as not_queued:
        return not_queued.code
    except OSError:
        return READ_ERROR
    return 0


def _envelope(fd: int) -> Iterator[bytes]:
    """Up to its end, which is the first record that is empty: whoever wrote it may keep the pipe open."""
    last = b""
    for octets in _octets(fd):
        yield octets
        if b"\0\0" in last + octets:
            return
        last = octets[-1:]


def _octets(fd: int) -> Iterator[bytes]:
    while octets := os.read(fd, _READ_OCTETS):
        yield octets
