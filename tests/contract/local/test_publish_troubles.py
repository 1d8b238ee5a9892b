"""Publishing when something is wrong with the disk, or slow, or in the way: what is not durable is not published."""

import errno
import os
from pathlib import Path

import pytest

from runtime.clock import SystemChance
from runtime.durable import Disk
from services.local import texts
from services.local.publish import (
    ELECTION_LASTS_S,
    SYNC_APART_FOR_S,
    SYNC_TOGETHER_MIN,
    SYNC_TOGETHER_SLOW_S,
    Copy,
    Publisher,
)
from services.local.sweep import NOTHING_SETTLED, sweep
from tests.harness.recording import RecordingDisk
from tests.harness.replica import HandClock


def copies(*names: str) -> list[Copy]:
    return [Copy(name, b"Head: x\n", memoryview(b"body\n")) for name in names]


def new(maildir: Path) -> list[str]:
    return sorted(os.listdir(maildir / "new"))


def test_a_close_that_fails_is_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS tells of a full disk there."""
    drafts: list[int] = []
    really_close = os.close

    class Noting(Disk):
        def create(self, path: str, mode: int = 0o600, dir_fd: int | None = None) -> int:
            drafts.append(super().create(path, mode, dir_fd))
            return drafts[-1]

    def close(fd: int) -> None:
        really_close(fd)
        if fd in drafts:
            drafts.remove(fd)
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "close", close)
    found = copies("a")
    Publisher(Noting(), HandClock(), SystemChance()).publish(str(tmp_path / "Maildir"), found, make=True)
    assert found[0].trouble == "The mailbox is over its quota. (#4.2.2)\n"
    assert new(tmp_path / "Maildir") == []


def test_a_rename_that_fails_is_told(tmp_path: Path) -> None:
    class Failing(Disk):
        def rename_across(self, old: tuple[int, str], new: tuple[int, str]) -> None:
            raise OSError(errno.EIO, "Input/output error")

    found = copies("a")
    Publisher(Failing(), HandClock(), SystemChance()).publish(str(tmp_path / "Maildir"), found, make=True)
    assert found[0].trouble == texts.MAILDIR_TROUBLE


def test_a_slow_sync_of_everything_is_not_asked_for_again_for_a_while(tmp_path: Path) -> None:
    clock = HandClock()

    class Slow(RecordingDisk):
        def sync_filesystem(self, fd: int) -> None:
            super().sync_filesystem(fd)
            clock.forward(SYNC_TOGETHER_SLOW_S + 0.1)

    disk = Slow()
    publisher = Publisher(disk, clock, SystemChance())
    maildir = str(tmp_path / "Maildir")
    publisher.publish(maildir, [], make=True)

    def synced_together(batch: str) -> bool:
        disk.done.clear()
        found = copies(*(f"{batch}{number}" for number in range(SYNC_TOGETHER_MIN)))
        publisher.publish(maildir, found, make=False)
        assert not any(copy.trouble for copy in found)
        return "sync all" in [what for what, _ in disk.done]

    assert synced_together("a")
    assert not synced_together("b")
    clock.forward(SYNC_APART_FOR_S)
    assert synced_together("c")


def test_an_old_kernel_syncs_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 5.8 syncfs(2) kept silent about what could not be written."""
    old = os.uname_result(("Linux", "host", "5.7.19-generic", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: old)
    disk = RecordingDisk()
    publisher = Publisher(disk, HandClock(), SystemChance())
    publisher.publish(str(tmp_path / "Maildir"), copies("a", "b", "c", "d", "e"), make=True)
    assert "sync all" not in [what for what, _ in disk.done]


def test_an_election_is_believed_for_36_hours(tmp_path: Path) -> None:
    """Somebody deleted the message an hour before: it was published all the same."""
    assert ELECTION_LASTS_S == 36 * 3_600
    maildir, clock = tmp_path / "Maildir", HandClock()
    publisher = Publisher(Disk(), clock, SystemChance())
    publisher.publish(str(maildir), copies("a"), make=True)
    (maildir / "new" / "a").unlink()
    clock.forward(ELECTION_LASTS_S - 60)
    again = copies("a")
    publisher.publish(str(maildir), again, make=True)
    assert (again[0].trouble, again[0].forgotten, new(maildir)) == ("", False, [])


def test_an_old_election_with_its_draft_is_published_and_not_forgotten(tmp_path: Path) -> None:
    class Dying(Disk):
        def rename_across(self, old: tuple[int, str], new: tuple[int, str]) -> None:
            raise OSError(errno.EIO, "Input/output error")

    maildir, clock = tmp_path / "Maildir", HandClock()
    Publisher(Dying(), clock, SystemChance()).publish(str(maildir), copies("a"), make=True)
    clock.forward(ELECTION_LASTS_S + 60)
    again = copies("a")
    Publisher(Disk(), clock, SystemChance()).publish(str(maildir), again, make=True)
    assert (again[0].forgotten, new(maildir)) == (False, ["a"])


def test_a_link_in_place_of_tmp_is_not_swept(tmp_path: Path) -> None:
    maildir, elsewhere = tmp_path / "Maildir", tmp_path / "elsewhere"
    maildir.mkdir()
    elsewhere.mkdir()
    (elsewhere / "old.d").write_bytes(b"")
    os.utime(elsewhere / "old.d", (0, 0))
    (maildir / "tmp").symlink_to(elsewhere)
    assert sweep(Disk(), HandClock(), str(maildir), NOTHING_SETTLED) == 0
    assert (elsewhere / "old.d").exists()


def test_drafts_that_lost_their_election_do_not_stay(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    publisher = Publisher(Disk(), HandClock(), SystemChance())
    for _ in range(3):
        publisher.publish(str(maildir), copies("a"), make=True)
    assert os.listdir(maildir / "tmp") == ["a.d"]
