"""One log at work on a real disk: what is told is committed, and the next owner knows it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import RoutingTable
from runtime.clock import SystemClock
from runtime.events import Events
from services.queue.bounce import BounceRules
from services.queue.commit import Commits
from services.queue.index import Index, Standing
from services.queue.ledger import Incoming, Ledger
from services.queue.log import INLINE_MAX_OCTETS
from services.queue.message import Message, State
from services.queue.reclaim import reclaim
from services.queue.rules import Rules
from services.queue.settlement import Forward, Reported, Settlement
from services.queue.timekeeper import LogTime
from services.queue.timeline import Gap, Reading, Timeline
from tests.harness.yard import Yard, an_id

NOW = 1_700_000_000_000
RULES = Rules(
    routing=RoutingTable(frozenset({"here.example"}), {}, frozenset(), "here.example"),
    bounce=BounceRules("MAILER-DAEMON", "here.example", "postmaster@here.example"),
    lifetime_s=604_800,
    scale=1.0,
)


class Desk:
    """A ledger, and answers awaited."""

    def __init__(self, yard: Yard, index: Index | None = None, segment_octets: int | None = None) -> None:
        if segment_octets:
            yard.segment_octets = segment_octets
        self.failures: list[Exception] = []
        self.yard = yard
        log = yard.create()
        commits = Commits(log, self.failures.append)
        self.ledger = Ledger(log, index or Index(), commits, RULES, lambda message, error: None)
        self.task = asyncio.create_task(commits.run())

    async def accept(self, number: int, body: bytes = b"Subject: x\n\nbody\n", to: str = "a@here.example") -> Message:
        future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        incoming = Incoming(an_id(number), "from@there.example", tuple(to.split()), body, uid=7)
        await self.ledger.accept(incoming, NOW, future.set_result)
        message = await future
        assert message is not None
        return message

    async def settle(self, reported: Reported, now_ms: int = NOW) -> Settlement:
        future: asyncio.Future[Settlement | None] = asyncio.get_running_loop().create_future()
        self.ledger.settle(reported, now_ms, future.set_result)
        settlement = await future
        assert settlement is not None
        return settlement

    async def refuse(self, number: int) -> bool:
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.ledger.refuse(an_id(number), future.set_result)
        return await future


@pytest.fixture
async def desk(yard: Yard) -> AsyncIterator[Desk]:
    found = Desk(yard)
    yield found
    found.task.cancel()
    found.ledger.commits.close()


def report(message: MessageId, kind: Kind, text: str = "why\n", recipient: int = 0, attempt: int = 1) -> Reported:
    return Reported(message, recipient, attempt, kind, text)


def held(index: Index) -> list[Message]:
    return [message for one in index.ids() if (message := index.get(one))]


async def test_a_told_message_is_known_to_the_next_owner(desk: Desk) -> None:
    await asyncio.gather(*(desk.accept(number) for number in range(50)))
    assert set(desk.yard.index().ids()) == {an_id(number) for number in range(50)}


async def test_what_gathers_during_a_commit_shares_a_frame(desk: Desk) -> None:
    await desk.accept(0)
    before = desk.ledger.log.segments[desk.ledger.log.current]
    await desk.accept(1)
    one = desk.ledger.log.segments[desk.ledger.log.current] - before
    await asyncio.gather(*(desk.accept(number) for number in range(2, 102)))
    hundred = desk.ledger.log.segments[desk.ledger.log.current] - before - one
    assert hundred < 100 * one


async def test_a_delivered_message_is_finished_and_remembered(desk: Desk) -> None:
    message = await desk.accept(1)
    settlement = await desk.settle(report(message.id, Kind.DELIVERED))
    assert settlement.finished
    assert desk.ledger.standing(message.id) is Standing.FINISHED
    index = desk.yard.index()
    assert not len(index)
    assert index.standing(message.id) is Standing.FINISHED


async def test_a_deferred_recipient_waits_by_the_curve(desk: Desk) -> None:
    message = await desk.accept(1)
    await desk.settle(report(message.id, Kind.DEFERRED, "later\n"))
    found = desk.yard.index().get(message.id)
    assert found is not None
    [recipient] = found.recipients
    assert (recipient.state, recipient.attempts, recipient.next_attempt_ms) == (State.WAITING, 1, NOW + 100_000)
    assert recipient.report == "later\n"


async def test_a_message_that_is_too_old_fails_with_qmails_words(desk: Desk) -> None:
    message = await desk.accept(1)
    settlement = await desk.settle(report(message.id, Kind.DEFERRED, "later\n"), NOW + 604_800_001)
    assert settlement.settled is not None
    assert settlement.settled.kind == Kind.FAILED
    assert settlement.settled.report.endswith("this message has been in the queue too long.\n")


async def test_an_attempt_that_began_in_time_is_not_the_last(desk: Desk) -> None:
    message = await desk.accept(1)
    began_in_time = replace(report(message.id, Kind.DEFERRED, "later\n"), began_ms=NOW + 604_800_000)
    settlement = await desk.settle(began_in_time, NOW + 604_900_000)
    assert settlement.settled is not None
    assert settlement.settled.kind == Kind.DEFERRED
    settlement = await desk.settle(report(message.id, Kind.DEFERRED, "later\n", attempt=2), NOW + 604_900_001)
    assert settlement.settled is not None
    assert settlement.settled.kind == Kind.FAILED


async def test_no_message_ages_by_a_gap_or_expires_while_ages_are_in_doubt(desk: Desk) -> None:
    """A gap of a year, of which nobody knows that it passed, and a start that found no record of the time before."""
    message, year_ms = await desk.accept(1), 365 * 86_400_000
    line = Timeline(Reading(NOW, 0, ""), NOW, (Gap(NOW + 1, year_ms),))
    later_ms = NOW + year_ms + 600_000_000
    desk.ledger.time = LogTime(line, SystemClock())
    settlement = await desk.settle(report(message.id, Kind.DEFERRED), later_ms)
    assert settlement.settled is not None
    assert settlement.settled.kind == Kind.DEFERRED
    assert 0 < settlement.settled.next_attempt_ms - later_ms < 5 * 3_600_000
    desk.ledger.time = LogTime(replace(line, doubt_until_ms=later_ms + 20_000_000), SystemClock())
    settlement = await desk.settle(report(message.id, Kind.DEFERRED, attempt=2), later_ms + 10_000_000)
    assert settlement.settled is not None
    assert settlement.settled.kind == Kind.DEFERRED
    settlement = await desk.settle(report(message.id, Kind.DEFERRED, attempt=3), later_ms + 20_000_000)
    assert settlement.settled is not None
    assert settlement.settled.kind == Kind.FAILED


async def test_failure_end_and_bounce_share_a_frame(desk: Desk) -> None:
    message = await desk.accept(1)
    settlement = await desk.settle(report(message.id, Kind.FAILED, "Sorry. (#5.1.1)\n"))
    [bounce] = settlement.children
    assert settlement.finished
    assert settlement.bounced_to == bounce.id
    assert bounce.recipients[0].address == "from@there.example"
    assert b"<a@here.example>:\nSorry. (#5.1.1)\n" in desk.ledger.body(bounce)
    assert set(desk.yard.index().ids()) == {bounce.id}


async def test_two_outcomes_in_one_frame_see_each_other(desk: Desk) -> None:
    message = await desk.accept(1, to="a@here.example b@here.example")
    first, second = await asyncio.gather(
        desk.settle(report(message.id, Kind.DELIVERED, recipient=0)),
        desk.settle(report(message.id, Kind.DELIVERED, recipient=1)),
    )
    assert (first.finished, second.finished) == (False, True)


async def test_a_repeated_report_changes_nothing(desk: Desk) -> None:
    message = await desk.accept(1)
    await desk.settle(report(message.id, Kind.FAILED))
    again = await desk.settle(report(message.id, Kind.FAILED))
    assert again == Settlement()
    assert len(desk.yard.index()) == 1


async def test_what_is_reported_of_a_settled_recipient_changes_nothing(desk: Desk) -> None:
    message = await desk.accept(1, to="a@here.example b@here.example")
    await desk.settle(report(message.id, Kind.DELIVERED))
    assert await desk.settle(report(message.id, Kind.FAILED, attempt=2)) == Settlement()
    assert message.recipients[0].state is State.DELIVERED


async def test_a_late_deferral_does_not_undo_a_later_attempt(desk: Desk) -> None:
    message = await desk.accept(1)
    await desk.settle(report(message.id, Kind.DEFERRED, "second\n", attempt=2))
    assert await desk.settle(report(message.id, Kind.DEFERRED, "first\n", attempt=1)) == Settlement()
    assert message.recipients[0].report == "second\n"


async def test_a_late_delivery_counts(desk: Desk) -> None:
    message = await desk.accept(1)
    await desk.settle(report(message.id, Kind.DEFERRED, attempt=2))
    assert (await desk.settle(report(message.id, Kind.DELIVERED, attempt=1))).finished


async def test_a_forward_is_the_same_message_however_often_it_is_reported(desk: Desk) -> None:
    message = await desk.accept(1, b"Subject: x\n\nbody\n")
    forward = Forward("from@there.example", ("b@there.example",), "Delivered-To: a@here.example\n", 0)
    forwarded = replace(report(message.id, Kind.DELIVERED), forwards=(forward,))
    settlement = await desk.settle(forwarded)
    [child] = settlement.children
    assert desk.ledger.body(child).endswith(b"\nDelivered-To: a@here.example\nSubject: x\n\nbody\n")
    assert (await desk.settle(forwarded)).children == []
    assert set(desk.yard.index().ids()) == {child.id}


@pytest.mark.parametrize("ended", [False, True])
async def test_a_forward_that_two_attempts_report_is_made_once(desk: Desk, ended: bool) -> None:
    """Two workers were at the same attempt: the stream of one broke, and its delivery was given to the other."""
    message = await desk.accept(1)
    forward = Forward("from@there.example", ("b@there.example",), "Delivered-To: a@here.example\n", 0)
    deferred = replace(report(message.id, Kind.DEFERRED), forwards=(forward,))
    delivered = replace(report(message.id, Kind.DELIVERED), forwards=(forward,))
    [child] = (await desk.settle(deferred)).children
    if ended:
        await desk.settle(report(child.id, Kind.DELIVERED))
    settlement = await desk.settle(delivered, NOW + 1_000)
    assert (settlement.finished, settlement.children) == (True, [])
    assert desk.ledger.standing(child.id) is (Standing.FINISHED if ended else Standing.LIVE)
    assert list(desk.yard.index().ids()) == ([] if ended else [child.id])


async def test_a_forward_that_is_reported_twice_at_once_is_made_once(desk: Desk) -> None:
    message = await desk.accept(1)
    forward = Forward("from@there.example", ("b@there.example",), "Delivered-To: a@here.example\n", 0)
    first, second = await asyncio.gather(
        desk.settle(replace(report(message.id, Kind.DEFERRED), forwards=(forward, forward))),
        desk.settle(replace(report(message.id, Kind.DELIVERED), forwards=(forward,)), NOW + 1_000),
    )
    assert (len(first.children), len(second.children)) == (1, 0)


async def test_a_large_body_is_shared_and_removed_with_its_last_message(desk: Desk) -> None:
    body = b"x" * (INLINE_MAX_OCTETS + 1)
    message = await desk.accept(1, body)
    large = Path(desk.ledger.log.path, "large", message.large)
    assert large.stat().st_size == len(body)
    forward = Forward("f@there.example", ("b@there.example",), "Delivered-To: a@here.example\n", 0)
    settlement = await desk.settle(replace(report(message.id, Kind.DELIVERED), forwards=(forward,)))
    [child] = settlement.children
    assert desk.ledger.body(child).endswith(body)
    assert large.exists()
    await desk.settle(report(child.id, Kind.DELIVERED))
    await desk.refuse(99)  # a later commit goes through the same thread
    assert not large.exists()


async def test_a_large_message_whose_producer_went_away_may_be_offered_again(desk: Desk) -> None:
    body = b"x" * (INLINE_MAX_OCTETS + 1)
    incoming = Incoming(an_id(1), "from@there.example", ("a@here.example",), body, uid=7)
    first = asyncio.create_task(desk.ledger.accept(incoming, NOW, lambda message: None))
    await asyncio.sleep(0)
    asked: list[bool] = []
    desk.ledger.when_known(an_id(1), asked.append)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert asked == [False]
    assert desk.ledger.standing(an_id(1)) is Standing.UNKNOWN
    assert desk.ledger.body(await desk.accept(1, body)) == body


async def test_a_tombstone_is_for_ever(desk: Desk) -> None:
    assert await desk.refuse(1)
    assert desk.ledger.standing(an_id(1)) is Standing.REFUSED
    assert desk.yard.index().standing(an_id(1)) is Standing.REFUSED


async def test_nothing_is_told_once_the_log_is_lost(desk: Desk) -> None:
    await desk.accept(1)
    desk.yard.take()
    future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
    await desk.ledger.accept(Incoming(an_id(2), "", ("a@here.example",), b"x\n", 0), NOW, future.set_result)
    assert await future is None
    assert len(desk.failures) == 1
    assert not await desk.refuse(3)


async def test_reclaiming_keeps_what_lives_and_what_is_remembered(yard: Yard) -> None:
    desk = Desk(yard, segment_octets=20_000)
    log = desk.ledger.log
    for number in range(60):
        await desk.accept(number, b"y" * 1_000)
    for number in range(60):
        kind = Kind.DEFERRED if number % 20 == 0 else Kind.DELIVERED
        await desk.settle(report(an_id(number), kind, "not yet\n"))
    await desk.refuse(1_000)
    before = len(log.segments)
    while await reclaim(desk.ledger, Events("t", SystemClock())):
        pass
    assert len(log.segments) < before
    assert [desk.ledger.body(message) for message in held(desk.ledger.index)] == [b"y" * 1_000] * 3
    desk.task.cancel()
    desk.ledger.commits.close()
    index = yard.index()
    assert set(index.ids()) == {an_id(0), an_id(20), an_id(40)}
    assert all(message.recipients[0].report == "not yet\n" for message in held(index))
    assert index.standing(an_id(7)) is Standing.FINISHED
    assert index.standing(an_id(1_000)) is Standing.REFUSED


async def test_what_ends_while_its_segment_is_reclaimed_stays_ended(yard: Yard) -> None:
    """Its end is decided and not yet committed when the snapshot would be taken."""
    desk = Desk(yard, segment_octets=20_000)
    for number in range(30):
        await desk.accept(number, b"y" * 1_000)
    for number in range(1, 30):
        await desk.settle(report(an_id(number), Kind.DELIVERED))
    ends: list[Settlement | None] = []
    desk.ledger.settle(report(an_id(0), Kind.DELIVERED), NOW, ends.append)
    assert await reclaim(desk.ledger, Events("t", SystemClock()))
    assert ends[0] is not None
    desk.task.cancel()
    desk.ledger.commits.close()
    index = yard.index()
    assert not len(index)
    assert index.standing(an_id(0)) is Standing.FINISHED


async def test_who_goes_away_before_the_commit_leaves_the_log_at_work(yard: Yard) -> None:
    """The end of the service cancels a reclaiming whose snapshots are on their way to the disk."""
    desk = Desk(yard, segment_octets=20_000)
    for number in range(40):
        await desk.accept(number, b"y" * 1_000)
    for number in range(1, 40):
        await desk.settle(report(an_id(number), Kind.DELIVERED))
    reclaiming = asyncio.create_task(reclaim(desk.ledger, Events("t", SystemClock())))
    while desk.ledger.commits.idle:
        await asyncio.sleep(0)
    reclaiming.cancel()
    await asyncio.gather(reclaiming, return_exceptions=True)
    await desk.accept(100)
    assert not desk.task.done()
