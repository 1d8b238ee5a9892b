"""The maildrop on a real Maildir: what is listed, what is opened, what QUIT does and leaves."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.pop3.exchange import Opened
from services.pop3.maildrop import MaildropError, OpenMaildir


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / folder).mkdir(parents=True, mode=0o700)
    return tmp_path / "Maildir"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[OpenMaildir]]:
    """Closed at the end, whatever happens."""
    found: list[OpenMaildir] = []
    yield found
    for one in found:
        one.close()


def put(maildir: Path, path: str, content: bytes = b"text\n", mtime: int = 1_700_000_000) -> Path:
    file = maildir / path
    file.write_bytes(content)
    os.utime(file, (mtime, mtime))
    return file


def session(maildir: Path, opened: list[OpenMaildir], disk: Disk | None = None) -> OpenMaildir:
    opened.append(OpenMaildir(disk or Disk(), str(maildir.parent)))
    return opened[-1]


def files(maildir: Path) -> list[str]:
    return sorted(f"{folder}/{name}" for folder in ("new", "cur") for name in os.listdir(maildir / folder))


def test_messages_are_in_order_of_mtime_and_then_of_name(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/b", mtime=2)
    put(maildir, "cur/a:2,S", mtime=2)
    put(maildir, "new/z", mtime=1)
    assert session(maildir, opened).maildrop.uids == ["z", "a", "b"]


def test_a_message_delivered_in_this_very_second_is_listed(maildir: Path, opened: list[OpenMaildir]) -> None:
    (maildir / "new" / "now").write_bytes(b"text\n")
    assert session(maildir, opened).maildrop.uids == ["now"]


def test_sizes_count_each_line_end_as_two_octets(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a", b"one\ntwo\n")
    put(maildir, "new/b", b"one\r\ntwo")
    put(maildir, "new/c", b"")
    put(maildir, "new/d", b"x\n" * 400_000)
    assert list(session(maildir, opened).maildrop.octets) == [10, 10, 0, 1_200_000]


def test_hostile_names_are_not_listed(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/good")
    for name in (".hidden", "two\nlines", "with blank", "caf\xe9", "x" * 201, "tab\t"):
        put(maildir, f"new/{name}")
    os.close(os.open(os.fsencode(str(maildir / "new")) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY, 0o600))
    assert session(maildir, opened).maildrop.uids == ["good"]


def test_only_regular_files_are_listed_and_nothing_hangs(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/good")
    secret = put(maildir, "../secret")
    (maildir / "new" / "link").symlink_to(secret)
    os.mkfifo(maildir / "new" / "fifo")
    (maildir / "cur" / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(maildir / "new" / "socket"))
    assert session(maildir, opened).maildrop.uids == ["good"]


def test_what_a_message_was_replaced_by_is_not_opened(maildir: Path, opened: list[OpenMaildir]) -> None:
    for name in ("a", "b", "c"):
        put(maildir, f"new/{name}")
    held = session(maildir, opened)
    for name in ("a", "b", "c"):
        (maildir / "new" / name).unlink()
    (maildir / "new" / "a").symlink_to("/etc/passwd")
    os.mkfifo(maildir / "new" / "b")
    assert [held.open_message(number) for number in (1, 2, 3)] == [None, None, None]


def test_an_opened_message_can_only_be_read(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a", b"text\n")
    fd = session(maildir, opened).open_message(1)
    assert fd is not None
    assert os.read(fd, 100) == b"text\n"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    os.close(fd)


def test_unique_ids_stay_from_new_to_cur_and_with_flags(maildir: Path, opened: list[OpenMaildir]) -> None:
    long = "1700000000." + "x" * 90
    put(maildir, "new/a")
    put(maildir, f"new/{long}")
    first = session(maildir, opened)
    before = list(first.maildrop.uids)
    assert first.settle(())
    first.close()
    assert files(maildir) == sorted([f"cur/{long}:2,", "cur/a:2,"])
    (maildir / "cur" / "a:2,").rename(maildir / "cur" / "a:2,RS")
    assert sorted(session(maildir, opened).maildrop.uids) == sorted(before)
    assert all(0 < len(uid) <= 70 for uid in before)


def test_two_files_that_share_a_unique_part_have_two_ids(maildir: Path, opened: list[OpenMaildir]) -> None:
    long = "x" * 100
    for name in ("new/a", "cur/a:2,S", f"new/{long}", f"cur/{long}:2,", "cur/:2,"):
        put(maildir, name, name.encode())
    first = session(maildir, opened)
    uids = list(first.maildrop.uids)
    assert len(set(uids)) == 5
    first.close()
    assert session(maildir, opened).maildrop.uids == uids


def test_a_message_with_two_names_in_a_move_counts_once(maildir: Path, opened: list[OpenMaildir]) -> None:
    """What readdir(3) may show while another program renames it."""
    os.link(put(maildir, "new/a"), maildir / "cur" / "a:2,S")
    assert session(maildir, opened).maildrop.uids == ["a"]


def test_a_second_session_is_refused_until_the_first_ends(maildir: Path, opened: list[OpenMaildir]) -> None:
    first = session(maildir, opened)
    with pytest.raises(MaildropError) as refused:
        session(maildir, opened)
    assert refused.value.why is Opened.IN_USE
    first.close()
    session(maildir, opened)


def test_quit_deletes_what_is_marked_and_moves_the_rest(maildir: Path, opened: list[OpenMaildir]) -> None:
    for name in ("new/a", "new/b", "cur/c:2,S", "cur/d:2,"):
        put(maildir, name)
    assert session(maildir, opened).settle((1, 3))
    assert files(maildir) == ["cur/b:2,", "cur/d:2,"]


def test_a_session_that_does_not_quit_changes_nothing(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a")
    session(maildir, opened).close()
    assert files(maildir) == ["new/a"]


def test_quit_replaces_nothing_in_cur(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a", b"new\n")
    put(maildir, "cur/a:2,", b"old\n")
    assert session(maildir, opened).settle(())
    assert (maildir / "cur" / "a:2,").read_bytes() == b"old\n"
    assert (maildir / "new" / "a").read_bytes() == b"new\n"


def test_mail_that_comes_during_a_session_is_left_alone(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a")
    held = session(maildir, opened)
    put(maildir, "new/later")
    assert held.settle((1,))
    assert files(maildir) == ["new/later"]


def test_a_deleted_message_is_deleted_under_the_name_that_it_got_meanwhile(
    maildir: Path, opened: list[OpenMaildir]
) -> None:
    put(maildir, "new/a")
    put(maildir, "new/b")
    held = session(maildir, opened)
    (maildir / "new" / "a").rename(maildir / "cur" / "a:2,S")
    (maildir / "new" / "b").unlink()
    assert held.settle((1, 2))
    assert files(maildir) == []


class FailingDisk(Disk):
    """A disk on which some steps fail."""

    def __init__(self, unlink: bool = False, sync: bool = False) -> None:
        self._unlink = unlink
        self._sync = sync

    def unlink(self, path: str, dir_fd: int | None = None) -> None:
        if self._unlink:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().unlink(path, dir_fd)

    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        if self._sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync_directory(path, dir_fd)


@pytest.mark.parametrize("disk", [FailingDisk(unlink=True), FailingDisk(sync=True)], ids=["unlink", "sync"])
def test_quit_is_not_done_when_the_disk_fails(maildir: Path, opened: list[OpenMaildir], disk: Disk) -> None:
    put(maildir, "new/a")
    assert not session(maildir, opened, disk).settle((1,))


class CountingDisk(Disk):
    """Tells the order of what reaches the disk."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def unlink(self, path: str, dir_fd: int | None = None) -> None:
        super().unlink(path, dir_fd)
        self.steps.append(f"unlink {path}")

    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        super().rename(old, new, dir_fd)
        self.steps.append(f"rename {old}")

    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        super().sync_directory(path, dir_fd)
        self.steps.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{dir_fd}")))


def test_both_directories_are_synced_after_the_last_change(maildir: Path, opened: list[OpenMaildir]) -> None:
    for name in ("new/a", "new/b", "cur/c:2,"):
        put(maildir, name)
    disk = CountingDisk()
    assert session(maildir, opened, disk).settle((1, 3))
    assert disk.steps == ["unlink a", "unlink c:2,", "rename new/b", "sync cur", "sync new"]


def test_a_missing_maildir_is_made_for_its_owner_alone(tmp_path: Path, opened: list[OpenMaildir]) -> None:
    held = session(tmp_path / "Maildir", opened)
    assert held.maildrop.uids == []
    for path in (tmp_path / "Maildir", *(tmp_path / "Maildir" / name for name in ("tmp", "new", "cur"))):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_what_is_missing_in_a_maildir_is_made(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a")
    (maildir / "cur").rmdir()
    assert session(maildir, opened).settle(())
    assert files(maildir) == ["cur/a:2,"]


def test_a_maildir_elsewhere_is_used_when_it_is_the_users(maildir: Path, opened: list[OpenMaildir]) -> None:
    put(maildir, "new/a")
    maildir.rename(maildir.parent / "elsewhere")
    maildir.symlink_to(maildir.parent / "elsewhere")
    assert session(maildir, opened).maildrop.uids == ["a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away: run the tests as root")
def test_a_maildir_of_somebody_else_is_none(maildir: Path, opened: list[OpenMaildir]) -> None:
    os.chown(maildir, 17_801, 17_801)
    with pytest.raises(MaildropError) as refused:
        session(maildir, opened)
    assert refused.value.why is Opened.NO_MAILDROP


@pytest.mark.parametrize("folder", ["new", "cur"])
def test_linked_folders_are_not_followed(maildir: Path, opened: list[OpenMaildir], folder: str) -> None:
    elsewhere = maildir.parent / "elsewhere"
    (maildir / folder).rename(elsewhere)
    (maildir / folder).symlink_to(elsewhere)
    with pytest.raises(MaildropError) as refused:
        session(maildir, opened)
    assert refused.value.why is Opened.NO_MAILDROP


def test_a_maildir_that_is_a_file_is_none(tmp_path: Path, opened: list[OpenMaildir]) -> None:
    (tmp_path / "Maildir").write_bytes(b"")
    with pytest.raises(MaildropError) as refused:
        session(tmp_path / "Maildir", opened)
    assert refused.value.why is Opened.NO_MAILDROP


def test_a_maildrop_shows_its_oldest_messages_up_to_the_limit(
    maildir: Path, opened: list[OpenMaildir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.pop3.maildrop.MESSAGES_MAX", 2)
    for number in range(4):
        put(maildir, f"new/{number}", mtime=number)
    held = session(maildir, opened)
    assert held.maildrop.uids == ["0", "1"]
    assert held.settle((1, 2))
    assert files(maildir) == ["new/2", "new/3"]
