"""Appending to an mbox as qmail-local does, a batch at a time, under one lock and with one sync.

The octets of an entry are the same at every attempt (mail/mbox.py), so a retry finds out at the end of the file what an
earlier attempt left: a whole entry is not written again, the torn beginning of one is cut off. Runs as the user, in the
home; follows links as the user may. What is no file is refused without waiting for it.
"""

import contextlib
import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from mail import mbox
from runtime.clock import Clock
from runtime.durable import Disk
from services.local import texts

LOCK_WITHIN_S = 30.0  # qmail-local's alarm
# So far back from the end a retry looks for its entry: what others may have appended between two attempts.
LOOK_BACK_OCTETS = 1024 * 1024
_CHUNK_OCTETS = 1024 * 1024
_PREFIX_OCTETS = 512  # of the message: its Received line, and with it its id, is among them
_FOLLOW_MAX = 10  # so often may an mbox be replaced while we wait for its lock
_SYNCED_MAX = 1_000
_WRITE_ONLY = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NULL_DEVICE = os.makedev(1, 3)
_SHORTEST_S = 0.001  # 0 would be no alarm at all
_BEGINS = b"\nFrom "


@dataclass(slots=True, eq=False)
class Entry:
    """One message for one mbox, and what became of it: `trouble` is "" or the report of a deferral. `before`: as many
    equal entries are there already, by earlier lines of the same .qmail file."""

    from_line: bytes
    head: bytes
    message: bytes | memoryview
    before: int = 0
    trouble: str = ""

    def pieces(self) -> Iterator[bytes]:
        yield self.from_line + self.head
        yield from mbox.body(self.message)

    def prefix(self) -> bytes:
        """How the entry begins: as much as tells the messages of one second and one sender from each other."""
        lines = bytes(self.message[:_PREFIX_OCTETS])
        lines = lines[: lines.rfind(b"\n") + 1]
        return self.from_line + self.head + b"".join(mbox.body(lines))[:-1]


class _Refused(Exception):
    """Nothing can be appended now; the text is the report."""


class _TooLong(Exception):
    """The alarm has rung."""


class Appender:
    """Appends batches, one mbox each. Not for two threads at once; uses SIGALRM while a lock is held by somebody.
    Without `patience` such an mbox is refused at once."""

    def __init__(self, disk: Disk, clock: Clock, patience: bool = True) -> None:
        self._disk = disk
        self._clock = clock
        self._patience = patience
        self._synced: set[tuple[int, int]] = set()  # files whose names this process has seen to be durable

    def append(self, path: str, entries: Sequence[Entry]) -> None:
        """Every entry stands in the mbox, durably and once, or its `trouble` says why not. A missing mbox is made.
        What is given to /dev/null is gone."""
        try:
            fd = self._open_locked(path)
        except _Refused as refused:
            return _fail(entries, str(refused))
        except OSError as error:
            return _fail(entries, texts.cannot_open_mbox(path, error.errno or 0))
        if fd < 0:
            return None
        try:
            self._run(fd, path, entries)
        except OSError as error:
            _fail(entries, texts.cannot_write(path, error.errno or 0))
        finally:
            with contextlib.suppress(OSError):  # all that was written has been synced
                os.close(fd)  # and unlocked

    def _open_locked(self, path: str) -> int:
        """The descriptor of the locked mbox, which is the file of that name still; -1 for /dev/null."""
        ends_at = self._clock.monotonic() + self._clock.scaled(LOCK_WITHIN_S)
        for _ in range(_FOLLOW_MAX):
            fd = self._open(path)
            try:
                found = os.fstat(fd)
                if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL_DEVICE:
                    os.close(fd)
                    return -1
                if not stat.S_ISREG(found.st_mode):
                    raise OSError(errno.ENXIO, "is no file")
                self._lock(fd, path, ends_at)
                if _is_still(found, path):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # a mail reader has put another file in its place: what goes into this one is lost
        raise _Refused(texts.SLOW_LOCK)

    def _open(self, path: str) -> int:
        try:
            return self._disk.open_to_append(path)
        except PermissionError as refused:
            try:
                return os.open(path, _WRITE_ONLY)  # it may not be read: then nobody looks at its end
            except FileNotFoundError:
                raise refused from None  # nobody may make it there

    def _lock(self, fd: int, path: str, ends_at: float) -> None:
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self._patience:
                    raise _Refused(texts.SLOW_LOCK) from None
                with _within(ends_at - self._clock.monotonic()):
                    fcntl.flock(fd, fcntl.LOCK_EX)
        except _TooLong as error:
            raise _Refused(texts.SLOW_LOCK) from error
        except OSError as error:
            raise _Refused(texts.cannot_lock(path, error.errno or 0)) from error

    def _run(self, fd: int, path: str, entries: Sequence[Entry]) -> None:
        size = os.fstat(fd).st_size
        found, torn_at = _End(fd, size, entries).look()
        if torn_at < size:
            self._disk.truncate(fd, torn_at)
            size = torn_at
        start, done = size, [entry for entry, there in zip(entries, found, strict=True) if there]
        for entry, there in zip(entries, found, strict=True):
            if there:
                continue
            try:
                self._write(fd, entry, _gap(fd, size))
                done.append(entry)
                size = os.fstat(fd).st_size
            except OSError as error:
                entry.trouble = texts.cannot_write(path, error.errno or 0)
                self._disk.truncate(fd, size)
        if not done:
            return
        try:
            self._disk.sync_data(fd)
            self._sync_name(fd, path, is_new=not start)
        except OSError as error:
            _fail(done, texts.cannot_write(path, error.errno or 0))
            self._disk.truncate(fd, start)

    def _write(self, fd: int, entry: Entry, gap: bytes) -> None:
        buffers, octets = [gap], 0
        for piece in entry.pieces():
            buffers.append(piece)
            octets += len(piece)
            if octets >= _CHUNK_OCTETS:
                self._disk.write_all(fd, buffers)
                buffers, octets = [], 0
        self._disk.write_all(fd, buffers)

    def _sync_name(self, fd: int, path: str, is_new: bool) -> None:
        """The file's name is on the disk. Of a file that is not new it is made sure once: who made it may have died."""
        found = os.fstat(fd)
        if not is_new and (found.st_dev, found.st_ino) in self._synced:
            return
        try:
            self._disk.sync_directory(os.path.dirname(os.path.realpath(path)))
        except PermissionError:  # a directory that may be written to and not be read
            self._disk.sync_filesystem(fd)
        if len(self._synced) >= _SYNCED_MAX:
            self._synced.clear()
        self._synced.add((found.st_dev, found.st_ino))


class _End:
    """The end of an mbox, where entries of an earlier attempt may be."""

    def __init__(self, fd: int, size: int, entries: Sequence[Entry]) -> None:
        self._fd = fd
        self._size = size
        self._entries = entries
        self._prefixes = [entry.prefix() for entry in entries]
        self._by_line: dict[bytes, list[int]] = {}
        for number, entry in enumerate(entries):
            self._by_line.setdefault(entry.from_line, []).append(number)

    def look(self) -> tuple[list[bool], int]:
        """Of each entry whether it is there whole; where the torn beginning of one starts, else the file's size."""
        there: dict[int, list[int]] = {}
        if self._size and _is_readable(self._fd):
            for position, text in self._beginnings():
                for number in self._candidates(text):
                    whole = self._compare(position, self._entries[number])
                    if whole is None:
                        return _matched(self._entries, there), position
                    if whole:
                        there.setdefault(number, []).append(position)
        return _matched(self._entries, there), self._size

    def _beginnings(self) -> Iterator[tuple[int, bytes]]:
        """Where a line starts as a From_ line does, and what follows, as much as the longest prefix."""
        longest = max(map(len, self._prefixes))
        largest = max(len(entry.message) for entry in self._entries)
        for offset in range(max(0, self._size - LOOK_BACK_OCTETS - longest - largest), self._size, _CHUNK_OCTETS):
            first = b"\n" if offset == 0 else b""  # a file begins a line
            text = first + os.pread(self._fd, _CHUNK_OCTETS + longest + 1, offset)
            at = text.find(_BEGINS)
            while 0 <= at < _CHUNK_OCTETS + len(first):
                yield offset - len(first) + at + 1, text[at + 1 : at + 1 + longest]
                at = text.find(_BEGINS, at + 1)

    def _candidates(self, text: bytes) -> list[int]:
        line = text[: text.find(b"\n") + 1]
        numbers = self._by_line.get(line, []) if line else range(len(self._entries))
        return [
            number
            for number in numbers
            if text.startswith(self._prefixes[number]) or self._prefixes[number].startswith(text)
        ]

    def _compare(self, position: int, entry: Entry) -> bool | None:
        """Whether the entry is there; None when it begins there and then the file ends."""
        for piece in entry.pieces():
            text = os.pread(self._fd, len(piece), position)
            position += len(text)
            if text != piece:
                return None if position == self._size and piece.startswith(text) else False
        return True


def _matched(entries: Sequence[Entry], there: dict[int, list[int]]) -> list[bool]:
    """Which entries are there. Equal ones, as to somebody who is named twice, share their places: what earlier lines
    put there counts first."""
    found = [False] * len(entries)
    equal: dict[int, list[int]] = {}
    for number, places in there.items():
        equal.setdefault(places[0], []).append(number)
    for numbers in equal.values():
        ours = len(there[numbers[0]]) - sum(entries[number].before for number in numbers)
        for number in sorted(numbers)[: max(0, ours)]:
            found[number] = True
    return found


def _is_readable(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def _is_still(found: os.stat_result, path: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(path))
    except FileNotFoundError:
        return False


def _gap(fd: int, size: int) -> bytes:
    """What must come first so that a From_ line begins a line: whoever wrote before may not have ended his."""
    if not size or not _is_readable(fd) or os.pread(fd, 1, size - 1) == b"\n":
        return b""
    return b"\n\n"


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """_TooLong when what is inside takes longer; a system call that waits is interrupted."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, max(seconds, _SHORTEST_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)


def _fail(entries: Sequence[Entry], trouble: str) -> None:
    for entry in entries:
        entry.trouble = entry.trouble or trouble
