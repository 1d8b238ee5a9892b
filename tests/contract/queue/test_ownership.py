"""Replicas on one spool: who takes whose log when, and that two never work on one."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.durable import Disk
from runtime.events import Events
from services.queue import ownership
from services.queue.index import ID_MEMORY_S
from services.queue.ledger import Ledger
from services.queue.ownership import STILL_S, STILL_WITHOUT_REDIS_S
from services.queue.spool import Spool, try_lock
from services.queue.takeover import Taker
from tests.conftest import RedisServer
from tests.harness.replica import WITHIN_S, Replica, running
from tests.harness.yard import accepted


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where replicas beat fifty times a second."""
    monkeypatch.setattr(ownership, "HEARTBEAT_S", 0.02)
    return str(tmp_path / "spool")


@asynccontextmanager
async def a_quiet_owner(spool: str, redis_url: str = "") -> AsyncIterator[Replica]:
    """One that lives, holds its lock and does not beat: as if it were paused."""
    async with running(spool, "queue-0", redis_url) as replica:
        await replica.accept(replica.an_id(1))
        yield replica


async def until(what: Callable[[], bool]) -> None:
    """Looks every heartbeat; nothing tells of what is looked at."""
    async with asyncio.timeout(WITHIN_S):
        while not what():
            await asyncio.sleep(0.02)


async def settled(replica: Replica) -> None:
    """Returns when the replica watches its neighbours."""
    replica.watch()
    await looked(replica, 1)
    replica.clock.forward(ownership._SETTLE_S)
    await looked(replica)


async def looked(replica: Replica, times: int = 5) -> None:
    """Returns when the replica has looked at the others' logs so often again."""
    beat = replica.ownership._beat + times
    await until(lambda: replica.ownership._beat >= beat)


async def test_a_replica_comes_back_to_its_own_log(spool: str) -> None:
    async with running(spool) as first:
        log, message = first.log, first.an_id(1)
        await first.accept(message)
    async with running(spool) as second:
        assert second.log == log
        assert message in second.ledger.index


async def test_a_dead_neighbours_log_is_taken_at_once(spool: str) -> None:
    async with running(spool) as first, running(spool, "queue-1") as second:
        message, log = first.an_id(1), first.log
        await first.accept(message)
        await first.vanish()
        await settled(second)
        await until(lambda: log in second.store.ledgers)
        assert message in second.store.ledgers[log].index


async def test_a_replica_that_just_started_leaves_its_neighbours_time_to_come_back(spool: str) -> None:
    async with running(spool) as first, running(spool, "queue-1") as second:
        log = first.log
        await first.vanish()
        second.watch()
        await looked(second)
        assert log not in second.store.ledgers
        second.clock.forward(ownership._SETTLE_S)
        await until(lambda: log in second.store.ledgers)


async def test_the_log_of_a_living_owner_is_left_alone(spool: str) -> None:
    async with running(spool) as first, running(spool, "queue-1") as second:
        first.watch()
        await settled(second)
        for _ in range(3):
            second.clock.forward(STILL_WITHOUT_REDIS_S - 1)
            await looked(first)
            await looked(second)
        assert list(second.store.ledgers) == [second.log]
        assert await first.accept(first.an_id(1)) is None


@pytest.mark.parametrize(("redis", "still_s"), [(True, STILL_S), (False, STILL_WITHOUT_REDIS_S)])
async def test_a_silent_owner_is_overtaken_in_its_time(
    spool: str, redis_server: RedisServer, redis: bool, still_s: float
) -> None:
    url = redis_server.url if redis else ""
    async with a_quiet_owner(spool, url) as first, running(spool, "queue-1", url) as second:
        log = first.log
        await settled(second)
        second.clock.forward(still_s - 2.0)
        await looked(second)
        assert log not in second.store.ledgers
        second.clock.forward(3.0)
        await until(lambda: log in second.store.ledgers)
        assert await first.accept(first.an_id(2)) == "unknown", "what it wrote may be the new owner's"
        assert first.process.exit_status == 75


async def test_a_silent_owner_with_a_lease_is_left_alone(spool: str, redis_server: RedisServer) -> None:
    async with a_quiet_owner(spool, redis_server.url) as first, running(spool, "queue-1", redis_server.url) as second:
        await first.fence.renew(first.log, first.ledger.log.name.token)
        await settled(second)
        second.clock.forward(STILL_WITHOUT_REDIS_S * 2)
        await looked(second)
        assert first.log not in second.store.ledgers


async def test_who_overtakes_holds_a_lock_of_his_own(spool: str) -> None:
    """The paused one has the old file open, and its lock; a third must find the log locked all the same."""
    async with a_quiet_owner(spool) as first, running(spool, "queue-1") as second:
        log = first.log
        await settled(second)
        second.clock.forward(STILL_WITHOUT_REDIS_S + 1)
        await until(lambda: log in second.store.ledgers)
        await first.vanish()
        assert try_lock(second.store.ledgers[log].log.path) is None


async def test_who_overtakes_holds_his_lock_before_he_goes_through_what_is_queued(spool: str) -> None:
    """A million messages take a while, in which the paused one may die, and its lock be free."""
    async with a_quiet_owner(spool) as first, running(spool, "queue-1") as second:
        log = first.log
        locks: list[int | None] = []
        adopt = second.dispatch.adopt

        async def looked_at(ledger: Ledger, clean: bool) -> None:
            for fd in first.ownership._locks.values():
                os.close(fd)
            first.ownership._locks.clear()
            locks.append(try_lock(ledger.log.path))
            await adopt(ledger, clean)

        second.dispatch.adopt = looked_at  # type: ignore[method-assign]
        await settled(second)
        second.clock.forward(STILL_WITHOUT_REDIS_S + 1)
        await until(lambda: log in second.store.ledgers and bool(locks))
        assert locks == [None]


async def test_an_adopted_log_goes_once_nothing_of_it_is_kept_or_remembered(spool: str) -> None:
    async with running(spool) as first, running(spool, "queue-1") as second:
        log, waits, ended = first.log, first.an_id(1), first.an_id(2)
        await first.accept(waits)
        await first.resolve(ended)
        path = Path(first.ledger.log.path).parent
        await first.vanish()
        second.tidy()
        await settled(second)
        await until(lambda: log in second.store.ledgers)
        index = second.store.ledgers[log].index
        await looked(second)
        assert log in second.store.ledgers, "a message is kept in it"
        index._remove(waits)
        await looked(second)
        assert log in second.store.ledgers, "somebody may ask about an id"
        commits = second.store.ledgers[log].commits
        commits._writing += 1
        second.clock.forward(ID_MEMORY_S + 60)
        await looked(second)
        assert log in second.store.ledgers, "it is being written"
        commits._writing -= 1
        await until(lambda: log not in second.store.ledgers)
        assert not [name for name in os.listdir(path) if name.startswith(log)]
        assert await second.accept(second.an_id(3)) is None


async def test_an_orderly_end_is_taken_over_at_once_and_waited_for_by_nobody(spool: str) -> None:
    async with running(spool, "queue-1") as second:
        first = Replica(spool)
        await first.start()
        log = first.log
        await first.end()
        await settled(second)
        await until(lambda: log in second.store.ledgers)
        assert second.dispatch._held_until == 0.0


def a_dead_log(spool: str, number: int) -> str:
    """A log whose owner is gone."""
    owner = f"queue-{number}"
    log = f"{number:08x}"
    taken = Taker(Spool(spool, Disk()), Disk(), owner, Events(owner, SystemClock()), 64 * 1024).create(log, 0)
    taken.log.append([accepted(number)])
    taken.log.close()
    assert taken.lock is not None
    os.close(taken.lock)
    return log


async def test_a_replica_has_no_more_logs_than_its_share(spool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "LOGS_MAX", 2)
    async with running(spool) as replica:
        for number in (2, 3):
            a_dead_log(spool, number)
        await settled(replica)
        await until(lambda: len(replica.store.ledgers) == 2)
        await looked(replica)
        assert len(replica.store.ledgers) == 2


async def test_a_link_in_place_of_a_heartbeat_leads_nowhere(spool: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"somebody's")
    async with running(spool) as replica:
        Path(replica.ledger.log.path, "heartbeat").symlink_to(elsewhere)
        replica.watch()
        await looked(replica)
    assert elsewhere.read_bytes() == b"somebody's"


async def test_a_foreign_name_is_told_and_left_alone(spool: str) -> None:
    async with running(spool) as first:
        logs = Path(first.ledger.log.path).parent
    (logs / "what.is.this").mkdir()
    async with running(spool) as second:
        assert any("what.is.this" in str(fields["text"]) for fields in second.events.of("warning"))
    assert (logs / "what.is.this").is_dir()
