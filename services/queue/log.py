"""One log as its owner has it: append frames, read bodies, know whether it is still ours.

A frame is written only after the sync of the one before it has returned, so only the last frame of a dead owner can be
in doubt. After each commit the full path must still name the directory, by device and inode, that was opened: whoever
takes the log renames it, and then nothing that we wrote may be acknowledged.
"""

import contextlib
import errno
import hashlib
import os
import stat
import zlib

from runtime.durable import Disk
from runtime.faults import Point, point
from services.queue import footer, frame, records
from services.queue.footer import Footer
from services.queue.names import LogName, Position, SegmentName, is_large_name

# Large enough that beginning one is rare, small enough that the scan reads it at once and disk comes back in portions.
SEGMENT_OCTETS = 64 * 1024 * 1024

# The most that one frame may hold: a group of commits. A takeover's first frame may hold a copied one as well.
FRAME_MAX_OCTETS = 16 * 1024 * 1024

# Bodies above this stand in large/, one file however many messages share it.
INLINE_MAX_OCTETS = 1024 * 1024

assert FRAME_MAX_OCTETS * 2 + footer.FOOTER_MAX_OCTETS < SEGMENT_OCTETS, "a takeover's first frame fits a segment"

# The next segment, with its blocks: when the disk is full, outcomes still have a place.
SPARE = "spare"

# For reading: a pipe in the place of a file is not waited for.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


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
        self._footer = Footer()
        self._readers: dict[SegmentName, int] = {}

    # -- writing: in the commit thread --------------------------------------------------------------------------------

    def append(self, said: list[records.Said]) -> list[Position]:
        """Commits everything said in one frame and returns where the bodies stand.

        Raises LostLog when the log was taken meanwhile, OSError when the disk failed. After either, what was said is
        neither known to be committed nor known not to be, and nothing more may be written here.
        """
        encoded = [records.encode(one) for one in said]
        octets = frame.OVERHEAD_OCTETS + sum(record.octets() for record in encoded)
        if self._fd < 0 or self.segments[self._current] + octets + self._footer.octets > self.segment_octets:
            self._next_segment(octets)
        return self._commit(encoded, octets)

    def _commit(self, encoded: list[frame.Record], octets: int) -> list[Position]:
        offset = self.segments[self._current]
        place = frame.Place(int(self.name.log, 16), self.name.token, self._current.number, offset)
        buffers, spans = frame.encode(place, self._sequence, encoded)
        point(Point.LOG_BEFORE_WRITE)  # nothing of these messages exists
        self._disk.write_all(self._fd, buffers)
        point(Point.LOG_AFTER_WRITE)  # the frame may survive, or a part of it: the next owner decides
        self._disk.sync_data(self._fd)
        point(Point.LOG_AFTER_SYNC)  # the frame survives; nobody was told
        self.recheck()
        point(Point.LOG_AFTER_RECHECK)  # committed; nobody was told
        self.segments[self._current] = offset + octets
        self._sequence += 1
        for record, span in zip(encoded, spans, strict=True):
            self._footer.add(record, span)
        return [Position(self._current, span, len(record.body)) for record, span in zip(encoded, spans, strict=True)]

    def recheck(self) -> None:
        """Raises LostLog unless our full path still names the directory that we opened."""
        try:
            found = _identity(self.path)
        except FileNotFoundError:
            found = None
        if found != self._identity:
            raise LostLog(f"{self.name} was renamed by another owner")

    def _next_segment(self, octets: int) -> None:
        """Ends the segment that is full, and begins one that has room for a frame of so many octets."""
        if self._fd >= 0:
            self._end_segment()
        name = SegmentName(self.name.token, self._current.number + 1)
        path = os.path.join(self.path, str(name))
        try:
            fd = self._take_spare(path, octets)
            if fd is None:
                fd = self._disk.create(path)
                self._disk.preallocate(fd, max(octets, self.segment_octets))
                self._disk.sync_file(fd)
            self._disk.sync_directory(self.path)
        except FileNotFoundError as error:
            raise LostLog(f"{self.name} was renamed by another owner") from error
        point(Point.SEGMENT_AFTER_CREATE)  # an empty segment: the scan finds no frame in it
        self._fd = fd
        self._current = name
        self._footer = Footer()
        self.segments[name] = 0

    def _end_segment(self) -> None:
        """Writes the footer of the full segment, and gives back what lies behind it."""
        offset = self.segments[self._current]
        if self._footer.fits:
            entries = records.encode(records.Footer(self._footer.written_at(offset)))
            self._commit([entries], frame.OVERHEAD_OCTETS + entries.octets())
            self._disk.truncate(self._fd, self.segments[self._current])
            self._disk.sync_data(self._fd)
            point(Point.SEGMENT_AFTER_FOOTER)  # a full segment, and none behind it yet
        fd, self._fd = self._fd, -1
        os.close(fd)

    # -- the spare segment --------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Octets that can be written without asking the disk for blocks."""
        left = self.segment_octets - self.segments.get(self._current, 0) - self._footer.octets
        return max(0, left) + (self.segment_octets if self.has_spare else 0)

    @property
    def has_spare(self) -> bool:
        return os.path.exists(os.path.join(self.path, SPARE))

    def make_spare(self) -> bool:
        """Sees to it that there is a spare segment; False when the disk has no room for one."""
        path = os.path.join(self.path, SPARE)
        if os.path.exists(path):
            return True
        self.recheck()
        with contextlib.suppress(FileNotFoundError):  # of an owner that died while making it
            self._disk.unlink(path + ".draft")
        try:
            self._make_spare(path)
        except FileNotFoundError as error:
            raise LostLog(f"{self.name} was renamed by another owner") from error
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return False
        point(Point.SPARE_AFTER_CREATE)  # a file that is no segment yet
        return True

    def _make_spare(self, path: str) -> None:
        fd = self._disk.create(path + ".draft")
        try:
            self._disk.preallocate(fd, self.segment_octets)
            self._disk.sync_file(fd)
        except OSError:
            self._disk.unlink(path + ".draft")
            raise
        finally:
            os.close(fd)
        self._disk.rename(path + ".draft", path)
        self._disk.sync_directory(self.path)

    def _take_spare(self, path: str, octets: int) -> int | None:
        """The spare under its name as a segment; None when there is none that is large enough."""
        spare = os.path.join(self.path, SPARE)
        try:
            found = os.lstat(spare)
            if not stat.S_ISREG(found.st_mode) or found.st_size < max(octets, self.segment_octets):
                return None
            self._disk.rename(spare, path)
        except FileNotFoundError:
            return None  # or the log was taken: then the next call finds out
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

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
        body = self.read_raw(at.segment, at.body)
        if zlib.crc32(body) != crc:
            raise DamagedBody(f"{self.name.log}/{at.segment} at {at.body.offset}")
        return body

    def said(self, at: Position) -> records.Said:
        """What the record there says, without its body; DamagedBody when it cannot be read."""
        start = at.fields.offset - frame.RECORD_OCTETS
        octets = self.read_raw(at.segment, frame.Span(start, frame.RECORD_OCTETS + at.fields.octets))
        try:
            return records.decode(frame.Record(octets[0], octets[frame.RECORD_OCTETS :]))
        except records.UnknownRecord as error:
            raise DamagedBody(f"{self.name.log}/{at.segment} at {start}: {error}") from error

    def read_raw(self, segment: SegmentName, span: frame.Span) -> bytes:
        """Octets of a segment as they are; DamagedBody when the disk does not give them all."""
        try:
            if segment not in self._readers:
                path = os.path.join(self.path, str(segment))
                self._readers[segment] = os.open(path, _FLAGS)
            octets = os.pread(self._readers[segment], span.octets, span.offset)
        except OSError as error:
            raise DamagedBody(f"{self.name.log}/{segment}: {error.strerror}") from error
        if len(octets) != span.octets:
            raise DamagedBody(f"{self.name.log}/{segment} ends before {span.offset + span.octets}")
        return octets

    def read_large(self, name: str) -> bytes:
        """A body from large/; DamagedBody when it is not the one that its name promises."""
        try:
            with open(os.open(os.path.join(self.path, "large", name), _FLAGS), "rb") as file:
                body = file.read() or b""
        except OSError as error:
            raise DamagedBody(f"{self.name.log}/large/{name}: {error.strerror}") from error
        if hashlib.sha256(body).hexdigest() != name.rpartition("-")[2]:
            raise DamagedBody(f"{self.name.log}/large/{name}")
        return body

    def large_names(self) -> list[str]:
        """Every file of ours in large/, also one that was being written when its owner died."""
        with os.scandir(os.path.join(self.path, "large")) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        return list(filter(is_large_name, files))

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
