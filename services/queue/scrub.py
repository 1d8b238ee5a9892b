"""The scrub: everything that a log holds is read again from the disk and checked, so that damage is found while
somebody can still mend it, and not at the delivery of the message.

Reads each frame of each segment as far as it counts, and each large body, in slices off the event loop, at a bounded
rate. Damage is copied aside and reported once; nothing is changed: what is damaged stays queued and is not delivered.
"""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from prometheus_client import Counter

from mail.ids import MessageId
from runtime.clock import Chance, Clock
from runtime.events import Events
from services.queue import frame
from services.queue.commit import Commits
from services.queue.frame import Place
from services.queue.index import Index
from services.queue.ledger import Ledger
from services.queue.log import Log, LostLog
from services.queue.names import SegmentName
from services.queue.spool import Spool

# A disk's silent damage is found within a day (fewer reads find it late, more wear the disk that others wait for).
EVERY_S = 86_400

# However small TIME_SCALE is: between two scrubs there is a pause.
EVERY_MIN_S = 2.0

# The first scrub comes within an hour of the start, at a moment that chance chooses: replicas that start together do
# not read together, and one that is restarted every night is scrubbed all the same.
FIRST_WITHIN_S = 3_600

# A slow disk gives a hundred MiB a second; a tenth of it is nobody's loss. A million messages of 4 KiB take 7 minutes.
OCTETS_A_SECOND = 10 * 1024 * 1024

# Read at once: short enough for an executor's thread, long enough for the disk.
SLICE_OCTETS = 1024 * 1024

# Of the messages concerned by one stretch of damage so many are named; their number is always said.
NAMED_MAX = 100

# Stretches of one file that are told apart; a file that is damaged all over is one more.
STRETCHES_MAX = 16

# The most damage that is remembered as told. Beyond it, everything is told again.
TOLD_MAX = 10_000

# Of one stretch so much is copied aside: enough to see what it was.
QUARANTINED_MAX_OCTETS = 1024 * 1024

# A segment that does not read in one go is read in such pieces: those that the disk refuses count as zeros.
_PIECE_OCTETS = 4_096

# How many messages are looked at before others have a turn.
_LOOKED_AT_ONCE = 256

_END = object()

# A pipe in the place of a file is not waited for.
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_read_octets = Counter("seapost_scrub_octets", "Octets that scrubs have read and checked")
_damaged = Counter("seapost_scrub_damage", "Stretches of damage that scrubs have found")


@dataclass(frozen=True, slots=True)
class Damage:
    """Octets of a file from `start` to `end` that are not what was written."""

    file: str
    start: int
    end: int


@dataclass(slots=True)
class Count:
    """What a scrub of one log has seen."""

    files: int = 0
    octets: int = 0
    damaged: int = 0


@dataclass(slots=True)
class _Reading:
    """One file while it is read, and what was found in it."""

    file: str
    path: str
    octets: int = 0
    damage: list[Damage] = field(default_factory=list)


class Scrub:
    """Reads the logs of one replica again and again; `keep` is called as a task."""

    def __init__(self, spool: Spool, events: Events, clock: Clock, chance: Chance) -> None:
        self.octets_a_second = OCTETS_A_SECOND
        self._spool = spool
        self._events = events
        self._clock = clock
        self._chance = chance
        self._told: set[tuple[str, Damage]] = set()

    async def keep(self, ledgers: dict[str, Ledger]) -> None:
        """Scrubs every log of ours once a day until cancelled."""
        first = self._clock.scaled(FIRST_WITHIN_S) * self._chance.octets(1)[0] / 256
        await asyncio.sleep(max(EVERY_MIN_S, first))
        while True:
            for log in list(ledgers):
                if ledger := ledgers.get(log):
                    await self.scrub(ledger.log, ledger.index, partial(_removals, ledger.commits))
            await asyncio.sleep(max(EVERY_MIN_S, self._clock.scaled(EVERY_S)))

    async def scrub(self, log: Log, index: Index, removals: Callable[[], Awaitable[None]] | None = None) -> Count:
        """Reads everything of one log that counts now, and says what was seen; new damage is an alert. `removals` waits
        until the removal of a file that is under way is over.
        """
        count = Count()
        began = self._clock.monotonic()
        for segment, length in list(log.segments.items()):
            reading = _Reading(str(segment), os.path.join(log.path, str(segment)))
            place = frame.Place(int(log.name.log, 16), segment.token, segment.number, 0)
            await self._read(_frames(reading, place, length), reading, count, began)
            if reading.damage and removals:
                await removals()
            if reading.damage and not _is_ours(log):
                return count
            if segment in log.segments:  # not one that was reclaimed while it was read
                for damage in self._news(log.name.log, reading, count):
                    self._tell(log.name.log, reading, damage, _standing_in(index, segment, damage))
        for name in list(index.large_users):
            reading = _Reading(f"large/{name}", os.path.join(log.path, "large", name))
            await self._read(_large(reading, name), reading, count, began)
            if reading.damage and not _is_ours(log):
                return count
            if index.large_users.get(name):
                for damage in self._news(log.name.log, reading, count):
                    self._tell(log.name.log, reading, damage, await _made_of(index, name))
        _read_octets.inc(count.octets)
        self._events.scrubbed(log.name.log, count.files, count.octets, count.damaged)
        return count

    async def _read(self, steps: Iterator[None], reading: _Reading, count: Count, began: float) -> None:
        """Reads a file to its end, a slice at a time, no faster than the rate allows."""
        loop = asyncio.get_running_loop()
        before = 0
        while await loop.run_in_executor(None, next, steps, _END) is not _END:
            count.octets += reading.octets - before
            before = reading.octets
            ahead_s = count.octets / self.octets_a_second - (self._clock.monotonic() - began)
            await asyncio.sleep(max(0.0, ahead_s))
        count.octets += reading.octets - before
        count.files += 1

    def _news(self, log: str, reading: _Reading, count: Count) -> Iterator[Damage]:
        """The damage of a file that was not told before."""
        for damage in reading.damage:
            count.damaged += 1
            if (log, damage) not in self._told:
                if len(self._told) >= TOLD_MAX:
                    self._told.clear()
                self._told.add((log, damage))
                yield damage

    def _tell(self, log: str, reading: _Reading, damage: Damage, messages: list[MessageId]) -> None:
        label = f"{log}-{damage.file.replace('/', '-')}-{damage.start}.scrubbed"
        end = min(damage.end, damage.start + QUARANTINED_MAX_OCTETS)
        copy = self._spool.set_aside(label, _octets(reading.path, damage.start, end))
        named = messages[:NAMED_MAX]
        shown = " ".join(named) or "none that is queued"
        _damaged.inc()
        self._events.alert(
            f"damage in {log}/{damage.file} from {damage.start} to {damage.end}, copied to {copy}; "
            f"messages concerned: {len(messages)}: {shown}",
            log=log,
            file=damage.file,
            offset=damage.start,
            messages=named,
        )


async def _removals(commits: Commits) -> None:
    """A segment is removed in the thread that writes, and counts until it is gone from the disk."""
    with contextlib.suppress(RuntimeError):  # the log is being closed
        await commits.in_order(lambda: None)


def _is_ours(log: Log) -> bool:
    """Whether files that are missing are missing: those of a log that was taken, or removed, stand elsewhere."""
    try:
        log.recheck()
    except LostLog:
        return False
    return True


def _standing_in(index: Index, segment: SegmentName, damage: Damage) -> list[MessageId]:
    """The messages whose record lies in a damaged stretch of a segment, or reaches into it."""
    found = []
    for message in index.told_in(segment).living:
        known = index.look_at(message)
        if known is None or known.position.segment != segment:
            continue
        start, end = known.position.fields.offset, known.position.body.offset + known.position.body_octets
        if start < damage.end and end > damage.start:
            found.append(message)
    return found


async def _made_of(index: Index, large: str) -> list[MessageId]:
    """The messages that share a file of large/: one, and its forwards."""
    found = []
    for number, message in enumerate(index.ids()):
        known = index.look_at(message)
        if known and known.large == large:
            found.append(message)
        if number % _LOOKED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


# -- reading: in a thread, a slice between two steps ------------------------------------------------------------------


def _frames(reading: _Reading, place: Place, length: int) -> Iterator[None]:
    """Checks every frame of a segment up to its length."""
    fd = _open(reading, length)
    if fd is None:
        return
    try:
        since = 0
        while place.offset < length:
            if len(reading.damage) >= STRETCHES_MAX:
                reading.damage.append(Damage(reading.file, place.offset, length))
                return
            end = _frame_end(fd, place, length)
            if end is None:
                end = _resume(fd, place, length)
                reading.damage.append(Damage(reading.file, place.offset, end))
            reading.octets += end - place.offset
            since += end - place.offset
            place = place._replace(offset=end)
            if since >= SLICE_OCTETS:
                since = 0
                yield
    finally:
        os.close(fd)


def _frame_end(fd: int, place: Place, length: int) -> int | None:
    """Where the frame at a place ends; None when there is no whole one before `length`."""
    try:
        octets = frame.octets_of(os.pread(fd, frame.HEADER_OCTETS, place.offset))
        if not octets or place.offset + octets > length:
            return None
        data = os.pread(fd, octets, place.offset)
    except OSError:
        return None
    found = frame.decode(memoryview(data), place, with_bodies=False, base=place.offset)
    return found.end if found else None


def _resume(fd: int, place: Place, length: int) -> int:
    """Where the next whole frame begins behind damage; the end of what counts when there is none."""
    data = memoryview(b"".join(_piece(fd, at, min(at + _PIECE_OCTETS, length)) for at in _pieces(0, length)))
    return frame.next_whole(data, place) or length


def _large(reading: _Reading, name: str) -> Iterator[None]:
    """Checks a file of large/ by the hash in its name."""
    fd = _open(reading, 0)
    if fd is None:
        return
    digest = hashlib.sha256()
    try:
        while octets := os.pread(fd, SLICE_OCTETS, reading.octets):
            digest.update(octets)
            reading.octets += len(octets)
            yield
        whole = digest.hexdigest() == name.rpartition("-")[2]
    except OSError:
        whole = False
    finally:
        size = os.fstat(fd).st_size
        os.close(fd)
    if not whole:
        reading.damage.append(Damage(reading.file, 0, size))


def _open(reading: _Reading, length: int) -> int | None:
    """The file, out of the page cache as far as it is on the disk: what is checked is the disk. None when it does not
    open, which is damage unless it was removed rightly."""
    try:
        fd = os.open(reading.path, _FLAGS)
    except OSError:
        reading.damage.append(Damage(reading.file, 0, length))
        return None
    with contextlib.suppress(OSError):  # a hint: without it the page cache is checked
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return fd


def _octets(path: str, start: int, end: int) -> bytes:
    """Octets of a damaged file; those that the disk refuses are zeros."""
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return b""
    try:
        return b"".join(_piece(fd, at, min(at + _PIECE_OCTETS, end)) for at in _pieces(start, end))
    finally:
        os.close(fd)


def _pieces(start: int, end: int) -> range:
    return range(start, end, _PIECE_OCTETS)


def _piece(fd: int, start: int, end: int) -> bytes:
    try:
        return os.pread(fd, end - start, start).ljust(end - start, b"\0")
    except OSError:
        return bytes(end - start)
