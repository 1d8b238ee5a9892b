"""The log on a real disk: what is committed is there for the next owner, what is not never counts."""

import os
from pathlib import Path

import pytest

from mail.ids import MessageId
from services.queue import records
from services.queue.log import DamagedBody, Log, LostLog
from services.queue.names import Position
from services.queue.spool import try_lock
from tests.harness.yard import Yard, accepted, an_id, crc, ids_of


def segment_path(log: Log) -> Path:
    return Path(log.path) / str(log.current)


def test_the_next_owner_learns_every_frame_in_order(yard: Yard) -> None:
    log = yard.create()
    for number in range(5):
        log.append([accepted(number)])
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(5)]


def test_taking_over_again_and_again_changes_nothing(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1), accepted(2)])
    for turn in range(5):
        yard.take(f"queue-{turn}")
        assert sorted(ids_of(yard.learned)) == [an_id(1), an_id(2)]


def test_the_last_frame_is_copied_forward_with_its_bodies(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1, b"first\n")])
    log.append([accepted(2, b"second\n")])
    where: dict[MessageId, Position] = {}
    [name] = yard.spool.logs()[0]

    def learn(said: records.Said, at: Position) -> None:
        assert isinstance(said, records.Accepted)
        where[said.id] = at

    taken = yard.taker("queue-1").take(name, 0, learn)
    yard.open_logs.append(taken.log)
    assert where[an_id(1)].segment.token == log.name.token
    assert where[an_id(2)].segment.token == taken.log.name.token
    assert taken.log.read(where[an_id(2)], crc(b"second\n")) == b"second\n"


def test_an_owner_whose_log_was_taken_may_acknowledge_nothing(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1)])
    yard.take()
    with pytest.raises(LostLog):
        log.append([accepted(2)])


def test_what_a_former_owner_writes_after_the_seal_never_counts(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1)])
    yard.take("queue-1")
    with pytest.raises(LostLog):
        log.append([accepted(2)])
    yard.take("queue-2")
    assert ids_of(yard.learned) == [an_id(1)]
    yard.take("queue-3")
    assert ids_of(yard.learned) == [an_id(1)]


def test_a_former_owner_cannot_begin_a_segment(yard: Yard) -> None:
    log = yard.create()
    yard.take()
    log.close()
    with pytest.raises(LostLog):
        log.append([accepted(1)])


def test_a_directory_of_the_same_name_is_not_the_one_that_was_opened(yard: Yard) -> None:
    log = yard.create()
    yard.take()
    os.mkdir(log.path)
    with pytest.raises(LostLog):
        log.recheck()


def test_a_torn_tail_is_cut_and_copied_aside(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1)])
    end = log.segments[log.current]
    log.append([accepted(2)])
    with segment_path(log).open("r+b") as file:
        file.seek(end + 60)
        file.write(b"\0" * 10_000)
    taken = yard.take()
    assert ids_of(yard.learned) == [an_id(1)]
    assert taken.torn > 0
    assert [path.suffix for path in Path(yard.spool.path, "quarantine").iterdir()] == [".torn"]


def test_damage_costs_only_the_frame_that_it_hit(yard: Yard) -> None:
    log = yard.create()
    starts = []
    for number in range(3):
        starts.append(log.segments[log.current])
        log.append([accepted(number)])
    with segment_path(log).open("r+b") as file:
        file.seek(starts[1] + 70)
        file.write(b"X")
    yard.take()
    assert ids_of(yard.learned) == [an_id(0), an_id(2)]
    assert [path.suffix for path in Path(yard.spool.path, "quarantine").iterdir()] == [".damaged"]


def test_a_body_that_changed_on_the_disk_is_not_read(yard: Yard) -> None:
    log = yard.create()
    [position] = log.append([accepted(1, b"the body\n")])
    with segment_path(log).open("r+b") as file:
        file.seek(position.body.offset)
        file.write(b"T")
    with pytest.raises(DamagedBody):
        log.read(position, crc(b"the body\n"))


def test_an_orderly_end_is_known_to_the_next_owner(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1)])
    assert not yard.take("queue-1").clean
    taken = yard.take("queue-2")
    taken.log.append([records.Released()])
    assert yard.take("queue-3").clean
    assert ids_of(yard.learned) == [an_id(1)]


def test_tokens_only_grow_even_when_every_name_is_lost(yard: Yard) -> None:
    log = yard.create()
    first = log.name.token
    second = yard.take("queue-1").log.name.token
    third = yard.spool.claim_token(0)
    assert first < second < third
    assert yard.spool.claim_token(900) == 901


def test_a_log_goes_on_in_the_next_segment(yard: Yard) -> None:
    yard.segment_octets = 4_096
    log = yard.create()
    for number in range(20):
        log.append([accepted(number, b"x" * 1_000)])
    assert len(log.segments) > 3
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(20)]


def test_a_large_body_is_read_back_whole_or_not_at_all(yard: Yard) -> None:
    log = yard.create()
    body = os.urandom(3_000_000)
    name = log.store_large(an_id(1), body)
    assert log.read_large(name) == body
    path = Path(log.path, "large", name)
    path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(DamagedBody):
        log.read_large(name)


def test_foreign_names_in_the_spool_are_not_logs(yard: Yard) -> None:
    yard.create()
    logs = Path(yard.spool.path, "logs")
    (logs / "..hidden").mkdir()
    (logs / "0a1b2c3d.17.queue").mkdir()
    (logs / "link").symlink_to("/")
    names, foreign = yard.spool.logs()
    assert [name.log for name in names] == ["0a1b2c3d"]
    assert foreign == ["..hidden", "0a1b2c3d.17.queue", "link"]


def test_a_new_log_is_locked_before_others_can_see_it(yard: Yard) -> None:
    taken = yard.taker("queue-0").create("0a1b2c3d", 0)
    yard.open_logs.append(taken.log)
    assert taken.lock is not None
    assert try_lock(taken.log.path) is None
    os.close(taken.lock)
    again = try_lock(taken.log.path)
    assert again is not None
    os.close(again)


def test_a_removed_log_is_gone_and_its_token_is_not_used_again(yard: Yard) -> None:
    log = yard.create()
    yard.spool.remove_log(log.name)
    assert yard.spool.logs() == ([], [])
    assert os.listdir(Path(yard.spool.path, "logs")) == []
    assert yard.spool.claim_token(0) > log.name.token


def test_leftovers_are_swept_but_not_what_another_is_making(yard: Yard) -> None:
    logs = Path(yard.spool.path, "logs")
    for name in (
        "gone-0a1b2c3d.0000000001.queue-7",
        "new-0a1b2c3d.0000000002.queue-0",
        "new-0a1b2c3d.0000000003.queue-1",
    ):
        (logs / name / "large").mkdir(parents=True)
    yard.spool.sweep("queue-0")
    assert os.listdir(logs) == ["new-0a1b2c3d.0000000003.queue-1"]


def test_what_was_copied_forward_twice_does_not_outlive_its_end(yard: Yard) -> None:
    """The taker between died at once: all that it wrote is copied on, and its segment is worth nothing any more."""
    yard.create().append([accepted(1)])
    yard.take("queue-1")
    log = yard.take("queue-2").log
    log.append([records.Finished(an_id(1))])
    log._next_segment(0)
    log.append([records.Remembered((), ())])
    while len(log.segments) > 1:
        log.remove_segment(next(iter(log.segments)))
    yard.take("queue-3")
    assert ids_of(yard.learned) == []


def test_a_frame_in_a_segment_that_was_empty_at_the_seal_never_counts(yard: Yard) -> None:
    """A former owner, stopped between making a segment and writing there, goes on much later."""
    former = yard.create()
    former.append([accepted(1)])
    former._next_segment(0)
    log = yard.take("queue-1").log
    with pytest.raises(LostLog):
        former.append([accepted(2)])
    log._next_segment(0)
    log.append([accepted(3)])
    while len(log.segments) > 1:
        log.remove_segment(next(iter(log.segments)))
    yard.take("queue-2")
    assert ids_of(yard.learned) == [an_id(3)]
