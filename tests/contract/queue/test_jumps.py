"""A whole replica whose wall clock somebody sets: while it runs, between its lives, on this machine and on another."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mail.outcome import Kind
from mail.routing import Channel
from services.queue import retry
from services.queue.index import ID_MEMORY_S, Standing
from services.queue.timekeeper import RECORD
from services.queue.timeline import GRACE_S
from tests.harness.office import RULES
from tests.harness.replica import Replica, running

TEN_YEARS_S = 3_650 * 86_400.0
HOUR_S = 3_600.0
ANOTHER_BOOT = "b" * 32
LONGEST_S = retry.longest_gap_ms(Channel.LOCAL, RULES.lifetime_s, RULES.scale) / 1_000


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


@asynccontextmanager
async def another_life(spool: str, set_by_s: float, boot: str = "") -> AsyncIterator[Replica]:
    """A replica that starts with its clock set, and after a reboot or on another machine when `boot` is given."""
    replica = Replica(spool)
    replica.clock.set_wall(set_by_s)
    if boot:
        replica.store.times.boot = boot
    await replica.start()
    try:
        yield replica
    finally:
        await replica.vanish()


async def defer(replica: Replica) -> None:
    """A worker comes, gets the one delivery that is due, and puts it off."""
    worker = replica.worker(Channel.LOCAL)
    replica.report(worker, await replica.given(worker), Kind.DEFERRED)
    await replica.acknowledged(worker)
    replica.leave(worker)


def waits_s(replica: Replica) -> float:
    """For how long the one errand that waits has to wait."""
    due_ms = replica.plan.next_due_ms()
    assert due_ms is not None
    return (due_ms - replica.clock.steady_ms()) / 1_000


@pytest.mark.parametrize("jump_s", [TEN_YEARS_S, -TEN_YEARS_S])
async def test_a_jump_under_the_running_queue_moves_nothing(spool: str, jump_s: float) -> None:
    async with running(spool) as replica:
        message = replica.an_id(1)
        await replica.accept(message)
        for _ in range(3):
            await defer(replica)
            replica.clock.set_wall(jump_s)
            assert 0 < waits_s(replica) < HOUR_S
            replica.clock.forward(waits_s(replica) + 1)
        await defer(replica)
        assert message in replica.ledger.index
        assert not replica.events.of("bounce msg")


@pytest.mark.parametrize("boot", ["", ANOTHER_BOOT])
@pytest.mark.parametrize("jump_s", [TEN_YEARS_S, -TEN_YEARS_S])
async def test_a_jump_between_two_lives_neither_bounces_nor_delays(spool: str, jump_s: float, boot: str) -> None:
    async with running(spool) as replica:
        message = replica.an_id(1)
        await replica.accept(message)
        await defer(replica)
        arrived_ms = replica.ledger.index.look_at(message).arrived_ms  # type: ignore[union-attr]
    async with another_life(spool, jump_s, boot) as replica:
        gap = replica.events.of("clock gap")
        assert bool(gap) is (bool(boot) and jump_s > 0)
        if not gap:
            assert 0 < waits_s(replica) <= 101
            replica.clock.forward(101)
        await defer(replica)
        assert message in replica.ledger.index
        assert not replica.events.of("bounce msg")
        time = replica.ledger.time
        assert time.timeline.age_ms(arrived_ms, time.now_ms()) < 300_000
        assert 0 < waits_s(replica) < HOUR_S


async def test_a_message_expires_by_what_has_passed_and_not_before(spool: str) -> None:
    async with running(spool) as replica:
        await replica.accept(replica.an_id(1))
        await defer(replica)
        replica.clock.set_wall(-TEN_YEARS_S)
        replica.clock.forward(RULES.lifetime_s - 100)
        await defer(replica)
        assert not replica.events.of("bounce msg")
        assert 0 < waits_s(replica) <= LONGEST_S
        replica.clock.forward(LONGEST_S)
        await defer(replica)
        assert len(replica.events.of("bounce msg")) == 1


async def test_without_a_record_nothing_waits_for_years_or_expires_for_a_day(spool: str) -> None:
    """The clock was ten years ahead in the life before, and the record of it is lost."""
    async with running(spool) as replica:
        message = replica.an_id(1)
        await replica.accept(message)
        await defer(replica)
        os.unlink(os.path.join(replica.ledger.log.path, RECORD))
    async with another_life(spool, -TEN_YEARS_S) as replica:
        assert len(replica.events.of("warning")) == 1
        assert 0 < waits_s(replica) <= LONGEST_S
    async with running(spool) as replica:
        os.unlink(os.path.join(replica.ledger.log.path, RECORD))
    async with another_life(spool, TEN_YEARS_S) as replica:
        await defer(replica)
        assert message in replica.ledger.index
        assert not replica.events.of("bounce msg")
        replica.clock.forward(GRACE_S)
        await defer(replica)
        assert len(replica.events.of("bounce msg")) == 1


async def test_a_log_without_anything_in_it_needs_no_grace(spool: str) -> None:
    async with running(spool) as replica:
        os.unlink(os.path.join(replica.ledger.log.path, RECORD))
    async with running(spool) as replica:
        assert not replica.events.of("warning")
        time = replica.ledger.time
        assert time.timeline.may_expire(time.now_ms())


@pytest.mark.parametrize("jump_s", [2 * HOUR_S, -2 * HOUR_S, TEN_YEARS_S, -TEN_YEARS_S])
async def test_an_id_is_remembered_over_a_jump_and_forgotten_after_it(spool: str, jump_s: float) -> None:
    async with running(spool) as replica:
        message = replica.an_id(1)
        worker = replica.worker(Channel.LOCAL)
        await replica.accept(message)
        replica.report(worker, await replica.given(worker))
        await replica.acknowledged(worker)
        await replica.store.beat()
        replica.clock.set_wall(jump_s)
        await replica.store.beat()
        replica.clock.forward(HOUR_S)
        await replica.store.beat()
        assert replica.standing(message) is Standing.FINISHED
        assert [one["seconds"] for one in replica.events.of("clock stepped")] == [pytest.approx(jump_s, abs=1)]
        for _ in range(3):
            replica.clock.forward(ID_MEMORY_S)
            await replica.store.beat()
        assert replica.standing(message) is Standing.UNKNOWN


async def test_a_jump_between_two_lives_forgets_no_id_either(spool: str) -> None:
    async with running(spool) as replica:
        message = replica.an_id(1)
        worker = replica.worker(Channel.LOCAL)
        await replica.accept(message)
        replica.report(worker, await replica.given(worker))
        await replica.acknowledged(worker)
    async with another_life(spool, 2 * HOUR_S) as replica:
        await replica.store.beat()
        assert replica.standing(message) is Standing.FINISHED
