"""Replicas of several machines in one directory: who starts proves that it sees what another one does.

Machines are told apart by the boot that they name; a cache that lies is a disk that leaves the old name, or two
directories of which only some things come across.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from runtime.clock import SystemChance, SystemClock
from runtime.config import ConfigError
from runtime.durable import Disk
from runtime.events import Events
from services.queue import neighbours, visibility
from services.queue.neighbours import DIRECTORY, Neighbours, Surroundings
from services.queue.visibility import Beat, Replica

HERE, THERE, BEFORE = "a" * 32, "b" * 32, "c" * 32


class Heard(Events):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        super().__init__("queue-0", SystemClock())
        self.warnings: list[str] = []

    def warning(self, text: str, **fields: object) -> None:
        self.warnings.append(text)


def replica(
    spool: Path, node: str = HERE, instance: str = "queue-0", *, disk: Disk | None = None, unsafe: bool = False
) -> tuple[Neighbours, Heard]:
    heard = Heard()
    around = Surroundings(
        instance, f"host-{node[0]}", SystemClock(), SystemChance(), heard, disk or Disk(), node=node, unsafe=unsafe
    )
    return Neighbours(str(spool), around), heard


@contextlib.asynccontextmanager
async def living(one: Neighbours, also: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    """A replica that beats, quicker than each second."""

    async def keep() -> None:
        while True:
            one.beat()
            also()
            await asyncio.sleep(0.02)

    task = asyncio.create_task(keep())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    one.leave()


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    path = tmp_path / DIRECTORY
    path.mkdir()
    return path


async def test_alone_there_is_nothing_to_prove(tmp_path: Path) -> None:
    one, heard = replica(tmp_path)
    await one.start_up()
    assert os.listdir(tmp_path / DIRECTORY) == [f"{HERE}.queue-0"]
    assert heard.warnings == []
    one.leave()
    assert os.listdir(tmp_path / DIRECTORY) == []


async def test_a_replica_on_the_same_machine_proves_nothing(tmp_path: Path) -> None:
    first, _ = replica(tmp_path, instance="queue-1")
    await first.start_up()
    one, _ = replica(tmp_path)
    await one.start_up()
    assert sorted(os.listdir(tmp_path / DIRECTORY)) == [f"{HERE}.queue-0", f"{HERE}.queue-1"]
    one.leave()
    first.leave()


async def test_the_dead_of_this_machine_are_cleared_up(tmp_path: Path, nodes: Path) -> None:
    (nodes / f"{HERE}.queue-7").write_bytes(visibility.write_beat(Beat("host-a", 12)))
    one, _ = replica(tmp_path)
    await one.start_up()
    assert os.listdir(nodes) == [f"{HERE}.queue-0"]
    one.leave()


async def test_what_another_machine_does_is_seen_at_once(tmp_path: Path) -> None:
    there, _ = replica(tmp_path, THERE, "queue-1")
    await there.start_up()
    async with living(there):
        one, heard = replica(tmp_path)
        await one.start_up()
        assert sorted(os.listdir(tmp_path / DIRECTORY)) == [f"{HERE}.queue-0", f"{THERE}.queue-1"]
        assert heard.warnings == []
        one.leave()


async def test_many_that_start_together_answer_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BEAT_S", 0.02)
    monkeypatch.setattr(visibility, "STILL_S", 1_000.0)

    async def start(one: Neighbours) -> "asyncio.Task[None]":
        await one.start_up()
        return asyncio.create_task(one.keep())

    starting = [replica(tmp_path, f"{number:032x}", f"queue-{number}")[0] for number in range(6)]
    tasks = await asyncio.gather(*map(start, starting))
    assert len(os.listdir(tmp_path / DIRECTORY)) == 6
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert os.listdir(tmp_path / DIRECTORY) == []


class LeavesTheOldName(Disk):
    """A machine whose renaming is seen by others as if their kernel still had the old name."""

    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        super().rename(old, new)
        os.mkdir(old)


class HidesTheNewName(Disk):
    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        os.rmdir(old)


@pytest.mark.parametrize(
    ("disk", "said"), [(LeavesTheOldName(), "still has its old name"), (HidesTheNewName(), "has no new name")]
)
async def test_a_cache_that_lies_is_refused_with_the_fix(tmp_path: Path, disk: Disk, said: str) -> None:
    there, _ = replica(tmp_path, THERE, "queue-1", disk=disk)
    await there.start_up()
    async with living(there):
        one, _ = replica(tmp_path)
        with pytest.raises(ConfigError, match=said) as refused:
            await one.start_up()
        assert "lookupcache=none,actimeo=0" in str(refused.value)
        assert not [name for name in os.listdir(tmp_path / DIRECTORY) if name.startswith(("ask", "saw"))]
        one.leave()


async def test_a_machine_that_lives_and_does_not_see_us_is_refused(tmp_path: Path) -> None:
    """Its beat comes across, our directories do not: names are cached there for longer than contents are here."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / DIRECTORY).mkdir(parents=True)
    theirs.mkdir()
    there, _ = replica(theirs, THERE, "queue-1")
    await there.start_up()
    name = f"{THERE}.queue-1"

    def across() -> None:
        shutil.copyfile(theirs / DIRECTORY / name, ours / DIRECTORY / name)

    across()
    async with living(there, across):
        one, _ = replica(ours)
        with pytest.raises(ConfigError, match="queue-1 lives on another machine and does not see"):
            await one.start_up()
        one.leave()


async def test_a_replica_of_this_machine_does_not_answer_for_another(tmp_path: Path, nodes: Path) -> None:
    """It sees through the same kernel: its renaming would prove nothing."""
    count = 0

    def moves() -> None:
        nonlocal count
        count += 1
        (nodes / f"{THERE}.queue-9").write_bytes(visibility.write_beat(Beat("elsewhere", count)))

    beside, _ = replica(tmp_path, instance="queue-1")
    await beside.start_up()
    moves()
    async with living(beside, moves):
        one, _ = replica(tmp_path)
        with pytest.raises(ConfigError, match="queue-9 lives on another machine and does not see"):
            await one.start_up()
        one.leave()


async def test_with_unsafe_fs_a_broken_promise_is_a_warning(tmp_path: Path) -> None:
    there, _ = replica(tmp_path, THERE, "queue-1", disk=LeavesTheOldName())
    await there.start_up()
    async with living(there):
        one, heard = replica(tmp_path, unsafe=True)
        await one.start_up()
        [warning] = heard.warnings
        assert "old name" in warning
        one.leave()


async def test_a_lock_that_is_not_seen_here_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, _ = replica(tmp_path, THERE, "queue-1")
    monkeypatch.setattr(neighbours, "_lock", lambda fd: True)
    await there.start_up()
    async with living(there):
        one, _ = replica(tmp_path)
        with pytest.raises(ConfigError, match=r"the lock of queue-1.*local_lock=none"):
            await one.start_up()
        one.leave()


async def test_a_dead_machine_is_not_waited_for_twice(
    tmp_path: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visibility, "STILL_S", 0.3)
    (nodes / f"{THERE}.queue-1").write_bytes(visibility.write_beat(Beat("elsewhere", 12)))
    one, heard = replica(tmp_path)
    await one.start_up()
    assert os.listdir(nodes) == [f"{HERE}.queue-0"]
    assert heard.warnings == []
    one.leave()


@pytest.mark.parametrize(("instance", "host"), [("queue-0", "elsewhere"), ("queue-1", "host-a")])
async def test_this_machine_before_its_last_start_is_not_waited_for(
    tmp_path: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch, instance: str, host: str
) -> None:
    monkeypatch.setattr(visibility, "STILL_S", 1_000.0)
    (nodes / f"{BEFORE}.{instance}").write_bytes(visibility.write_beat(Beat(host, 12)))
    one, _ = replica(tmp_path)
    await one.start_up()
    assert os.listdir(nodes) == [f"{HERE}.queue-0"]
    one.leave()


async def test_one_that_was_taken_for_dead_is_there_again_with_its_next_beat(tmp_path: Path, nodes: Path) -> None:
    one, _ = replica(tmp_path)
    await one.start_up()
    os.unlink(nodes / f"{HERE}.queue-0")
    one.beat()
    found = visibility.read_beat((nodes / f"{HERE}.queue-0").read_bytes())
    assert found is not None
    assert found.count == 2
    one.leave()


async def test_foreign_files_are_left_alone(tmp_path: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visibility, "STILL_S", 0.2)
    (nodes / "README").write_text("hands off")
    (nodes / f"ask.{'0' * 32}.{'1' * 31}.queue-0").mkdir()
    (nodes / f"ask.{'0' * 32}.{'1' * 32}.queue-0").write_text("not a directory")
    os.mkfifo(nodes / f"{'d' * 32}.queue-1")
    (nodes / f"{'e' * 32}.queue-2").symlink_to("/etc/passwd")
    (nodes / f"{'f' * 32}.queue-3").mkdir()
    before = Path("/etc/passwd").read_bytes()
    one, _ = replica(tmp_path)
    await one.start_up()
    one.beat()
    one.leave()
    assert Path("/etc/passwd").read_bytes() == before
    assert {"README", f"ask.{'0' * 32}.{'1' * 31}.queue-0", f"{'f' * 32}.queue-3"} <= set(os.listdir(nodes))


async def test_an_asking_that_nobody_took_back_is_swept(
    tmp_path: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = nodes / visibility.asking_name(False, "0" * 32, Replica(THERE, "queue-9"))
    asking.mkdir()
    own = nodes / visibility.asking_name(True, "1" * 32, Replica(HERE, "queue-0"))
    own.mkdir()
    one, _ = replica(tmp_path)
    await one.start_up()
    assert not own.exists()
    assert not asking.exists()
    assert (nodes / visibility.asking_name(True, "0" * 32, Replica(THERE, "queue-9"))).exists()
    monkeypatch.setattr(neighbours, "SWEPT_AFTER_S", -1.0)
    one.beat()
    assert os.listdir(nodes) == [f"{HERE}.queue-0"]
    one.leave()


async def test_a_full_disk_stops_no_start(tmp_path: Path) -> None:
    class Full(Disk):
        def make_directory(self, path: str, mode: int = 0o700, dir_fd: int | None = None) -> None:
            raise OSError(28, "No space left on device")

    one, heard = replica(tmp_path, disk=Full())
    await one.start_up()
    assert len(heard.warnings) == 1


async def test_a_volume_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    one, _ = replica(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"nodes.*must be able to write there"):
        await one.start_up()
