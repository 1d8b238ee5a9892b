"""What the disk does when it is asked, call by call, on a real file system."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.durable import Disk


@pytest.fixture
def disk() -> Disk:
    return Disk()


def open_new(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def test_more_buffers_than_the_kernel_takes_at_once_are_written_whole_and_in_order(disk: Disk, tmp_path: Path) -> None:
    fd = open_new(tmp_path / "file")
    buffers = [f"{number}\n".encode() for number in range(3_000)]
    assert disk.write_all(fd, buffers) == len(b"".join(buffers))
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"".join(buffers)


def test_a_short_write_is_finished(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "writev", lambda fd, buffers: os.write(fd, b"".join(buffers)[:5]))
    fd = open_new(tmp_path / "file")
    assert disk.write_all(fd, [b"abc", b"defg", b"h"]) == 8
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"abcdefgh"


def test_a_sync_of_everything_that_fails_says_so(disk: Disk, tmp_path: Path) -> None:
    fd = open_new(tmp_path / "file")
    disk.sync_filesystem(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.sync_filesystem(fd)


def test_a_new_file_takes_the_place_of_nothing(disk: Disk, tmp_path: Path) -> None:
    taken, elsewhere, link = tmp_path / "taken", tmp_path / "elsewhere", tmp_path / "link"
    taken.write_bytes(b"whose")
    link.symlink_to(elsewhere)
    for path in (taken, link):
        with pytest.raises(FileExistsError):
            disk.create(str(path))
        with pytest.raises(FileExistsError):
            disk.write_new_file(str(path), b"mine")
    assert taken.read_bytes() == b"whose"
    assert sorted(os.listdir(tmp_path)) == ["link", "taken"], "no draft stays, and nothing is made behind the link"


@pytest.mark.parametrize("method", ["write_new_file", "replace_file"])
def test_a_link_in_place_of_a_draft_is_not_written_through(disk: Disk, tmp_path: Path, method: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"somebody's")
    (tmp_path / f"file.{os.getpid()}.draft").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        getattr(disk, method)(str(tmp_path / "file"), b"content")
    assert elsewhere.read_bytes() == b"somebody's"


@pytest.mark.parametrize("method", ["write_new_file", "replace_file"])
def test_a_draft_that_was_left_behind_is_overwritten_whole(disk: Disk, tmp_path: Path, method: str) -> None:
    (tmp_path / f"file.{os.getpid()}.draft").write_bytes(b"longer than what is written now")
    getattr(disk, method)(str(tmp_path / "file"), b"short")
    assert (tmp_path / "file").read_bytes() == b"short"
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_opened_to_append_is_made_once_and_written_at_its_end(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    for name in ("link", "file"):
        fd = disk.open_to_append(str(tmp_path / name))
        os.lseek(fd, 0, os.SEEK_SET)
        disk.write_all(fd, [name.encode()])
        assert os.pread(fd, 4, 0) == b"link"
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"linkfile"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    os.mkfifo(tmp_path / "fifo")
    os.close(disk.open_to_append(str(tmp_path / "fifo")))


def test_blocks_that_are_asked_for_are_there_and_zero(disk: Disk, tmp_path: Path) -> None:
    fd = open_new(tmp_path / "file")
    disk.preallocate(fd, 100_000)
    assert os.fstat(fd).st_blocks * 512 >= 100_000
    assert os.pread(fd, 10, 99_990) == b"\0" * 10
    disk.truncate(fd, 10)
    assert os.fstat(fd).st_size == 10
    os.close(fd)


def test_names_are_given_moved_and_taken_as_asked(disk: Disk, tmp_path: Path) -> None:
    one, two, three = (str(tmp_path / name) for name in ("one", "two", "three"))
    os.close(disk.create(one))
    disk.link(one, two)
    with pytest.raises(FileExistsError):
        disk.link(one, two)
    disk.rename(two, three)
    disk.unlink(one)
    assert os.listdir(tmp_path) == ["three"]
    disk.make_directory(one)
    disk.make_directory(two)
    here, there = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (str(tmp_path), one))
    disk.rename_across((here, "three"), (there, "moved"))
    for fd in (here, there):
        os.close(fd)
    disk.remove_directory(two)
    assert os.listdir(tmp_path) == ["one"]
    disk.remove_tree(one)
    assert os.listdir(tmp_path) == []


def test_a_second_name_of_a_link_is_one_of_the_link(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    disk.link(str(tmp_path / "link"), str(tmp_path / "second"))
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "secret").stat().st_nlink == 1


@pytest.mark.parametrize("method", ["write_new_file", "replace_file"])
def test_a_small_file_is_written_then_synced_then_named_then_its_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    done: list[str] = []

    class Noting(Disk):
        def write_all(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
            done.append("write")
            return super().write_all(fd, buffers)

    def noting(name: str) -> None:
        really = getattr(os, name)

        def call(*words: object, **options: object) -> object:
            done.append(name)
            return really(*words, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "link", "rename", "unlink"):
        noting(name)
    getattr(Noting(), method)(str(tmp_path / "file"), b"content")
    named = ["link", "unlink"] if method == "write_new_file" else ["rename"]
    assert done == ["write", "fsync", *named, "fsync"]
