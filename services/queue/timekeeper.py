"""The times of this replica's logs: where a log's time comes from, where it is recorded, when somebody set the clock.

The rim of timeline.py, which decides. Each log has its record in the file `clock`, replaced whole every
RECORD_EVERY_MS: a reading of the machine's clocks and the log's time at it. Nothing hangs on how old a record is while
the machine runs, so a disk that is too full to write one costs nothing.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass, field

from runtime.clock import Clock, boot_id
from runtime.durable import Disk
from runtime.events import Events
from services.queue import timeline
from services.queue.timeline import Reading, Timeline

RECORD = "clock"


@dataclass(frozen=True, slots=True)
class LogTime:
    """The time of one log. All of what its records call milliseconds are of this time, or of the wall when it began."""

    timeline: Timeline
    clock: Clock

    def now_ms(self) -> int:
        return self.timeline.now_ms(self.clock.boot_ms())

    def ahead_ms(self) -> int:
        """By how much `Clock.steady_ms` of this process, by which errands of all logs wait together, is ahead of this
        time. It stays what it is as long as the process lives.
        """
        return self.clock.steady_ms() - self.now_ms()

    def wall_ms(self, time_ms: int) -> int:
        """The same instant by the wall clock as it stands now: to be shown to a person."""
        return self.clock.wall_ms() + time_ms - self.now_ms()

    def date_s(self, time_ms: int) -> int:
        """The same for a header: unix seconds."""
        return self.wall_ms(time_ms) // 1_000


def unrecorded(clock: Clock) -> LogTime:
    """The wall's time, from now on as steady as every other."""
    return LogTime(timeline.begin(Reading(clock.wall_ms(), clock.boot_ms(), "")), clock)


@dataclass(slots=True)
class Timekeeper:
    """Keeps the times of the logs that this replica owns; `ids_kept_ms` is for how long an id is remembered."""

    clock: Clock
    disk: Disk
    events: Events
    ids_kept_ms: int
    boot: str = field(default_factory=boot_id)
    _last: Reading | None = None
    _recorded_ms: int = 0
    _forget_from_ms: int = 0

    def begin(self, path: str) -> LogTime:
        """The time of a new log in this directory, recorded."""
        return self._recorded(path, timeline.begin(self._reading()))

    def resume(self, log: str, path: str) -> LogTime:
        """The time of a log that is ours now, recorded. What nobody can confirm is an event."""
        reading = self._reading()
        self._sweep(path)
        last = _read(os.path.join(path, RECORD))
        resumed = timeline.resume(last, reading, int(self.clock.scaled(timeline.GRACE_S) * 1_000))
        if last is None:
            self.events.warning(f"log {log} has no readable record of its time: nothing in it expires for a day")
        elif resumed.gaps != last.gaps:
            self.events.clock_gap(log, resumed.gaps[-1].lost_ms / 1_000)
        if last is None or reading.boot != last.reading.boot or timeline.stepped_ms(last.reading, reading):
            self._keep_ids(reading)
        return self._recorded(path, resumed)

    async def beat(self, times: dict[str, LogTime]) -> None:
        """Called each second with the time of each of our logs, by its directory: looks at the clock, and records."""
        reading = self._reading()
        step_ms = timeline.stepped_ms(self._last, reading) if self._last else 0
        self._last = reading
        if step_ms:
            self._keep_ids(reading)
            self.events.clock_stepped(step_ms / 1_000)
        if reading.boot_ms - self._recorded_ms >= timeline.RECORD_EVERY_MS:
            self._recorded_ms = reading.boot_ms
            records = {path: time.timeline.at(reading) for path, time in times.items()}
            await asyncio.get_running_loop().run_in_executor(None, self._record, records)

    def may_forget(self) -> bool:
        """Whether ids may be forgotten by the wall clock: not while one that is still asked for may look old by it."""
        return self.clock.boot_ms() >= self._forget_from_ms

    def _keep_ids(self, reading: Reading) -> None:
        self._forget_from_ms = reading.boot_ms + self.ids_kept_ms

    def _reading(self) -> Reading:
        return Reading(self.clock.wall_ms(), self.clock.boot_ms(), self.boot)

    def _recorded(self, path: str, line: Timeline) -> LogTime:
        self._record({path: line})
        return LogTime(line, self.clock)

    def _record(self, lines: dict[str, Timeline]) -> None:
        for path, line in lines.items():
            # A full disk, or a log that was taken: the record before this one says the same. A disk that fails is
            # found by the next commit.
            with contextlib.suppress(OSError):
                self.disk.replace_file(os.path.join(path, RECORD), timeline.write(line))

    def _sweep(self, path: str) -> None:
        """What a process that was killed while it wrote a record has left."""
        for name in os.listdir(path):
            if name.startswith(f"{RECORD}.") and name.endswith(".draft"):
                with contextlib.suppress(FileNotFoundError):
                    self.disk.unlink(os.path.join(path, name))


def _read(path: str) -> Timeline | None:
    """What the record says; None for anything else that may stand in its place."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return timeline.read(os.read(fd, timeline.RECORD_MAX_OCTETS))
    except OSError:
        return None
    finally:
        os.close(fd)
