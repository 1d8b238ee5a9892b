"""What a log refuses to do and whom it does not follow: an owner that is one no more, a link, a file that was cut."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.queue import records
from services.queue.log import DamagedBody, Log, LostLog
from services.queue.names import LogName, Position, SegmentName
from services.queue.spool import LOCK, Spool, try_lock
from services.queue.takeover import Taker
from tests.harness.replica import Heard
from tests.harness.yard import Yard, accepted, an_id, crc, ids_of

BODY = b"the body\n"


def segment_path(log: Log, segment: SegmentName) -> Path:
    return Path(log.path, str(segment))


def replace_by_link(path: Path, elsewhere: Path) -> None:
    """The same octets, reached by a link."""
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


# -- an owner that is one no more -------------------------------------------------------------------------------------


def test_a_log_that_is_taken_while_it_syncs_acknowledges_nothing(yard: Yard) -> None:
    """The re-check comes after the sync: before it, it would have found all well."""

    class TakenMeanwhile(Disk):
        armed = False

        def sync_data(self, fd: int) -> None:
            super().sync_data(fd)
            if self.armed:
                self.armed = False
                yard.take()

    disk = TakenMeanwhile()
    log = Taker(yard.spool, disk, "queue-0", Heard("queue-0")).create("0a1b2c3d", 0).log
    yard.open_logs.append(log)
    disk.armed = True
    with pytest.raises(LostLog):
        log.append([accepted(1)])


def test_who_has_lost_the_log_stores_no_large_body_and_makes_no_spare(yard: Yard) -> None:
    log = yard.create()
    yard.take()
    with pytest.raises(LostLog):
        log.store_large(an_id(1), b"x")
    with pytest.raises(LostLog):
        log.make_spare()


def test_a_log_that_is_taken_while_it_makes_a_spare_says_so(yard: Yard) -> None:
    class TakenMeanwhile(Disk):
        def preallocate(self, fd: int, octets: int) -> None:
            super().preallocate(fd, octets)
            if len(yard.open_logs) == 1:
                yard.take()

    log = yard.create()
    log._disk = TakenMeanwhile()
    with pytest.raises(LostLog):
        log.make_spare()


def test_segments_go_from_the_oldest_upwards_and_never_the_one_that_is_written(yard: Yard) -> None:
    yard.segment_octets = 4_096
    log = yard.create()
    for number in range(10):
        log.append([accepted(number, b"x" * 1_000)])
    with pytest.raises(AssertionError, match="oldest"):
        log.remove_segment(list(log.segments)[1])
    while len(log.segments) > 1:
        log.remove_segment(next(iter(log.segments)))
    with pytest.raises(AssertionError, match="written"):
        log.remove_segment(log.current)


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_a_segment_and_the_spare_have_their_blocks(yard: Yard) -> None:
    log = yard.create()
    assert log.make_spare()
    for name in (str(log.current), "spare"):
        found = Path(log.path, name).stat()
        assert (found.st_size, found.st_blocks * 512 >= yard.segment_octets) == (yard.segment_octets, True)


def test_a_full_disk_makes_no_spare_and_leaves_nothing(yard: Yard) -> None:
    class Full(Disk):
        def preallocate(self, fd: int, octets: int) -> None:
            raise OSError(28, "No space left on device")

    log = yard.create()
    log._disk = Full()
    assert not log.make_spare()
    assert not [name for name in os.listdir(log.path) if name.startswith("spare")]
    log._disk = Disk()
    Path(log.path, "spare.draft").write_bytes(b"of an owner that died")
    assert log.make_spare()
    assert log.make_spare(), "it is there"


def test_a_disk_that_fails_while_it_makes_a_spare_is_no_full_one(yard: Yard) -> None:
    class Failing(Disk):
        def sync_file(self, fd: int) -> None:
            raise OSError(5, "Input/output error")

    log = yard.create()
    log._disk = Failing()
    with pytest.raises(OSError, match="Input/output error"):
        log.make_spare()


def test_a_spare_that_is_too_small_is_not_taken(yard: Yard) -> None:
    log = yard.create()
    Path(log.path, "spare").write_bytes(b"\0" * 100)
    first = log.current
    log.append([accepted(1, b"x" * (yard.segment_octets - 200))])
    log.append([accepted(2, b"x" * 500)])
    assert log.current != first
    assert segment_path(log, log.current).stat().st_size == yard.segment_octets
    assert Path(log.path, "spare").exists()


def test_a_full_segment_ends_where_its_footer_does(yard: Yard) -> None:
    log = yard.create()
    first = log.current
    for number in range(2):
        log.append([accepted(number, b"x" * (yard.segment_octets * 2 // 3))])
    assert segment_path(log, first).stat().st_size == log.segments[first] < yard.segment_octets


def test_a_segment_with_its_footer_is_never_longer_than_it_may_be(yard: Yard) -> None:
    """The footer's room is kept free, however small the frames are."""
    yard.segment_octets = 16_384
    log = yard.create()
    for number in range(300):
        log.append([accepted(number, b"x" * (number % 60))])
    assert len(log.segments) > 3
    for segment, length in log.segments.items():
        assert length <= yard.segment_octets, segment
    yard.take()
    assert ids_of(yard.learned) == [an_id(number) for number in range(300)]


# -- what does not read -----------------------------------------------------------------------------------------------


def test_a_segment_that_was_cut_or_is_gone_gives_no_body(yard: Yard) -> None:
    log = yard.create()
    [at] = log.append([accepted(1, BODY)])
    assert log.read(at, crc(BODY)) == BODY
    os.truncate(segment_path(log, at.segment), at.body.offset + 3)
    with pytest.raises(DamagedBody, match="ends before"):
        log.read(at, crc(BODY))
    with pytest.raises(DamagedBody, match="ends before"):
        log.read(at, crc(BODY[:3]))
    gone = Position(SegmentName(at.segment.token, 77), at.fields, at.body_octets)
    with pytest.raises(DamagedBody, match="No such file"):
        log.read(gone, crc(BODY))


def test_a_large_body_that_is_gone_is_damage(yard: Yard) -> None:
    log = yard.create()
    name = log.store_large(an_id(1), BODY)
    log.remove_large(name)
    with pytest.raises(DamagedBody):
        log.read_large(name)


def test_a_record_that_does_not_read_is_damage(yard: Yard) -> None:
    log = yard.create()
    [at] = log.append([records.Settled(an_id(1), 0, 2, 1, 0, "why\n", ())])
    assert isinstance(log.said(at), records.Settled)
    with segment_path(log, at.segment).open("r+b") as file:
        file.seek(at.fields.offset)
        file.write(b"\xff" * at.fields.octets)
    with pytest.raises(DamagedBody):
        log.said(at)


# -- links ------------------------------------------------------------------------------------------------------------


def test_a_link_in_place_of_a_segment_is_not_read(yard: Yard, tmp_path: Path) -> None:
    log = yard.create()
    [at] = log.append([accepted(1, BODY)])
    replace_by_link(segment_path(log, at.segment), tmp_path / "elsewhere")
    with pytest.raises(DamagedBody):
        log.read(at, crc(BODY))


def test_a_link_in_place_of_a_segment_is_not_taken_over(yard: Yard, tmp_path: Path) -> None:
    log = yard.create()
    log.append([accepted(1, BODY)])
    replace_by_link(segment_path(log, log.current), tmp_path / "elsewhere")
    yard.take()
    assert ids_of(yard.learned) == []


def test_a_link_in_place_of_a_lock_is_not_followed(yard: Yard, tmp_path: Path) -> None:
    log = yard.create()
    lock = Path(log.path, LOCK)
    lock.unlink(missing_ok=True)
    lock.symlink_to(tmp_path / "elsewhere")
    assert try_lock(log.path) is None
    assert not (tmp_path / "elsewhere").exists()


def test_a_link_in_place_of_a_segment_to_come_is_not_written_through(yard: Yard, tmp_path: Path) -> None:
    log = yard.create()
    log.close()
    segment_path(log, SegmentName(log.name.token, log.current.number + 1)).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        log.append([accepted(1)])
    assert not (tmp_path / "elsewhere").exists()


# -- tokens -----------------------------------------------------------------------------------------------------------


def forget_tokens(yard: Yard) -> None:
    for name in os.listdir(f"{yard.spool.path}/tokens"):
        Path(yard.spool.path, "tokens", name).unlink()


def in_the_name(yard: Yard) -> None:
    Path(yard.spool.path, "logs", str(LogName("0a1b2c3d", 50, "queue-0"))).mkdir()
    forget_tokens(yard)


def in_a_segment(yard: Yard) -> None:
    log = Path(yard.spool.path, "logs", str(LogName("0a1b2c3d", 3, "queue-0")))
    log.mkdir()
    (log / str(SegmentName(50, 1))).write_bytes(b"")
    forget_tokens(yard)


def in_a_token(yard: Yard) -> None:
    Path(yard.spool.path, "tokens", f"{50:010}").write_bytes(b"")


@pytest.mark.parametrize("seen", [in_the_name, in_a_segment, in_a_token])
def test_a_token_is_above_every_one_that_was_ever_used(yard: Yard, seen: Callable[[Yard], None]) -> None:
    seen(yard)
    assert yard.spool.claim_token(7) == 51


def test_two_who_claim_at_once_get_different_tokens(yard: Yard) -> None:
    class Late(Spool):
        """One who looked before the other claimed."""

        def _tokens_seen(self) -> list[int]:
            return [0]

    late = Late(yard.spool.path, Disk())
    claims = [yard.spool, late, yard.spool, late, late]
    assert [one.claim_token(0) for one in claims] == [1, 2, 3, 4, 5], "also when the files of lower ones are gone"


def test_octets_that_count_for_nothing_are_copied_aside_up_to_a_limit(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = yard.spool.set_aside("label", b"x" * 100)
    assert Path(where).read_bytes() == b"x" * 100
