"""Group commit: a group is one frame, told in its order; after a failure nothing is written and nothing promised."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from services.queue import commit, records
from services.queue.commit import Commits
from services.queue.log import Log
from services.queue.names import Position
from services.queue.spool import Spool
from services.queue.takeover import Taker
from tests.harness.recording import RecordingDisk
from tests.harness.replica import WITHIN_S, Heard
from tests.harness.yard import Yard, accepted, an_id, ids_of

SMALL_FRAME = 10_000
BODY = b"x" * 6_000


class Shaky(RecordingDisk):
    """A disk whose syncs fail from a moment on."""

    fails = False

    def sync_data(self, fd: int) -> None:
        if self.fails:
            raise OSError(5, "Input/output error")
        super().sync_data(fd)

    def write_all(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        return super().write_all(fd, buffers)

    @property
    def writes(self) -> int:
        return [what for what, _ in self.done].count("write")


class Desk:
    """A log, its commits, and what was told in which order."""

    def __init__(self, yard: Yard) -> None:
        self.disk = Shaky()
        taker = Taker(Spool(yard.spool.path, self.disk), self.disk, "queue-0", Heard("queue-0"), 256 * 1024)
        self.log: Log = taker.create("0a1b2c3d", 0).log
        self.failures: list[Exception] = []
        self.commits = Commits(self.log, self.failures.append)
        self.told: list[tuple[str, bool]] = []
        self._all = asyncio.Event()
        self._left = 0
        self.disk.done.clear()

    def add(self, name: str, *said: records.Said) -> None:
        def then(positions: list[Position] | None) -> None:
            self.told.append((name, positions is not None))
            self._left -= 1
            if not self._left:
                self._all.set()

        self._left += 1
        self._all.clear()
        self.commits.add(list(said), then)

    async def all_told(self) -> list[tuple[str, bool]]:
        running = asyncio.create_task(self.commits.run())
        async with asyncio.timeout(WITHIN_S):
            await self._all.wait()
        running.cancel()
        return self.told


@pytest.fixture
async def desk(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(commit, "FRAME_MAX_OCTETS", SMALL_FRAME)
    found = Desk(yard)
    yard.open_logs.append(found.log)
    yield found
    found.commits.close()


async def test_a_group_is_one_frame_however_large(desk: Desk) -> None:
    desk.add("group", *(accepted(number, BODY) for number in range(5)))
    assert await desk.all_told() == [("group", True)]
    assert desk.disk.writes == 1


async def test_a_frame_has_room_for_so_much(desk: Desk) -> None:
    for number in range(5):
        desk.add(str(number), accepted(number, BODY))
    await desk.all_told()
    assert desk.disk.writes == 5


async def test_groups_are_committed_and_told_in_the_order_in_which_they_came(desk: Desk, yard: Yard) -> None:
    for number in range(9):
        desk.add(str(number), accepted(number, BODY if number % 3 else b"x"))
    assert await desk.all_told() == [(str(number), True) for number in range(9)]
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(9)]


async def test_after_a_failure_all_is_unknown_and_nothing_is_written(desk: Desk) -> None:
    desk.disk.fails = True
    for number in range(5):
        desk.add(str(number), accepted(number, BODY))
    assert sorted(await desk.all_told()) == [(str(number), False) for number in range(5)]
    assert (desk.disk.writes, len(desk.failures)) == (1, 1)
    desk.disk.fails = False
    desk.add("later", accepted(9))
    assert desk.told[-1] == ("later", False)
    assert await desk.commits.in_order(lambda: "done") is None
    assert (desk.disk.writes, len(desk.failures)) == (1, 1)


async def test_what_was_asked_of_the_log_before_it_failed_and_comes_later_is_unknown(desk: Desk) -> None:
    desk.disk.fails = True
    first = asyncio.ensure_future(desk.commits.in_order(lambda: desk.log.append([accepted(1)])))
    second = asyncio.ensure_future(desk.commits.in_order(lambda: desk.log.append([accepted(2)])))
    assert await first is None
    desk.disk.fails = False
    assert await second is None
    assert len(desk.failures) == 1


async def test_an_empty_group_is_told_after_a_re_check(desk: Desk, yard: Yard) -> None:
    desk.add("empty")
    assert await desk.all_told() == [("empty", True)]
    assert desk.disk.writes == 0
    yard.take()
    desk.add("lost")
    assert (await desk.all_told())[-1] == ("lost", False)


async def test_a_patient_group_waits_for_company_and_not_for_long(desk: Desk) -> None:
    told: list[bool] = []
    running = asyncio.create_task(desk.commits.run())
    desk.commits.add([accepted(1)], lambda positions: told.append(positions is not None), patient=True)
    assert not desk.commits.idle
    async with asyncio.timeout(WITHIN_S / 4):
        while not told:
            await asyncio.sleep(0.001)
    running.cancel()
    assert desk.commits.idle
