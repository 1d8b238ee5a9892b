"""Walking through what a log holds: in order, and past nothing that was there all the time."""

from mail.ids import MessageId
from services.queue import records
from services.queue.index import AWAKE_MAX, Index, Standing
from services.queue.message import snapshot_of
from services.queue.names import NOWHERE
from services.queue.rest import pack, unpack
from tests.harness.yard import accepted, an_id

COUNT = 2 * AWAKE_MAX


def full(numbers: range) -> Index:
    index = Index()
    for number in numbers:
        index.learn(accepted(number), NOWHERE)
    return index


def test_messages_come_in_order_awake_or_at_rest() -> None:
    index = full(range(COUNT))
    for number in range(0, COUNT, 7):
        index.get(an_id(number))
    assert list(index.ids()) == [an_id(number) for number in range(COUNT)]


def test_a_message_that_is_woken_while_others_are_looked_at_is_not_missed() -> None:
    """A worker comes back and names it, or an operator wants it, while a log of a million is being planned."""
    index = full(range(COUNT))
    seen: list[MessageId] = []
    for number, message in enumerate(index.ids()):
        seen.append(message)
        index.get(an_id(min(number + 1_000, COUNT - 1)))  # wakes what is to come, and puts others to rest
    assert seen == [an_id(number) for number in range(COUNT)]


def test_who_holds_a_message_is_known_though_it_rests_and_though_it_is_written_forward() -> None:
    index = full(range(2))
    hold = records.Hold(an_id(0), held=True, by="ann", since_ms=7)
    index.learn(hold, NOWHERE)
    message = index.get(an_id(0))
    assert message is not None
    assert message.held == hold
    assert unpack(an_id(0), pack(message)).held == hold
    said = records.decode(records.encode(snapshot_of(message)))
    index.learn(said, NOWHERE)
    again = index.get(an_id(0))
    assert again is not None
    assert again.held == hold
    index.learn(records.Hold(an_id(0), held=False, by="bob", since_ms=9), NOWHERE)
    assert again.held is None
    assert unpack(an_id(0), pack(again)).held is None


def test_a_message_that_was_removed_is_remembered_as_finished_and_does_not_come_back() -> None:
    index = full(range(2))
    message = index.get(an_id(0))
    assert message is not None
    snapshot = snapshot_of(message)
    index.learn(records.decode(records.encode(records.Removed(an_id(0), "ann", 7))), NOWHERE)
    index.learn(snapshot, NOWHERE)
    assert list(index.ids()) == [an_id(1)]
    assert index.standing(an_id(0)) is Standing.FINISHED
