"""Reading a log that somebody else wrote: which of its frames count, where each segment ends, what they say.

A full segment is read by its footer alone; the bodies are checked when they are delivered, and by the scrub. Every
other one is read whole. What does not count is set aside and reported: a torn tail, or damage, which is everything
else that should be a frame and is none.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from runtime.events import Events
from services.queue import footer, frame, records
from services.queue.frame import Found, Record, Span
from services.queue.names import LogName, Position, SegmentName
from services.queue.spool import Spool

Learn = Callable[[records.Said, Position], None]

# A segment that does not read in one go is read in such pieces: those that the disk refuses count as zeros.
_PIECE_OCTETS = 4_096


@dataclass(slots=True)
class Scan:
    """What the segments of earlier owners hold. `last` is the last frame of the last owner, with its bodies: whether
    its sync returned is not known. `clean`: that owner ended in order, or never wrote.
    """

    lengths: dict[SegmentName, int] = field(default_factory=dict)
    last: Found | None = None
    clean: bool = True
    torn: int = 0
    sequence: int = 0


class Scanner:
    """Scans the segments of one log, oldest first, and tells `learn` everything that counts."""

    def __init__(self, name: LogName, path: str, spool: Spool, events: Events) -> None:
        self._segments = _Segments(name, path, events)
        self._spool = spool
        self._events = events
        self._log = name.log

    def run(self, segments: list[SegmentName], learn: Learn) -> Scan:
        seal_token, seal = self._seal_in_force(segments)
        self._look_for_gaps(segments, seal)
        scan = Scan()
        pending: tuple[SegmentName, Found] | None = None
        for segment, following in itertools.zip_longest(segments, segments[1:]):
            limit = seal.get(str(segment), 0) if segment.token < seal_token else None
            found = self._segments.footer(segment, limit)
            if found:
                scan.lengths[segment] = found.end
                frames = iter((found,))
            else:
                scan.lengths[segment] = 0
                # A segment is begun when all before it is synced: only the last one that an owner wrote may be torn.
                may_be_torn = limit is None and (following is None or following.token != segment.token)
                frames = self._frames(segment, limit, scan, may_be_torn)
            for one in frames:
                if pending:
                    _teach(learn, *pending)
                pending = (segment, one)
                scan.sequence = max(scan.sequence, one.sequence)
                scan.lengths[segment] = one.end
        if pending:
            self._doubt(scan, learn, *pending)
        return scan

    def _look_for_gaps(self, segments: list[SegmentName], seal: dict[str, int]) -> None:
        """Segments are reclaimed from the oldest upwards: one that is missing behind one that is there is lost."""
        there = set(map(str, segments))
        missing = [name for name, length in sorted(seal.items()) if length and name not in there]
        gaps = [name for name in missing if segments and name > str(segments[0])]
        for one, following in itertools.pairwise(segments):
            wanted = one.number + 1 if one.token == following.token else 1
            if following.number != wanted:
                gaps.append(str(SegmentName(following.token, wanted)))
        for name in sorted(set(gaps)):
            self._events.alert(f"segment {self._log}/{name} is missing: what stood there is lost")

    def _doubt(self, scan: Scan, learn: Learn, segment: SegmentName, last: Found) -> None:
        """The sync of the last frame may never have returned. It counts only in the new owner's first frame; a footer
        only repeats what was synced before it, and is not needed."""
        scan.lengths[segment] = last.start
        scan.clean = last.records[-1].kind == records.RELEASED
        if last.records[0].kind == records.FOOTER:
            _teach(learn, segment, last)
        else:
            scan.last = self._segments.whole(segment, last)

    def _frames(self, segment: SegmentName, limit: int | None, scan: Scan, may_be_torn: bool) -> Iterator[Found]:
        """The whole frames of a segment, up to its sealed length; a torn tail or damage is set aside and reported."""
        if limit == 0:
            return
        data = self._segments.read(segment)[:limit]
        offset = 0
        while True:
            found = frame.decode(data, self._segments.place(segment, offset), with_bodies=False)
            if found:
                offset = found.end
                if found.records[0].kind != records.FOOTER:  # one that does not end the segment repeats what was read
                    yield found
                continue
            rest = bytes(data[offset:]).rstrip(b"\0")
            resume = frame.next_whole(data, self._segments.place(segment, offset)) if rest else None
            if resume is not None:
                self._damage(segment, offset, bytes(data[offset:resume]), resume)
                offset = resume
                continue
            if rest and may_be_torn:
                scan.torn += len(rest)
                self._spool.set_aside(f"{self._log}-{segment}-{offset}.torn", rest)
            elif rest or offset < (limit or 0):
                self._damage(segment, offset, rest, limit or offset + len(rest))
            return

    def _damage(self, segment: SegmentName, start: int, octets: bytes, end: int) -> None:
        where = self._spool.set_aside(f"{self._log}-{segment}-{start}.damaged", octets)
        self._events.alert(f"damage in {self._log}/{segment} from {start} to {end}: copied to {where}")

    def _seal_in_force(self, segments: list[SegmentName]) -> tuple[int, dict[str, int]]:
        """The token and the lengths of the highest whole seal; (0, {}) when there is none."""
        for segment in sorted((name for name in segments if name.number == 1), key=lambda name: -name.token):
            first = self._segments.frame_at(segment, 0)
            if first:
                seal = records.decode(first.records[0])
                if isinstance(seal, records.Seal):
                    return segment.token, seal.lengths
        return 0, {}


class _Segments:
    """The segments of one log; the one that was read whole last is kept."""

    def __init__(self, name: LogName, path: str, events: Events) -> None:
        self._log = int(name.log, 16)
        self._path = path
        self._events = events
        self._latest: tuple[SegmentName, memoryview] | None = None

    def read(self, segment: SegmentName) -> memoryview:
        if self._latest and self._latest[0] == segment:
            return self._latest[1]
        with self._open(segment) as fd:
            data = memoryview(self._read(segment, fd, _written_octets(fd)))
        self._latest = (segment, data)
        return data

    def footer(self, segment: SegmentName, limit: int | None) -> Found | None:
        """The footer, with its entries, of a segment that ends with one and counts to its end."""
        with self._open(segment) as fd:
            size = os.fstat(fd).st_size
            if size < footer.END_OCTETS or limit not in (None, size):
                return None
            try:
                offset = footer.offset_of(os.pread(fd, footer.END_OCTETS, size - footer.END_OCTETS))
            except OSError as error:
                _damage_or_raise(error)
                return None
        found = self.frame_at(segment, offset) if offset < size else None
        return found if found and found.end == size and found.records[0].kind == records.FOOTER else None

    def frame_at(self, segment: SegmentName, offset: int) -> Found | None:
        """The one frame that stands there, with the bodies of its records."""
        with self._open(segment) as fd:
            try:
                octets = frame.octets_of(os.pread(fd, frame.HEADER_OCTETS, offset))
                data = os.pread(fd, octets, offset) if octets else b""
            except OSError as error:
                _damage_or_raise(error)
                return frame.decode(self.read(segment), self.place(segment, offset))
        return frame.decode(memoryview(data), self.place(segment, offset), base=offset)

    def place(self, segment: SegmentName, offset: int) -> frame.Place:
        return frame.Place(self._log, segment.token, segment.number, offset)

    def whole(self, segment: SegmentName, found: Found) -> Found:
        """The same frame with the bodies of its records."""
        again = frame.decode(self.read(segment), self.place(segment, found.start))
        assert again is not None, "a frame that was whole is whole"
        return again

    @contextlib.contextmanager
    def _open(self, segment: SegmentName) -> Iterator[int]:
        fd = os.open(os.path.join(self._path, str(segment)), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def _read(self, segment: SegmentName, fd: int, octets: int) -> bytes:
        """Octets from the beginning; those that the disk refuses count as zeros. OSError when it refuses all of them:
        then it is the disk that is away, and what it holds is not to be judged."""
        why = "not to its end"  # what comes before a block that fails is given without an error
        try:
            data = os.pread(fd, octets, 0)
            if len(data) == octets:
                return data
        except OSError as error:
            _damage_or_raise(error)
            why = str(error.strerror)
        self._events.alert(f"segment {segment} of {self._path} does not read: {why}")
        places = range(0, octets, _PIECE_OCTETS)
        pieces = [_piece(fd, at, min(_PIECE_OCTETS, octets - at)) for at in places]
        if not any(pieces):
            raise OSError(errno.EIO, os.strerror(errno.EIO), f"{self._path}/{segment}")
        sizes = (min(_PIECE_OCTETS, octets - at) for at in places)
        return b"".join(piece.ljust(size, b"\0") for piece, size in zip(pieces, sizes, strict=True))


def _piece(fd: int, offset: int, octets: int) -> bytes:
    """b"" when the disk refuses it."""
    try:
        return os.pread(fd, octets, offset)
    except OSError as error:
        _damage_or_raise(error)
        return b""


def _damage_or_raise(error: OSError) -> None:
    """Only EIO says that what stands there is damaged; every other error may pass, and says nothing of the log."""
    if error.errno != errno.EIO:
        raise error


def _written_octets(fd: int) -> int:
    """Where the last octet that was ever written may stand: what is only preallocated behind it is not read."""
    end = 0
    try:
        while True:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no data behind this
            raise
    return end


def _teach(learn: Learn, segment: SegmentName, found: Found) -> None:
    """Tells what a frame says; of a footer, what the frames before it said."""
    if found.records[0].kind == records.FOOTER:
        told: Iterator[tuple[Record, Span, int]] = footer.entries(found.records[0].body)
    else:
        told = zip(found.records, found.fields, found.bodies, strict=True)
    for record, fields, body_octets in told:
        if record.kind not in (records.SEAL, records.RELEASED):
            learn(records.decode(record), Position(segment, fields, body_octets))
