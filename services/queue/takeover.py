"""How a log gets its owner: claim, rename, sync, scan, seal; at a restart and for a dead neighbour's log alike.

Only after the seal is durable and re-checked may the owner act. A crash anywhere in here changes nothing that counts:
the next taker does the same again. What an earlier owner writes later stands beyond the seal and counts for nothing.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from runtime.durable import Disk
from runtime.events import Events
from runtime.faults import Point, point
from services.queue import frame, records
from services.queue.log import SEGMENT_OCTETS, Log
from services.queue.names import LogName, Position, SegmentName, parse_segment_name
from services.queue.spool import Spool

Learn = Callable[[records.Said, Position], None]


@dataclass(slots=True)
class Taken:
    """A log that is ours now. `clean`: its last owner ended in order, so nothing was under way.
    `lock` is held when it came with the log.
    """

    log: Log
    clean: bool
    torn: int
    lock: int | None = None


@dataclass(slots=True)
class _Scan:
    """What the segments of earlier owners hold."""

    lengths: dict[SegmentName, int]
    last: frame.Found | None = None
    torn: int = 0
    sequence: int = 0


class Taker:
    """Takes logs for one owner."""

    def __init__(
        self, spool: Spool, disk: Disk, owner: str, events: Events, segment_octets: int = SEGMENT_OCTETS
    ) -> None:
        self._spool = spool
        self._disk = disk
        self._owner = owner
        self._events = events
        self._segment_octets = segment_octets

    def create(self, log_id: str, token_hint: int) -> Taken:
        """A new log, sealed at its birth like every other."""
        name = LogName(log_id, self._spool.claim_token(token_hint), self._owner)
        path, lock = self._spool.create_log(name)
        log = Log(name, path, self._disk, self._segment_octets)
        log.append([records.Seal({})])
        return Taken(log, clean=True, torn=0, lock=lock)

    def take(self, old: LogName, token_hint: int, learn: Learn) -> Taken:
        """Makes the log ours and tells `learn` everything in it that counts, oldest first.

        Raises FileNotFoundError when another taker was quicker, LostLog when one was quicker later.
        """
        token = self._spool.claim_token(token_hint)
        point(Point.TAKEOVER_AFTER_TOKEN)  # a token is spent; nothing else happened
        name = LogName(old.log, token, self._owner)
        path = self._spool.rename_log(old, name)
        point(Point.TAKEOVER_AFTER_RENAME)  # the log is ours by name; nothing of it was read
        segments = self._sync(path)
        scan = self._scan(name, path, segments, learn)
        point(Point.TAKEOVER_AFTER_SCAN)
        log = Log(name, path, self._disk, self._segment_octets, scan.sequence + 1)
        log.segments = {segment: length for segment, length in scan.lengths.items() if length}
        clean = self._seal(log, scan, learn)
        point(Point.TAKEOVER_AFTER_SEAL)  # from here on the owner may act
        log.remove_empty([segment for segment, length in scan.lengths.items() if not length])
        return Taken(log, clean, scan.torn)

    def _sync(self, path: str) -> list[SegmentName]:
        """Every segment of earlier owners, oldest first, synced: what can be read may never have been."""
        names = sorted(name for entry in os.listdir(path) if (name := parse_segment_name(entry)))
        for name in names:
            fd = os.open(os.path.join(path, str(name)), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._disk.sync_data(fd)
            except OSError as error:
                # What the failed sync left in the cache is copied forward below, and synced there or not at all.
                self._events.alert(f"segment {name} of {path} does not sync: {error.strerror}")
            finally:
                os.close(fd)
        return names

    def _scan(self, name: LogName, path: str, segments: list[SegmentName], learn: Learn) -> _Scan:
        """Fixes every segment's length and learns what stands before it, but for the last frame of the last owner."""
        octets = _Segments(name, path)
        seal_token, seal = _seal_in_force(octets, segments)
        scan = _Scan({})
        pending: tuple[SegmentName, frame.Found] | None = None
        for segment in segments:
            limit = seal.get(str(segment), 0) if segment.token < seal_token else None
            end = 0
            for found in self._frames(octets, segment, limit, scan):
                if pending:
                    _teach(learn, *pending)
                pending = (segment, found)
                scan.sequence = max(scan.sequence, found.sequence)
                end = found.end
            scan.lengths[segment] = end
        if pending:
            # The sync of this frame may never have returned. It is copied into our own first frame and counts there.
            segment, found = pending
            scan.last = octets.whole(segment, found)
            scan.lengths[segment] = found.start
        return scan

    def _frames(self, octets: "_Segments", segment: SegmentName, limit: int | None, scan: _Scan) -> "list[frame.Found]":
        """The whole frames of a segment, up to its sealed length; a torn tail or damage is set aside and reported."""
        data = octets.read(segment)
        if limit is not None:
            data = data[:limit]
        found_frames: list[frame.Found] = []
        offset = 0
        while True:
            found = frame.decode(data, octets.place(segment, offset), with_bodies=False)
            if found:
                found_frames.append(found)
                offset = found.end
                continue
            rest = bytes(data[offset:]).rstrip(b"\0")
            if not rest:
                return found_frames
            label = f"{octets.log}-{segment}-{offset}"
            resume = frame.next_whole(data, octets.place(segment, offset))
            if resume is None:
                scan.torn += len(rest)
                self._spool.set_aside(f"{label}.torn", rest)
                return found_frames
            where = self._spool.set_aside(f"{label}.damaged", bytes(data[offset:resume]))
            self._events.alert(f"damage in {octets.log}/{segment} from {offset} to {resume}: copied to {where}")
            offset = resume

    def _seal(self, log: Log, scan: _Scan, learn: Learn) -> bool:
        """Writes the seal and, in the same frame, what the last owner's last frame said."""
        lengths = {str(segment): length for segment, length in scan.lengths.items()}
        copied: list[records.Said] = []
        clean = scan.last is None
        for record in scan.last.records if scan.last else ():
            said = records.decode(record)
            if isinstance(said, records.Released):
                clean = True
            elif not isinstance(said, records.Seal):
                copied.append(said)
        positions = log.append([records.Seal(lengths), *copied])
        for said, position in zip(copied, positions[1:], strict=True):
            learn(said, position)
        return clean


class _Segments:
    """The segments of one log, read whole, one at a time."""

    def __init__(self, name: LogName, path: str) -> None:
        self.log = name.log
        self._path = path
        self._latest: tuple[SegmentName, memoryview] | None = None

    def read(self, segment: SegmentName) -> memoryview:
        if self._latest and self._latest[0] == segment:
            return self._latest[1]
        fd = os.open(os.path.join(self._path, str(segment)), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            data = memoryview(file.read(_written_octets(fd)))
        self._latest = (segment, data)
        return data

    def place(self, segment: SegmentName, offset: int) -> frame.Place:
        return frame.Place(int(self.log, 16), segment.token, segment.number, offset)

    def whole(self, segment: SegmentName, found: frame.Found) -> frame.Found:
        """The same frame with the bodies of its records."""
        again = frame.decode(self.read(segment), self.place(segment, found.start))
        assert again is not None, "a frame that was whole is whole"
        return again


def _written_octets(fd: int) -> int:
    """Where the last octet that was ever written may stand: what is only preallocated behind it is not read."""
    end = 0
    with contextlib.suppress(OSError):  # ENXIO: no data behind this
        while True:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
    os.lseek(fd, 0, os.SEEK_SET)
    return end


def _seal_in_force(octets: _Segments, segments: list[SegmentName]) -> tuple[int, dict[str, int]]:
    """The token and the lengths of the highest whole seal; (0, {}) when there is none."""
    for segment in sorted(segments, key=lambda name: (-name.token, name.number)):
        if segment.number != 1:
            continue
        first = frame.decode(octets.read(segment), octets.place(segment, 0), with_bodies=False)
        if first:
            seal = records.decode(first.records[0])
            if isinstance(seal, records.Seal):
                return segment.token, seal.lengths
    return 0, {}


def _teach(learn: Learn, segment: SegmentName, found: frame.Found) -> None:
    for record, body in zip(found.records, found.bodies, strict=True):
        said = records.decode(record)
        if not isinstance(said, records.Seal | records.Released):
            learn(said, Position(segment, body))
