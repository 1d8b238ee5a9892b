"""Records in the order in which they stand in a log, after all that crashes, copies and snapshots do to it."""

from services.queue import records
from services.queue.frame import Span
from services.queue.index import Index, Standing
from services.queue.names import Position, SegmentName
from tests.harness.yard import accepted, an_id

OLD, NEW = SegmentName(1, 1), SegmentName(2, 1)
LARGE = "large-of-one"


def at(segment: SegmentName, octets: int = 5) -> Position:
    return Position(segment, Span(100, 50), octets)


def snapshot(number: int, *settled: records.Settled) -> records.Snapshot:
    return records.Snapshot(accepted(number), settled)


def test_a_snapshot_does_not_bring_back_what_has_ended() -> None:
    index = Index()
    index.learn(accepted(1), at(OLD))
    index.learn(records.Finished(an_id(1)), at(OLD))
    index.learn(snapshot(1), at(NEW))
    assert (an_id(1) in index, index.standing(an_id(1))) == (False, Standing.FINISHED)


def test_a_later_copy_replaces_the_earlier_one() -> None:
    index = Index()
    first = accepted(1)
    large = records.Accepted(**{name: getattr(first, name) for name in first.__slots__} | {"large": LARGE})
    index.learn(large, at(OLD))
    index.learn(records.Snapshot(large, ()), at(NEW))
    assert (len(index), index.large_users[LARGE]) == (1, 1)
    assert (index.live_octets[OLD], index.live_octets[NEW]) == (0, 5)
    assert (index.told_in(OLD).living, index.told_in(NEW).living) == ([], [an_id(1)])
    index.learn(records.Finished(an_id(1)), at(NEW))
    assert (len(index), dict(index.large_users), index.live_octets[NEW]) == (0, {}, 0)


def test_what_was_written_forward_counts_where_it_stands_now() -> None:
    index = Index()
    index.learn(accepted(1), at(OLD))
    index.learn(accepted(2), at(OLD))
    index.move(an_id(1), at(NEW))
    assert (index.told_in(OLD).living, index.told_in(NEW).living) == ([an_id(2)], [an_id(1)])
    assert (index.live_octets[OLD], index.live_octets[NEW]) == (5, 5)


def test_ids_go_with_the_record_that_remembers_them_last() -> None:
    index = Index()
    for number in (1, 2):
        index.learn(accepted(number), at(OLD))
        index.learn(records.Finished(an_id(number)), at(OLD))
    index.learn(records.Refused(an_id(3)), at(OLD))
    assert (index.told_in(OLD).finished, index.told_in(OLD).refused) == ([an_id(1), an_id(2)], [an_id(3)])
    index.learn(records.Remembered((an_id(1), an_id(2)), (an_id(3),)), at(NEW))
    assert (index.told_in(OLD).finished, index.told_in(OLD).refused) == ([], [])
    assert [index.standing(an_id(number)) for number in (1, 2, 3)] == [
        Standing.FINISHED,
        Standing.FINISHED,
        Standing.REFUSED,
    ]


def test_an_outcome_of_what_is_not_there_is_nothing() -> None:
    index = Index()
    index.learn(records.Settled(an_id(1), 0, 1, 1, 0, "x\n", ()), at(NEW))
    index.learn(accepted(1), at(OLD))
    index.learn(records.Settled(an_id(1), 9, 1, 1, 0, "x\n", ()), at(NEW))
    message = index.look_at(an_id(1))
    assert message is not None
    assert not message.recipients[0].settled
    assert index.get(an_id(2)) is None
    index.move(an_id(2), at(NEW))
