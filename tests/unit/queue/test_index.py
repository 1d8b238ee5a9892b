"""Walking through what a log holds: in order, and past nothing that was there all the time."""

from mail.ids import MessageId
from services.queue.index import AWAKE_MAX, Index
from services.queue.names import NOWHERE
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
