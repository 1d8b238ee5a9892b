"""The time of a log: when its messages came, when they are due, how old they are, whatever the wall clock does. Pure.

A log's time follows CLOCK_BOOTTIME, which nobody can set, and so goes on exactly over restarts within one boot. Over a
reboot, or on another machine, only the wall clock tells how long the gap was. Then the time goes on by the wall, never
back; what the wall ran ahead by more than CLOCKS_DIFFER_MS is a gap that nothing confirms: it makes things due, but no
message older. Knows no file and no clock; services/queue/timekeeper.py reads and writes.
"""

import re
from dataclasses import dataclass, replace

MINUTE_MS = 60_000

# How often the record is written, and so the most that is between the last record and the end of an owner.
RECORD_EVERY_MS = 30_000

# By so much two machines' clocks, or the last record and the end of the process that wrote it, may lie apart without
# anybody having set a clock. Time within it counts like time that was seen to pass.
CLOCKS_DIFFER_MS = MINUTE_MS
assert CLOCKS_DIFFER_MS >= RECORD_EVERY_MS + 15_000, "a takeover on another machine makes no gap of its own"

# An unconfirmed gap makes the time go on by this at most. It is longer than the longest wait of qmail's curve (8.75 h
# at seven days, 23.5 h at fifty), so everything that waited is due; and ten years of a wrong clock leave no trace.
GAP_MAX_MS = 24 * 60 * MINUTE_MS

# Without a record nothing is known of the time before: nothing expires for a day, in which somebody sees the warning.
GRACE_S = 86_400

# The gaps that are kept apart. Two that fall together count as the later one: messages between them are taken for
# younger than they are, none for older.
GAPS_MAX = 32

# A step of the wall clock within a second or so; chrony and ntpd slew whatever is smaller.
STEP_MS = 1_000

# What is no time at all: ten thousand years. A record with such a number is not believed.
_DIGITS_MAX = 15

_RECORD = re.compile(r"seapost clock (\d{1,6})\n")
_BOOT = re.compile(r"boot ([0-9a-f]{32})\Z")
_NUMBER = re.compile(rf"(boottime|wall|time|doubt) (\d{{1,{_DIGITS_MAX}}})\Z")
_GAP = re.compile(rf"gap (\d{{1,{_DIGITS_MAX}}}) (\d{{1,{_DIGITS_MAX}}})\Z")
VERSION = 1
RECORD_MAX_OCTETS = 4_096


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks of a machine say: its wall, the time since its boot, and which boot that was."""

    wall_ms: int
    boot_ms: int
    boot: str


@dataclass(frozen=True, slots=True)
class Gap:
    """At `at_ms` the time went on by `lost_ms` of which nobody knows that they passed."""

    at_ms: int
    lost_ms: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """The time of one log, fixed to a reading of the clocks: `time_ms` was then."""

    reading: Reading
    time_ms: int
    gaps: tuple[Gap, ...] = ()
    doubt_until_ms: int = 0

    def now_ms(self, boot_ms: int) -> int:
        """The log's time at a CLOCK_BOOTTIME of the machine that took the reading."""
        return self.time_ms + max(0, boot_ms - self.reading.boot_ms)

    def age_ms(self, since_ms: int, now_ms: int) -> int:
        """How much time is known to have passed since an instant of this log; never negative."""
        return max(0, now_ms - since_ms - sum(gap.lost_ms for gap in self.gaps if gap.at_ms > since_ms))

    def born_ms(self, arrived_ms: int, now_ms: int) -> int:
        """The birth of a message as the retry curve and the lifetime take it: so long ago as it is old."""
        return now_ms - self.age_ms(arrived_ms, now_ms)

    def may_expire(self, now_ms: int) -> bool:
        """Whether ages are believed: not for GRACE_S after a start that found no record."""
        return now_ms >= self.doubt_until_ms

    def at(self, reading: Reading) -> "Timeline":
        """The same time, fixed to a later reading of the same machine: what is recorded."""
        return replace(self, reading=reading, time_ms=self.now_ms(reading.boot_ms))


def begin(reading: Reading) -> Timeline:
    """The time of a new log: the wall's."""
    return Timeline(reading, reading.wall_ms)


def resume(last: Timeline | None, reading: Reading, grace_ms: int) -> Timeline:
    """The time of a log that had an owner before; `last` is its record, None when it cannot be read."""
    if last is None:
        return Timeline(reading, reading.wall_ms, doubt_until_ms=reading.wall_ms + grace_ms)
    # A boottime that went back within one boot is another time namespace's (time_namespaces(7)): another machine to us.
    if reading.boot == last.reading.boot and reading.boot_ms >= last.reading.boot_ms:
        return last.at(reading)
    ran_ms = max(0, reading.wall_ms - last.reading.wall_ms)
    lost_ms = min(max(0, ran_ms - CLOCKS_DIFFER_MS), GAP_MAX_MS)
    time_ms = last.time_ms + min(ran_ms, CLOCKS_DIFFER_MS) + lost_ms
    gaps = (*last.gaps, Gap(time_ms, lost_ms)) if lost_ms else last.gaps
    return Timeline(reading, time_ms, _few(gaps), last.doubt_until_ms)


def _few(gaps: tuple[Gap, ...]) -> tuple[Gap, ...]:
    """At most GAPS_MAX gaps: the two oldest fall together, at the later of their instants, so that no age grows."""
    if len(gaps) <= GAPS_MAX:
        return gaps
    first, second, *others = gaps
    return (Gap(second.at_ms, first.lost_ms + second.lost_ms), *others)


def stepped_ms(before: Reading, after: Reading) -> int:
    """By how much the wall clock was set between two readings of one machine; 0 for what slewing can do."""
    step = (after.wall_ms - before.wall_ms) - (after.boot_ms - before.boot_ms)
    slewed = STEP_MS + (after.boot_ms - before.boot_ms) // 20  # 5 %: no daemon slews faster
    return step if abs(step) >= slewed else 0


def write(timeline: Timeline) -> bytes:
    """The record as it stands in the file `clock` of a log."""
    lines = [
        f"seapost clock {VERSION}",
        f"boot {timeline.reading.boot}",
        f"boottime {timeline.reading.boot_ms}",
        f"wall {timeline.reading.wall_ms}",
        f"time {timeline.time_ms}",
        f"doubt {timeline.doubt_until_ms}",
        *(f"gap {gap.at_ms} {gap.lost_ms}" for gap in timeline.gaps),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def read(octets: bytes) -> Timeline | None:
    """What a record says; None when it says too little. Lines that this version does not know are passed over."""
    text = octets[:RECORD_MAX_OCTETS].decode("ascii", "replace")
    if not _RECORD.match(text):
        return None
    boot = ""
    numbers: dict[str, int] = {}
    gaps: list[Gap] = []
    for line in text.splitlines()[1:]:
        if found := _BOOT.match(line):
            boot = found[1]
        elif found := _NUMBER.match(line):
            numbers[found[1]] = int(found[2])
        elif found := _GAP.match(line):
            gaps.append(Gap(int(found[1]), int(found[2])))
    if not boot or not {"boottime", "wall", "time"} <= numbers.keys():
        return None
    reading = Reading(numbers["wall"], numbers["boottime"], boot)
    return Timeline(reading, numbers["time"], tuple(gaps[-GAPS_MAX:]), numbers.get("doubt", 0))
