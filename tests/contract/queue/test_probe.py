"""The trials of a volume: a good one keeps every promise, and each promise that is broken is named with the fix."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.queue import probe
from services.queue.probe import TRIALS, Result, judge


def trouble(results: list[Result]) -> dict[str, str]:
    return {result.trial.promise: result.trouble for result in results if result.trouble}


@pytest.mark.parametrize("folder", ["/dev/shm", ""])
def test_a_good_volume_keeps_every_promise_and_nothing_is_left(tmp_path: Path, folder: str) -> None:
    spool = Path(folder or tmp_path) / f"spool-{os.getpid()}"
    spool.mkdir()
    try:
        results = probe.probe(str(spool), "queue-0", Disk())
        assert len(results) == len(TRIALS)
        assert judge(results) == ([], [])
        assert os.listdir(spool) == []
    finally:
        spool.rmdir()


class CreatesTwice(Disk):
    def create(self, path: str, mode: int = 0o600, dir_fd: int | None = None) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT, mode)


class LinksTwice(Disk):
    def link(self, existing: str, new: str, dir_fd: int | None = None) -> None:
        draft = f"{new}.{os.path.basename(existing)}"
        os.link(existing, draft)
        os.replace(draft, new)


class Copies(Disk):
    """A link that is a copy, as on file systems without links behind some servers."""

    def link(self, existing: str, new: str, dir_fd: int | None = None) -> None:
        os.close(super().create(new))


class RenamesByCopy(Disk):
    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        os.mkdir(new)
        for name in os.listdir(old):
            os.rename(os.path.join(old, name), os.path.join(new, name))
        os.rmdir(old)


class ShowsTheOldName(Disk):
    """As a kernel that answers from its cache: the old name is there for a while."""

    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        super().rename(old, new)
        os.symlink(new, old)


class DoesNotReplace(Disk):
    def replace_file(self, path: str, content: bytes, mode: int = 0o600) -> None:
        if not os.path.exists(path):
            super().replace_file(path, content, mode)


class CannotSyncDirectories(Disk):
    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        raise OSError(22, "Invalid argument")


class CannotSyncData(Disk):
    def sync_data(self, fd: int) -> None:
        raise OSError(5, "Input/output error")


class GivesNoBlocks(Disk):
    def preallocate(self, fd: int, octets: int) -> None:
        pass


BROKEN: list[tuple[type[Disk], str]] = [
    (CreatesTwice, "a name is created once"),
    (LinksTwice, "a link has a name for itself"),
    (Copies, "a link has a name for itself"),
    (RenamesByCopy, "a directory is renamed once, and its old name is gone"),
    (ShowsTheOldName, "a directory is renamed once, and its old name is gone"),
    (ShowsTheOldName, "an open file survives a rename, its old path does not"),
    (DoesNotReplace, "a file is replaced whole"),
    (CannotSyncDirectories, "fdatasync, fsync and the sync of a directory"),
    (CannotSyncData, "fdatasync, fsync and the sync of a directory"),
    (GivesNoBlocks, "blocks are preallocated"),
]


@pytest.mark.parametrize(("disk", "promise"), BROKEN, ids=[f"{disk.__name__}-{said[:14]}" for disk, said in BROKEN])
def test_a_broken_promise_is_named_with_what_breaks_and_the_fix(
    tmp_path: Path, disk: Callable[[], Disk], promise: str
) -> None:
    results = probe.probe(str(tmp_path), "queue-0", disk())
    assert promise in trouble(results)
    mistakes, warnings = judge(results)
    [mistake] = [one for one in mistakes if promise in one]
    assert " may " in mistake
    assert "SPOOL_UNSAFE_FS=1" in mistake
    assert warnings == []
    assert os.listdir(tmp_path) == []


def test_a_volume_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlocked(path: str) -> int | None:
        return os.open(os.path.join(path, "owner.lock"), os.O_RDWR | os.O_CREAT)

    monkeypatch.setattr(probe, "try_lock", unlocked)
    results = probe.probe(str(tmp_path), "queue-0", Disk())
    assert list(trouble(results)) == ["a lock has one holder and ends with it"]


def test_a_volume_that_writes_every_block_is_only_warned_of(tmp_path: Path) -> None:
    class Slow(Disk):
        def can_preallocate(self, fd: int, octets: int) -> bool:
            return False

    mistakes, [warning] = judge(probe.probe(str(tmp_path), "queue-0", Slow()))
    assert mistakes == []
    assert "written twice" in warning


def test_a_full_disk_breaks_no_promise(tmp_path: Path) -> None:
    class Full(Disk):
        def create(self, path: str, mode: int = 0o600, dir_fd: int | None = None) -> int:
            raise OSError(28, "No space left on device")

    class FullToTheBrim(Full):
        def make_directory(self, path: str, mode: int = 0o700, dir_fd: int | None = None) -> None:
            raise OSError(122, "Disk quota exceeded")

    for disk in (Full(), FullToTheBrim()):
        assert judge(probe.probe(str(tmp_path), "queue-0", disk)) == ([], [])


def test_leftovers_of_the_dead_are_swept_and_those_at_work_are_left_alone(tmp_path: Path) -> None:
    for name in ("trial-queue-0", "trial-queue-1", "trial-queue-2", "mine"):
        (tmp_path / name / "1").mkdir(parents=True)
    os.utime(tmp_path / "trial-queue-1", (1, 1))
    os.utime(tmp_path / "mine", (1, 1))
    probe.probe(str(tmp_path), "queue-0", Disk())
    assert sorted(os.listdir(tmp_path)) == ["mine", "trial-queue-2"]


def test_a_volume_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe.probe(str(tmp_path / "gone"), "queue-0", Disk())
