"""What a replica gives to workers and when, what it acknowledges, and what it waits for after somebody went away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import Channel
from proto import work_pb2
from runtime.config import EXIT_TEMPORARY
from runtime.durable import Disk
from services.queue import dispatch
from services.queue.dispatch import REATTACH_S
from services.queue.links import Link
from services.queue.parcels import heard
from services.queue.takeover import Taker
from tests.harness.replica import LOCAL, REMOTE, Replica, running

SOON_S = 0.2


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


@pytest.fixture
async def replica(spool: str) -> AsyncIterator[Replica]:
    async with running(spool) as found:
        yield found


@asynccontextmanager
async def after_a_crash(spool: str) -> AsyncIterator[tuple[Replica, str, str]]:
    """The next owner of a log whose last one had just given out a remote and a local delivery; their keys."""
    async with running(spool) as first:
        remote, local = first.worker(Channel.REMOTE, "remote"), first.worker(Channel.LOCAL, "local")
        await first.accept(first.an_id(1), REMOTE)
        await first.accept(first.an_id(2), LOCAL)
        keys = await first.given(remote), await first.given(local)
    async with running(spool) as second:
        yield second, *keys


async def quiet(replica: Replica, link: Link) -> None:
    """Nothing is given to the worker, though everything that is due was looked at."""
    replica.dispatch._pump()
    await asyncio.sleep(0)
    assert [delivery.key for delivery, _ in link.deliveries] == []


def message_in(key: str) -> MessageId:
    return MessageId(key.split("/")[1])


# -- what is acknowledged ---------------------------------------------------------------------------------------------


async def test_an_outcome_is_acknowledged_once_it_is_recorded(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL)
    await replica.accept(replica.an_id(1))
    key = await replica.given(worker)
    replica.report(worker, key)
    assert not worker.acks, "it is on its way to the disk"
    ack = await replica.acknowledged(worker)
    assert (ack.key, ack.not_owner) == (key, False)
    assert len(replica.ledger.index) == 0
    replica.report(worker, key)
    assert (await replica.acknowledged(worker)).key == key, "again, as often as it is reported"


async def test_an_outcome_of_a_log_that_was_lost_is_not_acknowledged(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL)
    await replica.accept(replica.an_id(1))
    key = await replica.given(worker)
    taker = Taker(replica.spool, Disk(), "queue-9", replica.process.events, 64 * 1024)
    taker.take(replica.ledger.log.name, 0, lambda said, at: None).log.close()
    replica.report(worker, key)
    await asyncio.wait_for(replica.process.stopping.wait(), 10)
    replica.report(worker, key)
    ack = await replica.acknowledged(worker)
    assert ack.not_owner, "by now it is known whose the log is not; before, nothing was said"
    assert not worker.acks


async def test_who_does_not_own_the_log_says_so(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL)
    replica.report(worker, f"ffffffff/{replica.an_id(1)}/1/0")
    assert (await replica.acknowledged(worker)).not_owner
    replica.report(worker, "what/is/1/0")
    assert (await replica.acknowledged(worker)).not_owner


# -- what is given ----------------------------------------------------------------------------------------------------


async def test_a_worker_gets_no_more_than_it_has_slots_for(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL, slots=2)
    for number in range(4):
        await replica.accept(replica.an_id(number))
    keys = [await replica.given(worker) for _ in range(2)]
    await quiet(replica, worker)
    replica.report(worker, keys[0])
    replica.dispatch.credit_changed()
    await replica.given(worker)


async def test_a_worker_that_is_closing_gets_nothing(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL)
    worker.draining = True
    await replica.accept(replica.an_id(1))
    await quiet(replica, worker)


async def test_a_replica_that_closes_gives_nothing_out(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL)
    await replica.dispatch.finish(1.0)
    await replica.accept(replica.an_id(1))
    await quiet(replica, worker)


async def test_a_message_that_is_delivered_is_with_one_worker(replica: Replica) -> None:
    one, other = replica.worker(Channel.LOCAL, "one"), replica.worker(Channel.LOCAL, "other")
    await replica.accept(replica.an_id(1))
    async with asyncio.timeout(10):
        while not one.deliveries + other.deliveries:
            await asyncio.sleep(0.01)
    (one if one.deliveries else other).deliveries.clear()
    replica.dispatch.try_everything_now()
    await quiet(replica, one)
    await quiet(replica, other)


async def test_a_former_owner_that_wakes_up_gives_nothing_out(replica: Replica) -> None:
    """Its log was taken while it slept: what is due here was given out there."""
    await replica.accept(replica.an_id(1))
    taker = Taker(replica.spool, Disk(), "queue-9", replica.process.events, 64 * 1024)
    taker.take(replica.ledger.log.name, 0, lambda said, at: None).log.close()
    worker = replica.worker(Channel.LOCAL)
    await asyncio.wait_for(replica.process.stopping.wait(), 10)
    await quiet(replica, worker)
    assert replica.process.exit_status == EXIT_TEMPORARY
    assert not replica.events.of("alert"), "what has moved is not damaged"


# -- a worker goes away -----------------------------------------------------------------------------------------------


async def test_a_local_delivery_whose_worker_went_away_is_given_to_another_at_once(replica: Replica) -> None:
    one = replica.worker(Channel.LOCAL, "one")
    await replica.accept(replica.an_id(1))
    key = await replica.given(one)
    other = replica.worker(Channel.LOCAL, "other")
    replica.leave(one)
    assert await replica.given(other) == key


async def test_a_remote_delivery_whose_worker_went_away_waits_for_it(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "REATTACH_S", SOON_S)
    one = replica.worker(Channel.REMOTE, "one")
    await replica.accept(replica.an_id(1), REMOTE)
    key = await replica.given(one)
    other = replica.worker(Channel.REMOTE, "other")
    replica.leave(one)
    await quiet(replica, other)
    assert await replica.given(other) == key
    assert [said["window"] for said in replica.events.of("possible-duplicate")] == ["W3"]


async def test_a_worker_that_comes_back_goes_on(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "REATTACH_S", SOON_S)
    one = replica.worker(Channel.REMOTE, "one")
    message = replica.an_id(1)
    await replica.accept(message, REMOTE)
    key = await replica.given(one)
    replica.leave(one)
    again = replica.worker(Channel.REMOTE, "one")
    replica.dispatch.held(again, key, [0])
    await asyncio.sleep(SOON_S * 2)  # what must not happen tells nobody
    await quiet(replica, again)
    assert not replica.events.of("possible-duplicate")
    replica.report(again, key)
    await replica.acknowledged(again)
    assert message not in replica.ledger.index


async def test_a_worker_that_goes_again_is_waited_for_as_long_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "REATTACH_S", SOON_S)
    one = replica.worker(Channel.REMOTE, "one")
    await replica.accept(replica.an_id(1), REMOTE)
    key = await replica.given(one)
    replica.leave(one)
    monkeypatch.setattr(dispatch, "REATTACH_S", 3_600.0)
    again = replica.worker(Channel.REMOTE, "one")
    replica.dispatch.held(again, key, [0])
    replica.leave(again)
    await asyncio.sleep(SOON_S * 2)  # the time of its first going has passed
    assert not replica.events.of("possible-duplicate")


# -- a replica goes away ----------------------------------------------------------------------------------------------


async def test_after_a_crash_remote_work_waits_for_its_worker_and_local_work_does_not(spool: str) -> None:
    async with after_a_crash(spool) as (replica, remote_key, local_key):
        assert await replica.given(replica.worker(Channel.LOCAL)) == local_key
        remote = replica.worker(Channel.REMOTE)
        await quiet(replica, remote)
        replica.clock.forward(REATTACH_S - 1)
        await quiet(replica, remote)
        replica.clock.forward(2)
        replica.dispatch.credit_changed()
        assert await replica.given(remote) == remote_key
        assert [said["window"] for said in replica.events.of("possible-duplicate")] == ["W3"]


async def test_a_worker_of_the_last_owner_goes_on_and_nobody_else_gets_its_delivery(spool: str) -> None:
    async with after_a_crash(spool) as (replica, key, _):
        remote, other = replica.worker(Channel.REMOTE, "remote"), replica.worker(Channel.REMOTE, "other")
        replica.dispatch.held(remote, key, [0])
        replica.clock.forward(REATTACH_S + 1)
        await quiet(replica, other)
        await quiet(replica, remote)
        replica.report(remote, key)
        await replica.acknowledged(remote)
        assert message_in(key) not in replica.ledger.index


async def test_an_outcome_for_the_last_owner_is_recorded_by_the_next(spool: str) -> None:
    async with after_a_crash(spool) as (replica, remote_key, _):
        remote = replica.worker(Channel.REMOTE)
        replica.report(remote, remote_key)
        assert not (await replica.acknowledged(remote)).not_owner
        replica.clock.forward(REATTACH_S + 1)
        await quiet(replica, remote)


async def test_sigalrm_does_not_overtake_a_worker_that_may_come_back(spool: str) -> None:
    async with after_a_crash(spool) as (replica, _, _):
        remote = replica.worker(Channel.REMOTE)
        replica.dispatch.try_everything_now()
        await quiet(replica, remote)


async def test_who_still_waits_for_workers_of_the_last_owner_does_not_end_in_order(spool: str) -> None:
    async with after_a_crash(spool) as (replica, _, _):
        assert not await replica.dispatch.finish(1.0)
        replica.clock.forward(REATTACH_S + 1)
        assert await replica.dispatch.finish(1.0)


async def test_after_an_orderly_end_nothing_waits(spool: str) -> None:
    first = Replica(spool)
    await first.start()
    await first.accept(first.an_id(1), REMOTE)
    await first.end()
    async with running(spool) as second:
        await second.given(second.worker(Channel.REMOTE))
        assert not second.events.of("possible-duplicate")


async def test_who_ends_while_a_worker_is_at_work_does_not_end_in_order(spool: str) -> None:
    first = Replica(spool)
    await first.start()
    await first.accept(first.an_id(1), REMOTE)
    await first.given(first.worker(Channel.REMOTE))
    clean = await first.dispatch.finish(SOON_S)
    assert not clean
    await first.store.close(clean)
    await first.vanish()
    async with running(spool) as second:
        await quiet(second, second.worker(Channel.REMOTE))


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_damaged_message_is_given_to_nobody_and_stays(replica: Replica) -> None:
    message = replica.an_id(1)
    await replica.accept(message, body=b"the body\n")
    found = replica.ledger.index.look_at(message)
    assert found is not None
    with Path(replica.ledger.log.path, str(found.position.segment)).open("r+b") as file:
        file.seek(found.position.body.offset)
        file.write(b"X")
    await quiet(replica, replica.worker(Channel.LOCAL))
    assert message in replica.ledger.index
    assert replica.events.of("alert")


async def test_a_report_of_a_recipient_that_is_not_there_changes_nothing(replica: Replica) -> None:
    worker = replica.worker(Channel.LOCAL)
    message = replica.an_id(1)
    await replica.accept(message)
    key = await replica.given(worker)
    outcome = work_pb2.Outcome(key=key, recipient=7, kind=work_pb2.Outcome.DELIVERED)
    replica.dispatch.report(worker, heard(outcome))
    await replica.acknowledged(worker)
    assert message in replica.ledger.index


async def test_a_message_at_work_is_not_put_to_rest(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is at rest has forgotten that somebody is at work on it: it would be given to another."""
    monkeypatch.setattr("services.queue.index.AWAKE_MAX", 2)
    worker = replica.worker(Channel.REMOTE, slots=1)
    await replica.accept(replica.an_id(0), REMOTE)
    key = await replica.given(worker)
    for number in range(1, 20):
        await replica.accept(replica.an_id(number), LOCAL)
    found = replica.ledger.index.look_at(message_in(key))
    assert found is not None
    assert [recipient.state.value for recipient in found.recipients] == ["delivering"]
    replica.report(worker, key, Kind.DEFERRED)
    await replica.acknowledged(worker)
