"""What a scan finds: the same by footers as by frames, and by every mixture of both."""

import os
from pathlib import Path

import pytest

from services.queue import footer, records
from services.queue.log import SPARE, DamagedBody, Log, LostLog
from services.queue.names import Position
from tests.harness.recording import RecordingDisk
from tests.harness.yard import Yard, accepted, an_id, crc, ids_of

BODY = b"x" * 1_000


def several_segments(yard: Yard, count: int = 40) -> Log:
    """A log with some full segments, each with its footer, and one that is not full."""
    yard.segment_octets = 12_000
    log = yard.create()
    for number in range(count):
        log.append([accepted(number, BODY)])
    log.append([records.Finished(an_id(3))])
    return log


def test_a_scan_by_footers_finds_what_a_scan_by_frames_finds(yard: Yard) -> None:
    log = several_segments(yard)
    full = [segment for segment in log.segments if segment != log.current]
    assert len(full) > 2
    for segment in full[::2]:  # without its last octet a footer is none
        path = Path(log.path, str(segment))
        os.truncate(path, path.stat().st_size + 1)
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(40)]
    assert records.Finished(an_id(3)) in yard.learned


def test_a_scan_by_footers_reads_no_bodies(yard: Yard) -> None:
    """A damaged body does not hide its message from the scan; it is found when it is read."""
    log = several_segments(yard)
    segment = next(iter(log.segments))
    path = Path(log.path, str(segment))
    octets = bytearray(path.read_bytes())
    at = octets.index(BODY)
    octets[at] ^= 1
    path.write_bytes(octets)
    found: list[Position] = []
    [name] = yard.spool.logs()[0]

    def learn(said: records.Said, position: Position) -> None:
        if isinstance(said, records.Accepted):
            found.append(position)

    taken = yard.taker("queue-1").take(name, 0, learn)
    yard.open_logs.append(taken.log)
    assert len(found) == 40
    with pytest.raises(DamagedBody):
        taken.log.read(found[0], crc(BODY))
    assert taken.log.read(found[1], crc(BODY)) == BODY


def test_every_position_of_a_footer_names_its_record(yard: Yard) -> None:
    log = several_segments(yard)
    [name] = yard.spool.logs()[0]
    told: list[tuple[records.Said, Position]] = []
    taken = yard.taker("queue-1").take(name, 0, lambda said, at: told.append((said, at)))
    yard.open_logs.append(taken.log)
    assert len(told) == 41
    for said, position in told:
        again = taken.log.said(position)
        assert type(again) is type(said)
        if isinstance(said, records.Accepted):
            assert isinstance(again, records.Accepted)
            assert again.id == said.id
            assert taken.log.read(position, crc(BODY)) == BODY
    assert log.segments


def test_a_footer_may_be_the_last_thing_that_an_owner_wrote(yard: Yard) -> None:
    log = several_segments(yard, 5)
    log._end_segment()
    taken = yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(5)]
    assert not taken.clean
    yard.take("queue-2")
    assert ids_of(yard.learned) == [an_id(number) for number in range(5)]


def test_a_segment_of_envelopes_alone_has_no_footer(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footer, "FOOTER_MAX_OCTETS", 500)
    log = several_segments(yard)
    assert all(Path(log.path, str(segment)).stat().st_size == yard.segment_octets for segment in log.segments)
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(40)]


# -- the spare segment ------------------------------------------------------------------------------------------------


def on_disk(log: Log) -> set[str]:
    return {name for name in os.listdir(log.path) if name.endswith(".seg") or name.startswith(SPARE)}


def test_the_spare_becomes_the_next_segment(yard: Yard) -> None:
    yard.segment_octets = 12_000
    log = yard.create()
    assert log.make_spare()
    spare = Path(log.path, SPARE).stat()
    assert spare.st_size == yard.segment_octets
    log._next_segment(0)
    assert not log.has_spare
    assert Path(log.path, str(log.current)).stat().st_ino == spare.st_ino
    log.append([accepted(1)])
    assert log.make_spare()
    yard.take()
    assert ids_of(yard.learned) == [an_id(1)]


def test_the_spare_of_a_dead_owner_serves_the_next(yard: Yard) -> None:
    log = yard.create()
    log.append([accepted(1)])
    assert log.make_spare()
    taken = yard.take()
    assert not taken.log.has_spare
    assert on_disk(taken.log) == {str(segment) for segment in taken.log.segments}


def test_a_spare_that_its_owner_died_making_is_made_anew(yard: Yard) -> None:
    log = yard.create()
    Path(log.path, SPARE + ".draft").write_bytes(b"half")
    assert log.make_spare()
    assert on_disk(log) == {str(log.current), SPARE}


def test_the_spare_of_a_log_that_was_taken_is_not_made(yard: Yard) -> None:
    log = yard.create()
    yard.take()
    with pytest.raises(LostLog):
        log.make_spare()


class FullDisk(RecordingDisk):
    """A disk without room for new blocks."""

    def preallocate(self, fd: int, octets: int) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_disk_is_told_and_what_has_blocks_is_still_written(yard: Yard) -> None:
    yard.segment_octets = 12_000
    log = yard.create()
    assert log.make_spare()
    log._disk = FullDisk()
    for number in range(15):
        log.append([accepted(number, BODY)])
    assert not log.has_spare
    assert not log.make_spare()
    assert on_disk(log) == {str(segment) for segment in log.segments}, "no half-made spare is left"
    assert log.room < 12_000
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(15)]
