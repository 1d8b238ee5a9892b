"""What a worker keeps, to whom it tells it, and when it may go on: its streams' words in, its words out."""

from collections.abc import Collection

import pytest

from mail.outcome import Delivered
from mail.routing import Channel
from proto import work_pb2
from runtime.config import Address
from runtime.worker import BEAT_S, ORPHAN_S, Delivery, Result, Worker, _Stream
from tests.harness.replica import HandClock, Surroundings

LOG, OTHER_LOG = "0a1b2c3d", "ffffffff"
DONE = Result(0, Delivered("did 1+0+0\n"))


class Desk:
    """A worker with ten slots, and what it has taken."""

    def __init__(self) -> None:
        process = Surroundings("remote-0")
        self.clock: HandClock = process.clock  # type: ignore[assignment]
        self.worker = Worker(Channel.REMOTE, (Address("127.0.0.1", 1),), 10, process)
        self.taken: list[Delivery] = []
        self.worker._take = self.taken.extend

    def stream(self, *logs: str) -> _Stream:
        """A live stream to a replica that says which logs it owns."""
        stream = self.worker._open()
        self.owns(stream, *logs)
        return stream

    def owns(self, stream: _Stream, *logs: str) -> None:
        self.hear(stream, work_pb2.QueueMessage(hello=work_pb2.QueueHello(logs=logs, cluster="test")))

    def hear(self, stream: _Stream, message: work_pb2.QueueMessage) -> None:
        self.worker._hear(stream, message)

    def give(self, stream: _Stream, key: str = "key", recipients: Collection[int] = (0,), size: int = 2) -> None:
        to = [work_pb2.Recipient(index=index, address="a@far.example") for index in recipients]
        delivery = work_pb2.Delivery(key=key, log=LOG, id="id", recipients=to, body=b"x\n", size=size)
        self.hear(stream, work_pb2.QueueMessage(deliveries=[delivery]))

    def acknowledge(self, stream: _Stream, key: str = "key", recipient: int = 0, not_owner: bool = False) -> None:
        ack = work_pb2.Ack(key=key, recipient=recipient, not_owner=not_owner)
        self.hear(stream, work_pb2.QueueMessage(acks=[ack]))

    def settle(self, *results: Result) -> None:
        self.worker.settle(self.taken[0], results or (DONE,))

    def held(self) -> dict[str, list[int]]:
        """What it names on a new stream."""
        return {one.key: sorted(one.recipients) for one in self.worker._hello().held}


def waiting(stream: _Stream) -> list[tuple[str, int]]:
    """What waits to be told on a stream."""
    return [(outcome.key, outcome.recipient) for outcome in stream.outcomes]


@pytest.fixture
async def desk() -> Desk:
    return Desk()


async def test_an_outcome_is_kept_until_it_is_acknowledged(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner)
    desk.settle()
    assert waiting(owner) == [("key", 0)]
    assert desk.held() == {"key": [0]}
    desk.acknowledge(owner)
    assert not desk.worker.holds("key")


async def test_who_is_not_the_owner_acknowledges_nothing(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner)
    desk.settle()
    desk.acknowledge(owner, not_owner=True)
    assert desk.worker.holds("key")


async def test_a_delivery_is_held_until_all_its_recipients_are_acknowledged(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner, recipients=(0, 3))
    desk.settle(DONE)
    desk.acknowledge(owner)
    assert desk.held() == {"key": [3]}
    desk.settle(Result(3, Delivered("x\n")))
    assert desk.held() == {"key": [3]}
    desk.acknowledge(owner, recipient=3)
    assert not desk.worker.holds("key")


async def test_an_acknowledgement_of_what_nobody_holds_is_nothing(desk: Desk) -> None:
    desk.acknowledge(desk.stream(LOG), "another")


async def test_a_new_owner_is_told_again_what_the_last_one_did_not_acknowledge(desk: Desk) -> None:
    former, later = desk.stream(LOG), desk.stream()
    desk.give(former)
    desk.settle()
    former.tell_holding = later.tell_holding = False
    desk.owns(later, LOG)
    assert waiting(later) == [("key", 0)]
    assert later.tell_holding, "and what goes on in the log"


async def test_the_owner_that_is_left_is_told_what_a_lost_stream_did_not_acknowledge(desk: Desk) -> None:
    left, lost = desk.stream(LOG), desk.stream(LOG)
    desk.give(lost)
    desk.settle()
    assert waiting(left) == []
    desk.worker._close(lost)
    assert waiting(left) == [("key", 0)]


async def test_an_owner_that_lets_a_log_go_is_told_no_more_of_it(desk: Desk) -> None:
    former = desk.stream(LOG)
    desk.give(former)
    later = desk.stream(LOG)
    desk.owns(later)
    desk.settle()
    assert (waiting(former), waiting(later)) == ([("key", 0)], [])


async def test_what_is_settled_while_nobody_owns_the_log_is_told_to_the_next(desk: Desk) -> None:
    former = desk.stream(LOG)
    desk.give(former)
    desk.worker._close(former)
    desk.settle()
    assert waiting(desk.stream(LOG)) == [("key", 0)]


async def test_the_last_who_said_that_the_log_is_his_is_the_owner(desk: Desk) -> None:
    stuck = desk.stream(LOG)
    desk.give(stuck)
    later = desk.stream(LOG)
    desk.settle()
    assert (waiting(stuck), waiting(later)) == ([], [("key", 0)])


async def test_a_worker_whose_owner_is_silent_stops_before_another_may_start(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner)
    [delivery] = desk.taken
    assert desk.worker.may_proceed(delivery)
    for _ in range(3):
        desk.clock.forward(ORPHAN_S - 1)
        assert desk.worker.may_proceed(delivery)
        desk.hear(owner, work_pb2.QueueMessage())
    desk.clock.forward(ORPHAN_S + 1)
    assert not desk.worker.may_proceed(delivery), "the stream looks alive, and nobody speaks"


async def test_a_worker_without_an_owner_stops_when_that_was_heard_of_too_long_ago(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner)
    [delivery] = desk.taken
    desk.clock.forward(ORPHAN_S - 1)
    desk.worker._close(owner)
    assert desk.worker.may_proceed(delivery)
    desk.clock.forward(2)
    assert not desk.worker.may_proceed(delivery), "counted from the last word, not from the end of the stream"


async def test_nothing_is_begun_for_a_log_that_nobody_ever_owned(desk: Desk) -> None:
    desk.give(desk.stream(OTHER_LOG))
    assert not desk.worker.may_proceed(desk.taken[0])


async def test_a_delivery_that_is_under_way_is_not_begun_again_and_costs_no_slot(desk: Desk) -> None:
    former = desk.stream(LOG)
    desk.give(former)
    later = desk.stream(LOG)
    later.ended = 0
    desk.give(later)
    assert len(desk.taken) == 1
    assert later.ended == 1


async def test_what_a_former_owner_gives_out_is_not_begun_unless_the_log_is_its_after_all(desk: Desk) -> None:
    """It may have slept, and give out what the new owner has given out before."""
    former, later = desk.stream(LOG), desk.stream(LOG)
    desk.give(former)
    assert desk.taken == []
    desk.owns(later)
    assert [one.key for one in desk.taken] == ["key"]


async def test_what_a_former_owner_gave_out_goes_with_its_stream(desk: Desk) -> None:
    former, later = desk.stream(LOG), desk.stream(LOG)
    desk.give(former)
    desk.worker._close(former)
    desk.owns(later)
    assert (desk.taken, desk.held()) == ([], {})
    await desk.worker.drain(1.0)


async def test_a_settled_delivery_gives_its_slot_back_where_it_came_from(desk: Desk) -> None:
    former = desk.stream(LOG)
    desk.give(former)
    later = desk.stream(LOG)
    desk.settle()
    assert (former.ended, later.ended) == (1, 0)


async def test_a_body_in_pieces_is_one_delivery_when_it_is_whole(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner, size=6)
    for data in (b"ab", b"cd"):
        assert desk.taken == []
        chunk = work_pb2.DeliveryChunk(key="key", data=data)
        desk.hear(owner, work_pb2.QueueMessage(chunks=[chunk]))
    assert [one.body for one in desk.taken] == [b"x\nabcd"]
    desk.hear(owner, work_pb2.QueueMessage(chunks=[work_pb2.DeliveryChunk(key="other", data=b"x")]))


async def test_a_body_whose_stream_broke_was_never_given(desk: Desk) -> None:
    owner = desk.stream(LOG)
    desk.give(owner, size=6)
    desk.worker._close(owner)
    assert desk.held() == {}
    await desk.worker.drain(1.0)


async def test_each_stream_has_its_part_of_the_slots(desk: Desk) -> None:
    streams = [desk.stream() for _ in range(3)]
    assert sorted(stream.slots for stream in streams) == [3, 3, 4]
    desk.worker._close(streams[0])
    assert [stream.slots for stream in streams[1:]] == [5, 5]


def test_the_times_are_those_of_the_design() -> None:
    assert (ORPHAN_S, BEAT_S) == (20.0, 5.0)
