"""What must outlive what: an end all copies of its message, a seal the segments that are gone, a body its users."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mail.outcome import Kind
from services.queue import records
from services.queue.log import INLINE_MAX_OCTETS, DamagedBody
from services.queue.reclaim import reclaim
from services.queue.settlement import Forward, Settlement
from tests.contract.queue.test_ledger import NOW, Desk, report
from tests.harness.replica import Heard
from tests.harness.yard import Yard, accepted, an_id, ids_of

LATE = NOW + 604_800_001
FORWARD = Forward("f@there.example", ("b@there.example",), "Delivered-To: a@here.example\n", 3)


@pytest.fixture
async def desk(yard: Yard) -> AsyncIterator[Desk]:
    found = Desk(yard, segment_octets=20_000)
    yield found
    found.task.cancel()
    found.ledger.commits.close()


# -- reclaiming -------------------------------------------------------------------------------------------------------


async def test_no_copy_of_a_message_stands_behind_its_end(desk: Desk) -> None:
    """The end would be reclaimed before the copy, and a scan would bring the message back."""
    for number in range(30):
        await desk.accept(number, b"y" * 1_000)
    for number in range(1, 30):
        await desk.settle(report(an_id(number), Kind.DELIVERED))
    ends: list[Settlement | None] = []
    desk.ledger.settle(report(an_id(0), Kind.DELIVERED), NOW, ends.append)
    assert await reclaim(desk.ledger, Heard("t"))
    assert ends[0] is not None
    desk.yard.take()
    copies = [said for said in desk.yard.learned if isinstance(said, records.Snapshot)]
    assert an_id(0) not in [copy.message.id for copy in copies]


async def test_a_segment_goes_only_when_what_lives_in_it_was_written_forward(desk: Desk) -> None:
    for number in range(30):
        await desk.accept(number, b"y" * 1_000)
    for number in range(1, 30):
        await desk.settle(report(an_id(number), Kind.DELIVERED))
    oldest = next(iter(desk.ledger.log.segments))
    desk.yard.take()
    assert not await reclaim(desk.ledger, Heard("t")), "the copy was not committed"
    [name] = desk.yard.spool.logs()[0]
    assert Path(desk.yard.spool.log_path(name), str(oldest)).exists()
    assert len(desk.failures) == 1


async def test_a_segment_that_lives_and_the_one_that_is_written_stay(desk: Desk) -> None:
    assert not await reclaim(desk.ledger, Heard("t"))
    for number in range(30):
        await desk.accept(number, b"y" * 1_000)
    assert len(desk.ledger.log.segments) > 1
    assert not await reclaim(desk.ledger, Heard("t"))


async def test_what_is_damaged_is_written_forward_and_seen_to_be_damaged(desk: Desk) -> None:
    for number in range(30):
        await desk.accept(number, b"y" * 1_000)
    message = desk.ledger.index.get(an_id(0))
    assert message is not None
    with Path(desk.ledger.log.path, str(message.position.segment)).open("r+b") as file:
        file.seek(message.position.body.offset)
        file.write(b"X")
    for number in range(1, 30):
        await desk.settle(report(an_id(number), Kind.DELIVERED))
    events = Heard("t")
    assert await reclaim(desk.ledger, events)
    assert events.of("alert")
    damaged = desk.ledger.index.get(an_id(0))
    assert damaged is not None
    with pytest.raises(DamagedBody, match="seg at"):
        desk.ledger.body(damaged)
    assert an_id(0) in desk.yard.index()


def test_a_segment_that_comes_back_after_it_was_removed_counts_for_nothing(yard: Yard) -> None:
    """A power cut may undo the removal; every seal since then knows nothing of the segment."""
    former = yard.create()
    former.append([accepted(1)])
    former.append([accepted(2)])
    path, octets = former.current, Path(former.path, str(former.current)).read_bytes()
    log = yard.take("queue-1").log
    log.append([records.Finished(an_id(1))])
    log.append([accepted(3)])
    log.remove_segment(path)
    yard.take("queue-2")
    again = yard.open_logs[-1]
    Path(again.path, str(path)).write_bytes(octets)
    yard.take("queue-3")
    assert an_id(1) not in ids_of(yard.learned)
    assert an_id(3) in ids_of(yard.learned)


# -- large bodies -----------------------------------------------------------------------------------------------------


async def test_a_large_body_stays_as_long_as_anybody_needs_it(desk: Desk) -> None:
    message = await desk.accept(1, b"x" * (INLINE_MAX_OCTETS + 1))
    large = Path(desk.ledger.log.path, "large", message.large)
    settlement = await desk.settle(replace(report(message.id, Kind.DELIVERED), forwards=(FORWARD,)))
    assert settlement.finished
    await desk.refuse(98)  # goes through the same thread, behind a removal if there were one
    await asyncio.sleep(0)
    await desk.refuse(99)
    assert large.exists()


# -- a full disk ------------------------------------------------------------------------------------------------------


async def test_on_a_full_disk_nothing_is_given_up_and_nothing_is_caused(desk: Desk) -> None:
    message = await desk.accept(1)
    desk.ledger.cramped = True
    old = await desk.settle(report(message.id, Kind.DEFERRED), LATE)
    assert old.settled is not None
    assert old.settled.kind == Kind.DEFERRED, "too old, and a bounce needs room"
    failed = await desk.settle(report(message.id, Kind.FAILED, attempt=2), LATE)
    assert (failed.settled and failed.settled.kind, failed.children) == (Kind.DEFERRED, [])
    forwarded = replace(report(message.id, Kind.DELIVERED, attempt=3), forwards=(FORWARD,), done=(1, 3))
    settlement = await desk.settle(forwarded, LATE)
    assert settlement.settled is not None
    assert (settlement.settled.kind, settlement.settled.done, settlement.children) == (Kind.DEFERRED, (1,), [])
    desk.ledger.cramped = False
    assert len((await desk.settle(replace(forwarded, attempt=4), NOW)).children) == 1
