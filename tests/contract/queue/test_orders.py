"""An operator's order while others are at work: what holds before it is on the disk, and what its successor keeps."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import Channel
from services.queue import reclaim
from services.queue.dispatch import REATTACH_S
from services.queue.index import AWAKE_MAX, Standing
from services.queue.names import NOWHERE
from services.queue.orders import Action, Answer, Order, Orders, Result
from tests.harness.replica import LOCAL, REMOTE, WITHIN_S, Replica, running
from tests.harness.yard import accepted


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


@pytest.fixture
async def replica(spool: str) -> AsyncIterator[Replica]:
    async with running(spool) as found:
        yield found


@contextmanager
def busy_disk(replica: Replica) -> Iterator[None]:
    """Nothing is committed before the end of the block."""
    gate = threading.Event()

    def wait() -> None:
        gate.wait()

    replica.ledger.commits.later(wait)
    try:
        yield
    finally:
        gate.set()


def begin(replica: Replica, action: Action, message: MessageId, force: bool = False) -> "asyncio.Task[list[Answer]]":
    """The order is given; its answer is still to come."""
    orders = Orders(replica.dispatch, replica.process)
    known = replica.ledger.index.look_at(message)
    kept = [(replica.ledger, known)] if known else []

    async def give() -> list[Answer]:
        return [answer for _, answer in await orders.give(Order(action, "ann", force), kept)]

    return asyncio.create_task(give())


async def accept(replica: Replica, number: int, to: str = REMOTE) -> MessageId:
    message = replica.an_id(number)
    assert await replica.accept(message, to) is None
    return message


def message_in(key: str) -> MessageId:
    return MessageId(key.split("/")[1])


@pytest.mark.parametrize("action", [Action.HOLD, Action.REMOVE])
async def test_nothing_is_started_while_an_order_is_on_its_way_to_the_disk(replica: Replica, action: Action) -> None:
    message, other = await accept(replica, 1), await accept(replica, 2)
    with busy_disk(replica):
        answer = begin(replica, action, message)
        await asyncio.sleep(0)
        worker = replica.worker(Channel.REMOTE)
        assert message_in(await replica.given(worker)) == other
        assert not worker.deliveries
        assert not answer.done()
    assert await answer == [(Result.DONE, "")]
    replica.dispatch.credit_changed()
    assert replica.standing(message) is (Standing.LIVE if action is Action.HOLD else Standing.FINISHED)
    assert [one["msg"] for one in replica.events.of("starting delivery")] == [other]


async def test_a_report_on_what_is_being_removed_changes_nothing(replica: Replica) -> None:
    """Of a worker that began it under an earlier owner, and whose patience outlasted ours."""
    message = await accept(replica, 1)
    worker = replica.worker(Channel.LOCAL)
    with busy_disk(replica):
        answer = begin(replica, Action.REMOVE, message)
        await asyncio.sleep(0)
        replica.report(worker, f"{replica.log}/{message}/1/0", Kind.FAILED)
    assert await answer == [(Result.DONE, "")]
    assert not (await replica.acknowledged(worker)).not_owner
    assert len(replica.ledger.index) == 0, "a bounce"
    assert replica.events.of("bounce msg") == []


async def test_an_order_for_what_has_just_ended_has_no_answer(replica: Replica) -> None:
    message = await accept(replica, 1, LOCAL)
    worker = replica.worker(Channel.LOCAL)
    key = await replica.given(worker)
    with busy_disk(replica):
        replica.report(worker, key, Kind.DELIVERED)
        answers = [begin(replica, action, message) for action in Action]
        async with asyncio.timeout(WITHIN_S):
            assert await asyncio.gather(*answers) == [[], [], [], []]
    await replica.acknowledged(worker)
    assert replica.standing(message) is Standing.FINISHED


async def test_a_hold_is_kept_by_a_snapshot_that_was_made_before_it_was_on_the_disk(spool: str) -> None:
    async with running(spool) as first:
        message = await accept(first, 1)
        known = first.ledger.index.get(message)
        assert known is not None
        with busy_disk(first):
            answer = begin(first, Action.HOLD, message)
            await asyncio.sleep(0)
            moved = asyncio.create_task(reclaim._move(first.ledger, known, first.events))
            await asyncio.sleep(0)
        assert (await moved, await answer) == (True, [(Result.DONE, "")])
    async with running(spool) as second:
        again = second.ledger.index.look_at(message)
        assert again is not None
        assert again.held is not None
        assert again.held.by == "ann"


async def test_a_message_does_not_rest_while_an_order_is_on_its_way_to_the_disk(replica: Replica) -> None:
    """At rest nobody would know that it is being removed."""
    message = await accept(replica, 1)
    with busy_disk(replica):
        answer = begin(replica, Action.REMOVE, message)
        await asyncio.sleep(0)
        for number in range(AWAKE_MAX + 1):
            replica.ledger.index.learn(accepted(number), NOWHERE)
        known = replica.ledger.index.look_at(message)
        assert known is not None
        assert known.settled
    assert await answer == [(Result.DONE, "")]


async def test_what_is_released_still_waits_for_a_worker_that_may_come_back(spool: str) -> None:
    """It was under way when it was held, and its owner died before it knew how that ended."""
    async with running(spool) as first:
        message = await accept(first, 1)
        assert message_in(await first.given(first.worker(Channel.REMOTE))) == message
        assert (await begin(first, Action.HOLD, message))[0][0] is Result.DONE
    async with running(spool) as second:
        worker = second.worker(Channel.REMOTE)
        assert await begin(second, Action.RELEASE, message) == [(Result.DONE, "")]
        other = await accept(second, 2)
        assert message_in(await second.given(worker)) == other
        assert not worker.deliveries
        second.clock.forward(REATTACH_S + 1)
        second.dispatch.credit_changed()
        assert message_in(await second.given(worker)) == message
        assert [one["window"] for one in second.events.of("possible-duplicate")] == ["W3"]


async def test_who_gave_the_order_may_go_before_it_is_carried_out(replica: Replica) -> None:
    message = await accept(replica, 1)
    with busy_disk(replica):
        answer = begin(replica, Action.REMOVE, message)
        await asyncio.sleep(0)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
    await accept(replica, 2)  # its commit comes after
    assert replica.standing(message) is Standing.FINISHED
    assert replica.process.exit_status == 0
    assert [one["msg"] for one in replica.events.of("removed msg")] == [message]
