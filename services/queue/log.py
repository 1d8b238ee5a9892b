"""One log as its owner has it: append frames, read bodies, know whether it is still ours.

A frame is written only after the sync of the one before it has returned, so only the last frame of a dead owner can be
in doubt. After each commit the full path must still name the directory, by device and inode, that was opened: whoever
takes the log renames it, and then nothing that we wrote may be acknowledged.
"""

import hashlib
import os
import zlib

from runtime.durable import Disk
from runtime.faults import Point, point
from services.queue import frame, records
from services.queue.names import LogName, Position, SegmentName

# Large enough that beginning one is rare, small enough that the scan reads it at once and disk comes back in portions.
SEGMENT_OCTETS = 64 * 1024 * 1024

# The most that one frame may hold: a group of commits. A takeover's first frame may hold a copied one as well.
FRAME_MAX_OCTETS = 16 * 1024 * 1024

# Bodies above this stand in large/, one file however many messages share it.
INLINE_MAX_OCTETS = 1024 * 1024

assert FRAME_MAX_OCTETS * 2 < SEGMENT_OCTETS, "a takeover's first frame fits a segment"


class LostLog(Exception):
    """The log has another owner now. What was just written may be committed by that owner, or never."""


class DamagedBody(Exception):
    """The octets of a body are not those that were accepted, or cannot be read."""


class Log:
    """A log that this process owns, under a token that nobody else has."""

    def __init__(self, name: LogName, path: str, disk: Disk, segment_octets: int, next_sequence: int = 1) -> None:
        self.name = name
        self.path = path
        self.segment_octets = segment_octets
        self.segments: dict[SegmentName, int] = {}  # every segment that counts, with its length, oldest first
        self._disk = disk
        self._identity = _identity(path)
        self._sequence = next_sequence
        self._current = SegmentName(name.token, 0)
        self._fd = -1
        self._readers: dict[SegmentName, int] = {}

    # -- writing: in the commit thread --------------------------------------------------------------------------------

    def append(self, said: list[records.Said]) -> list[Position]:
        """Commits everything said in one frame and returns where the bodies stand.

        Raises LostLog when the log was taken meanwhile, OSError when the disk failed. After either, what was said is
        neither known to be committed nor known not to be, and nothing more may be written here.
        """
        encoded = [records.encode(one) for one in said]
        octets = frame.OVERHEAD_OCTETS + sum(record.octets() for record in encoded)
        if self._fd < 0 or self.segments[self._current] + octets > self.segment_octets:
            self._begin_segment(max(octets, self.segment_octets))
        place = frame.Place(int(self.name.log, 16), self.name.token, self._current.number, self.segments[self._current])
        buffers, bodies = frame.encode(place, self._sequence, encoded)
        point(Point.LOG_BEFORE_WRITE)  # nothing of these messages exists
        self._disk.write_all(self._fd, buffers)
        point(Point.LOG_AFTER_WRITE)  # the frame may survive, or a part of it: the next owner decides
        self._disk.sync_data(self._fd)
        point(Point.LOG_AFTER_SYNC)  # the frame survives; nobody was told
        self.recheck()
        point(Point.LOG_AFTER_RECHECK)  # committed; nobody was told
        self.segments[self._current] += octets
        self._sequence += 1
        return [Position(self._current, body) for body in bodies]

    def recheck(self) -> None:
        """Raises LostLog unless our full path still names the directory that we opened."""
        try:
            found = _identity(self.path)
        except FileNotFoundError:
            found = None
        if found != self._identity:
            raise LostLog(f"{self.name} was renamed by another owner")

    def _begin_segment(self, octets: int) -> None:
        """The next segment, its blocks and its name durable before a frame goes in."""
        name = SegmentName(self.name.token, self._current.number + 1)
        try:
            fd = self._disk.create(os.path.join(self.path, str(name)))
            self._disk.preallocate(fd, octets)
            self._disk.sync_file(fd)
            self._disk.sync_directory(self.path)
        except FileNotFoundError as error:
            raise LostLog(f"{self.name} was renamed by another owner") from error
        point(Point.SEGMENT_AFTER_CREATE)  # an empty segment: the scan finds no frame in it
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self._current = name
        self.segments[name] = 0

    def store_large(self, message: str, body: bytes) -> str:
        """Keeps a body in large/, durable before any frame names it; returns the name, which holds its SHA-256.

        Forwards share the file of the message that they come from. No two accepted messages share one, so removing it
        needs no look at what is just being accepted.
        """
        name = f"{message}-{hashlib.sha256(body).hexdigest()}"
        try:
            self._disk.replace_file(os.path.join(self.path, "large", name), body)
        except FileNotFoundError as error:
            raise LostLog(f"{self.name} was renamed by another owner") from error
        point(Point.LARGE_AFTER_SYNC)  # a file that no frame names: the next takeover removes it
        return name

    def remove_large(self, name: str) -> None:
        """Removes a body that no message needs any more; a crash before the directory is synced removes it later."""
        self.recheck()
        self._disk.unlink(os.path.join(self.path, "large", name))

    def remove_segment(self, name: SegmentName) -> None:
        """Removes the oldest segment once nothing in it counts any more."""
        assert name == next(iter(self.segments)), "from the oldest upwards"
        assert name != self._current, "never the one that is written"
        self.recheck()
        self._disk.unlink(os.path.join(self.path, str(name)))
        self._disk.sync_directory(self.path)
        point(Point.RECLAIM_AFTER_UNLINK)
        del self.segments[name]
        if name in self._readers:
            os.close(self._readers.pop(name))

    def remove_empty(self, names: list[SegmentName]) -> None:
        """Removes segments of which the seal in force lets nothing count: they must not outlive that seal."""
        self.recheck()
        for name in names:
            self._disk.unlink(os.path.join(self.path, str(name)))
        if names:
            self._disk.sync_directory(self.path)

    @property
    def current(self) -> SegmentName:
        return self._current

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self, at: Position, crc: int) -> bytes:
        """A body from the frames; DamagedBody when its octets are not those that were accepted."""
        try:
            if at.segment not in self._readers:
                path = os.path.join(self.path, str(at.segment))
                self._readers[at.segment] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            body = os.pread(self._readers[at.segment], at.body.octets, at.body.offset)
        except OSError as error:
            raise DamagedBody(f"{self.name.log}/{at.segment}: {error.strerror}") from error
        if len(body) != at.body.octets or zlib.crc32(body) != crc:
            raise DamagedBody(f"{self.name.log}/{at.segment} at {at.body.offset}")
        return body

    def read_large(self, name: str) -> bytes:
        """A body from large/; DamagedBody when it is not the one that its name promises."""
        try:
            with open(os.path.join(self.path, "large", name), "rb") as file:
                body = file.read()
        except OSError as error:
            raise DamagedBody(f"{self.name.log}/large/{name}: {error.strerror}") from error
        if hashlib.sha256(body).hexdigest() != name.rpartition("-")[2]:
            raise DamagedBody(f"{self.name.log}/large/{name}")
        return body

    def large_names(self) -> list[str]:
        return os.listdir(os.path.join(self.path, "large"))

    def close(self) -> None:
        """Closes every descriptor; writes nothing."""
        for fd in (*self._readers.values(), self._fd):
            if fd >= 0:
                os.close(fd)
        self._readers.clear()
        self._fd = -1


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
