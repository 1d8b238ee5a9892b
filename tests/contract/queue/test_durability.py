"""The order of writes and syncs: what is told stands on the disk, with its name. Without one of them a test fails."""

import os
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.events import Events
from services.queue.log import Log, LostLog
from services.queue.spool import Spool
from services.queue.takeover import Taker
from tests.harness.recording import RecordingDisk
from tests.harness.yard import Yard, accepted, an_id


@pytest.fixture
def disk() -> RecordingDisk:
    return RecordingDisk()


@pytest.fixture
def log(yard: Yard, disk: RecordingDisk) -> Log:
    """A log on the recording disk."""
    found = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(found)
    return found


def taker(yard: Yard, disk: RecordingDisk, owner: str) -> Taker:
    return Taker(Spool(yard.spool.path, disk), disk, owner, Events(owner, SystemClock()), yard.segment_octets)


def test_a_frame_is_synced_before_its_append_returns(log: Log, disk: RecordingDisk) -> None:
    disk.done.clear()
    log.append([accepted(1)])
    assert disk.done == [("write", str(log.current)), ("sync", str(log.current))]


def test_a_segment_and_its_name_are_durable_before_a_frame_goes_in(log: Log, disk: RecordingDisk) -> None:
    log.close()
    disk.done.clear()
    log.append([accepted(1)])
    segment = str(log.current)
    assert disk.done == [
        ("create", segment),
        ("sync", segment),
        ("sync directory", str(log.name)),
        ("write", segment),
        ("sync", segment),
    ]


def test_a_new_log_has_its_token_and_name_on_the_disk_first(yard: Yard, disk: RecordingDisk) -> None:
    made = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(made)
    steps = [(what, name) for what, name in disk.done if what != "create" or name.isdigit()]
    assert steps[:2] == [("create", f"{made.name.token:010}"), ("sync directory", "tokens")]
    assert steps.index(("rename", str(made.name))) + 1 == steps.index(("sync directory", "logs"))
    assert steps.index(("sync directory", "logs")) < steps.index(("write", str(made.current)))


def test_a_taker_syncs_the_rename_and_every_segment_before_it_writes(yard: Yard, disk: RecordingDisk) -> None:
    yard.segment_octets = 4_096
    before = yard.create()
    for number in range(10):
        before.append([accepted(number, b"x" * 1_000)])
    found = [str(segment) for segment in before.segments]
    [name] = yard.spool.logs()[0]
    taken = taker(yard, disk, "queue-1").take(name, 0, lambda said, at: None)
    yard.open_logs.append(taken.log)
    renamed = disk.done.index(("rename", str(taken.log.name)))
    assert disk.done[renamed + 1] == ("sync directory", "logs")
    first_write = next(at for at, (what, _) in enumerate(disk.done) if what == "write")
    assert [name for what, name in disk.done[renamed + 2 : first_write] if what == "sync"][: len(found)] == found
    sealed = disk.done.index(("sync", str(taken.log.current)), first_write)
    gone = [name for what, name in disk.done[: sealed + 1] if what == "unlink" and name.endswith(".seg")]
    assert not gone, "nothing goes before the seal"
    assert disk.done[sealed + 1 :] == [("unlink", found[-1]), ("sync directory", str(taken.log.name))]


def test_a_large_body_is_durable_before_a_frame_can_name_it(log: Log, disk: RecordingDisk) -> None:
    disk.done.clear()
    name = log.store_large(an_id(1), b"x" * 2_000_000)
    assert disk.done[-2:] == [("sync directory", "large"), ("replace", name)]


def test_a_segment_is_removed_only_while_the_log_is_ours(yard: Yard, disk: RecordingDisk) -> None:
    yard.segment_octets = 4_096
    log = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(log)
    for number in range(10):
        log.append([accepted(number, b"x" * 1_000)])
    oldest = next(iter(log.segments))
    disk.done.clear()
    log.remove_segment(oldest)
    assert disk.done == [("unlink", str(oldest)), ("sync directory", str(log.name))]
    assert oldest not in log.segments
    assert not os.path.exists(os.path.join(log.path, str(oldest)))


def test_who_has_lost_the_log_removes_nothing(yard: Yard) -> None:
    yard.segment_octets = 4_096
    log = yard.create()
    for number in range(10):
        log.append([accepted(number, b"x" * 1_000)])
    large = log.store_large(an_id(1), b"x" * 2_000_000)
    yard.take()
    with pytest.raises(LostLog):
        log.remove_segment(next(iter(log.segments)))
    with pytest.raises(LostLog):
        log.remove_large(large)
    with pytest.raises(LostLog):
        log.remove_empty([log.current])


def test_a_spool_is_prepared_durably(tmp_path: Path, disk: RecordingDisk) -> None:
    (tmp_path / "fresh").mkdir()
    Spool(str(tmp_path / "fresh"), disk).prepare("mail.example", "0" * 32)
    assert disk.done.count(("sync directory", "fresh")) == 2, "for FORMAT, and for the directories beside it"


def test_a_log_is_whole_before_it_has_its_name_and_gone_before_it_is_emptied(yard: Yard, disk: RecordingDisk) -> None:
    log = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(log)
    assert disk.done.index(("sync directory", f"new-{log.name}")) < disk.done.index(("rename", str(log.name)))
    disk.done.clear()
    Spool(yard.spool.path, disk).remove_log(log.name)
    assert disk.done[:2] == [("rename", f"gone-{log.name}"), ("sync directory", "logs")]


class Thorough(RecordingDisk):
    """Notes blocks that are asked for and given back as well."""

    def preallocate(self, fd: int, octets: int) -> None:
        super().preallocate(fd, octets)
        self.done.append(("blocks", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))

    def truncate(self, fd: int, octets: int) -> None:
        super().truncate(fd, octets)
        self.done.append(("cut", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))


def test_blocks_are_asked_for_before_the_sync_that_keeps_them(yard: Yard) -> None:
    disk = Thorough()
    log = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(log)
    log.close()
    disk.done.clear()
    log.append([accepted(1)])
    segment = str(log.current)
    assert disk.done[:4] == [
        ("create", segment),
        ("blocks", segment),
        ("sync", segment),
        ("sync directory", str(log.name)),
    ]


def test_a_spare_is_durable_before_it_has_its_name_and_its_name_before_it_counts(yard: Yard) -> None:
    disk = Thorough()
    log = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(log)
    disk.done.clear()
    assert log.make_spare()
    draft = "spare.draft"
    assert [step for step in disk.done if step[0] != "unlink"] == [
        ("create", draft),
        ("blocks", draft),
        ("sync", draft),
        ("rename", "spare"),
        ("sync directory", str(log.name)),
    ]


def test_a_full_segment_is_cut_behind_its_footer_and_that_is_synced_before_the_next_begins(yard: Yard) -> None:
    yard.segment_octets = 8_192
    disk = Thorough()
    log = taker(yard, disk, "queue-0").create("0a1b2c3d", 0).log
    yard.open_logs.append(log)
    full = str(log.current)
    log.append([accepted(1, b"x" * 5_000)])
    disk.done.clear()
    log.append([accepted(2, b"x" * 5_000)])
    assert disk.done[:4] == [("write", full), ("sync", full), ("cut", full), ("sync", full)]


def test_who_has_lost_the_log_touches_no_spare_in_a_directory_of_its_name(yard: Yard) -> None:
    log = yard.create()
    yard.take()
    os.mkdir(log.path)
    draft = Path(log.path, "spare.draft")
    draft.write_bytes(b"another's")
    with pytest.raises(LostLog):
        log.make_spare()
    assert os.listdir(log.path) == ["spare.draft"]
