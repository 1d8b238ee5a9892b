"""A large backlog: what a message at rest costs in memory, and that a scan gives back every one. No times."""

import gc
import tracemalloc
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.durable import Disk
from runtime.events import Events
from services.queue import records
from services.queue.errand import errands_of
from services.queue.frame import Span
from services.queue.index import AWAKE_MAX, Index
from services.queue.names import Position, SegmentName
from services.queue.plan import Plan
from services.queue.spool import Spool
from services.queue.takeover import Taker
from tests.harness.backlog import Backlog, fill, recipient, records_of, report, sender

NOW_MS = 1_790_000_000_000
AT_REST = 10_000
MESSAGES = 20_000
# A million of them in 300 MB: the promise of one replica.
OCTETS_MAX = 300


def held_octets() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("deferred", [False, True], ids=["never tried", "deferred once"])
def test_a_message_at_rest_and_its_errand_take_no_more_than_promised(deferred: bool) -> None:
    """Those that are kept as objects are AWAKE_MAX however many there are: what is counted came after them."""
    index, plan = Index(), Plan()
    backlog = Backlog(AWAKE_MAX + AT_REST, deferred=deferred)
    before = place = 0
    tracemalloc.start()
    for number, told in enumerate(records_of(backlog, NOW_MS)):
        if number == AWAKE_MAX:
            before = held_octets()
        for said in told:
            index.learn(said, Position(SegmentName(1, 1 + place // 2**26), Span(place % 2**26, 100), 1_024))
            place += 1_124
        message = index.look_at(told[0].id)
        assert message is not None
        for errand in errands_of(message):
            plan.put(errand, NOW_MS)
    octets = held_octets() - before
    tracemalloc.stop()
    assert len(index) == len(plan) == backlog.messages
    assert octets / AT_REST <= OCTETS_MAX


def test_a_scan_gives_back_every_message_as_it_was(tmp_path: Path) -> None:
    fill(str(tmp_path), Backlog(MESSAGES, octets=100, deferred=True))
    spool, index, told = Spool(str(tmp_path), Disk()), Index(), list[records.Accepted]()

    def learn(said: records.Said, at: Position) -> None:
        index.learn(said, at)
        if isinstance(said, records.Accepted):
            told.append(said)

    [name] = spool.logs()[0]
    log = Taker(spool, Disk(), "queue-1", Events("queue-1", SystemClock())).take(name, 0, learn).log
    assert list(index.ids()) == sorted(said.id for said in told)
    assert len(told) == MESSAGES
    for number, said in enumerate(told):
        found = index.look_at(said.id)
        assert found is not None
        assert (found.sender, found.arrived_ms, found.size) == (sender(number), said.arrived_ms, 100)
        [to] = found.recipients
        assert (to.address, to.attempts) == (recipient(number), 1)
        assert log.said(to.told) == records.Settled(said.id, 0, 0, 1, to.next_attempt_ms, report(number))
        assert len(log.read(found.position, found.body_crc)) == 100
    log.close()
