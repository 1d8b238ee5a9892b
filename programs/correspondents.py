"""Whom vacation(1) has answered and when: a small text file, changed as a whole under a lock.

Claiming comes before answering: of two that want to answer one sender at the same moment one does, and after a crash in
between nobody answers twice. Knows nothing of mail but that an address is a key. The file of a Berkeley database that
another vacation left is neither read nor touched.
"""

import fcntl
import os
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# A person's correspondents of a vacation; of more, those answered longest ago are forgotten.
SENDERS_MAX = 2_000
FILE_MAX_OCTETS = 4 * 1024 * 1024
LOCK_WAIT_S = 30

_MAGIC = b"Whom vacation has answered, and when.\n"
_LINE = re.compile(rb"interval (\d{1,15}(?:\.0)?|inf)\Z|(\d{1,15}) (.+)\Z", re.DOTALL)
_MODE = 0o600


class Unreadable(Exception):
    """The file is none of ours, or it cannot be had; the text says why."""


class Correspondents:
    """The file at a path; `interval_s` is what `clear` was told, None where it was told nothing."""

    def __init__(self, path: str) -> None:
        self._path = path

    def claim(self, sender: bytes, now_s: int, interval_s: float | None, otherwise_s: float) -> bool:
        """Whether the sender is to be answered now, which is then on the disk: the last time was `interval_s` seconds
        ago or more (None: what `clear` kept, else `otherwise_s`). Raises Unreadable or OSError.

        A time in the future comes from a clock that was wrong then or is now: it counts as now, so it silences nobody
        for longer than an interval."""
        with self._lock():
            kept_s, times = self._read()
            if interval_s is None:
                interval_s = otherwise_s if kept_s is None else kept_s
            then_s = times.get(sender)
            if then_s is not None and now_s - then_s < interval_s:
                if then_s > now_s:
                    self._write(kept_s, times | {sender: now_s})
                return False
            times.pop(sender, None)
            self._write(kept_s, times | {sender: now_s})
            return True

    def forget(self, sender: bytes) -> None:
        """The sender may be answered again: the answer was not sent."""
        with self._lock():
            kept_s, times = self._read()
            if times.pop(sender, None) is not None:
                self._write(kept_s, times)

    def clear(self, interval_s: float | None) -> None:
        """Nobody has been answered; the interval, when there is one, is for every claim that has none of its own."""
        with self._lock():
            self._write(interval_s, {})

    def everybody(self) -> dict[bytes, int]:
        """Unix seconds by address, those answered longest ago first."""
        return dict(_by_time(self._read()[1]))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        fd = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE)
        before = signal.signal(signal.SIGALRM, _too_long)
        try:
            signal.alarm(LOCK_WAIT_S)
            fcntl.flock(fd, fcntl.LOCK_EX)
            signal.alarm(0)
            yield
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            os.close(fd)

    def _read(self) -> tuple[float | None, dict[bytes, int]]:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None, {}
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Unreadable("it is not a file")
            text = file.read(FILE_MAX_OCTETS + 1)
        if len(text) > FILE_MAX_OCTETS or not text.startswith(_MAGIC):
            raise Unreadable("it was not written by this vacation")
        interval_s: float | None = None
        times: dict[bytes, int] = {}
        for line in text.removeprefix(_MAGIC).split(b"\n")[:-1]:
            found = _LINE.match(line)
            if found is None:
                raise Unreadable("it is damaged")
            if found[1]:
                interval_s = float(found[1])
            else:
                times[found[3]] = int(found[2])
        return interval_s, times

    def _write(self, interval_s: float | None, times: dict[bytes, int]) -> None:
        from runtime.durable import Disk  # late: most messages are declined before anything is written

        kept = _by_time(times)[-SENDERS_MAX:]
        lines = [_MAGIC]
        if interval_s is not None:
            lines.append(b"interval %b\n" % str(interval_s).encode())
        lines += [b"%d %b\n" % (time_s, address) for address, time_s in kept]
        Disk().replace_file(self._path, b"".join(lines), _MODE)


def _by_time(times: dict[bytes, int]) -> list[tuple[bytes, int]]:
    return sorted(times.items(), key=lambda entry: entry[1])


def _too_long(number: int, frame: FrameType | None) -> None:
    raise Unreadable(f"it has been locked for {LOCK_WAIT_S} seconds")
