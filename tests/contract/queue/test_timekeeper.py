"""The record of a log's time in its directory, through restarts of a process whose wall clock somebody sets."""

import json
import os
from pathlib import Path

import pytest

from runtime.clock import SystemClock, boot_id
from runtime.durable import Disk
from runtime.events import Events
from services.queue.timekeeper import RECORD, LogTime, Timekeeper
from services.queue.timeline import CLOCKS_DIFFER_MS, GRACE_S, RECORD_EVERY_MS

HOUR_MS = 3_600_000
TEN_YEARS_MS = 87_660 * HOUR_MS
IDS_KEPT_MS = 4_200_000
FIRST, SECOND = "a" * 32, "b" * 32


class SetClock(SystemClock):
    """Stands still until it is told how long to run and by how much somebody sets it."""

    def __init__(self, wall_ms: int = 1_700_000_000_000, boot_ms: int = 10_000) -> None:
        self.wall, self.boot = wall_ms, boot_ms
        super().__init__()

    def wall_ms(self) -> int:
        return self.wall

    def boot_ms(self) -> int:
        return self.boot

    def run(self, ms: int) -> None:
        self.wall += ms
        self.boot += ms


def keeper(clock: SystemClock, boot: str = FIRST, disk: Disk | None = None) -> Timekeeper:
    return Timekeeper(clock, disk or Disk(), Events("queue-0", clock, "json"), IDS_KEPT_MS, boot)


def may_expire(time: LogTime) -> bool:
    return time.timeline.may_expire(time.now_ms())


async def beat(kept: Timekeeper, clock: SetClock, times: dict[str, LogTime], ms: int) -> None:
    clock.run(ms)
    await kept.beat(times)


async def test_a_restart_within_a_boot_goes_on_exactly_though_the_clock_was_set(tmp_path: Path) -> None:
    clock = SetClock()
    time = keeper(clock).begin(str(tmp_path))
    arrived = time.now_ms()
    clock.run(HOUR_MS)
    clock.wall += TEN_YEARS_MS
    again = keeper(clock).resume("log", str(tmp_path))
    assert again.now_ms() == arrived + HOUR_MS
    assert again.timeline.born_ms(arrived, again.now_ms()) == arrived
    assert may_expire(again)


async def test_after_a_reboot_time_goes_on_from_the_last_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = SetClock()
    kept = keeper(clock)
    time = kept.begin(str(tmp_path))
    arrived = time.now_ms()
    for _ in range(10):
        await beat(kept, clock, {str(tmp_path): time}, RECORD_EVERY_MS)
    later = SetClock(clock.wall + TEN_YEARS_MS, 1_000)
    second = keeper(later, SECOND)
    resumed = second.resume("log", str(tmp_path))
    second.events.flush()
    assert resumed.timeline.age_ms(arrived, resumed.now_ms()) == 10 * RECORD_EVERY_MS + CLOCKS_DIFFER_MS
    [said] = [one for one in map(json.loads, capfd.readouterr().out.splitlines()) if one["event"] == "clock gap"]
    assert said["log"] == "log"


async def test_a_log_without_a_record_expires_nothing_for_a_day(tmp_path: Path) -> None:
    clock = SetClock()
    time = keeper(clock).resume("log", str(tmp_path))
    assert not may_expire(time)
    clock.run(GRACE_S * 1_000)
    assert may_expire(time)


@pytest.mark.parametrize("octets", [b"", b"\0" * 100, b"nonsense\n"])
async def test_a_record_that_does_not_read_is_none(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / RECORD).write_bytes(octets)
    clock = SetClock()
    assert not may_expire(keeper(clock).resume("log", str(tmp_path)))
    assert keeper(clock).resume("log", str(tmp_path)).now_ms() == clock.wall


@pytest.mark.parametrize("kind", ["directory", "link", "fifo"])
async def test_what_stands_in_the_place_of_a_record_is_not_followed(tmp_path: Path, kind: str) -> None:
    record, other = tmp_path / "log" / RECORD, tmp_path / "other"
    record.parent.mkdir()
    keeper(SetClock()).begin(str(tmp_path))
    if kind == "directory":
        record.mkdir()
    elif kind == "link":
        record.symlink_to(tmp_path / RECORD)
    else:
        os.mkfifo(record)
    assert not may_expire(keeper(SetClock()).resume("log", str(record.parent)))
    assert not other.exists()


async def test_a_taken_log_or_a_full_disk_costs_nothing(tmp_path: Path) -> None:
    class Full(Disk):
        def replace_file(self, path: str, content: bytes, mode: int = 0o600) -> None:
            raise OSError(28, "No space left on device")

    clock = SetClock()
    path = str(tmp_path)
    time = keeper(clock).begin(path)
    arrived = time.now_ms()
    kept = keeper(clock, disk=Full())
    await beat(kept, clock, {path: time}, HOUR_MS)
    await beat(keeper(clock), clock, {str(tmp_path / "gone"): time}, HOUR_MS)
    assert not (tmp_path / "gone").exists()
    assert keeper(clock).resume("log", path).now_ms() == arrived + 2 * HOUR_MS


async def test_leftovers_of_a_killed_writer_are_swept(tmp_path: Path) -> None:
    (tmp_path / f"{RECORD}.4711.draft").write_bytes(b"half")
    (tmp_path / "0000000001-000001.seg").write_bytes(b"")
    keeper(SetClock()).resume("log", str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["0000000001-000001.seg", RECORD]


async def test_while_the_clock_was_set_lately_no_id_is_forgotten(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = SetClock()
    kept = keeper(clock)
    times = {str(tmp_path): kept.begin(str(tmp_path))}
    await beat(kept, clock, times, 1_000)
    assert kept.may_forget()
    clock.wall += HOUR_MS
    await beat(kept, clock, times, 1_000)
    assert not kept.may_forget()
    kept.events.flush()
    assert '"event":"clock stepped","seconds":3600.0' in capfd.readouterr().out
    await beat(kept, clock, times, IDS_KEPT_MS - 1)
    assert not kept.may_forget()
    await beat(kept, clock, times, 1)
    assert kept.may_forget()


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
async def test_nor_when_it_was_set_while_the_owner_was_away(tmp_path: Path, jump_ms: int) -> None:
    clock = SetClock()
    keeper(clock).begin(str(tmp_path))
    clock.run(2_000)
    unset = keeper(clock)
    unset.resume("log", str(tmp_path))
    assert unset.may_forget()
    clock.wall += jump_ms
    kept = keeper(clock)
    kept.resume("log", str(tmp_path))
    assert not kept.may_forget()


async def test_jobs_of_two_logs_wait_together(tmp_path: Path) -> None:
    """A log whose time is ten years ahead, for its last owner's clock was, shares our plan with one that is right."""
    paths = [tmp_path / name for name in ("ours", "theirs")]
    for path in paths:
        path.mkdir()
    clock = SetClock()
    ours = keeper(clock).begin(str(paths[0]))
    wrong = keeper(SetClock(clock.wall + TEN_YEARS_MS), SECOND).begin(str(paths[1]))
    due = wrong.now_ms() + HOUR_MS
    theirs = keeper(clock).resume("theirs", str(paths[1]))
    assert due + theirs.ahead_ms() == ours.now_ms() + HOUR_MS + ours.ahead_ms() == clock.steady_ms() + HOUR_MS
    clock.wall += 5_000
    assert theirs.wall_ms(due) == clock.wall_ms() + HOUR_MS


def test_the_machine_s_clock_has_what_the_time_of_logs_needs() -> None:
    clock = SystemClock()
    assert abs(clock.steady_ms() - clock.wall_ms()) < 1_000
    assert clock.boot_ms() > 0
    assert len(boot_id()) == 32
    assert int(boot_id(), 16)
