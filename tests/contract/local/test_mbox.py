"""Appending to an mbox: its octets, one lock and one sync, a retry, and everything that can be wrong with a file."""

import fcntl
import os
import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.durable import Disk
from services.local.mbox import Appender, Entry

HEAD = b"Return-Path: <joe@far.example>\nDelivered-To: ann@x.test\n"
FROM = b"From joe@far.example Sun Nov 22 12:36:30 2026\n"
NOBODY = 65_534
QUICKLY = 0.003  # TIME_SCALE: half a minute is 90 ms
SLOW_LOCK = "File has been locked for 30 seconds straight. (#4.3.0)\n"


def entry(text: bytes = b"Received: 1\n\nhello\n", before: int = 0, from_line: bytes = FROM) -> Entry:
    return Entry(from_line, HEAD, memoryview(text), before)


def stands(text: bytes = b"Received: 1\n\nhello\n") -> bytes:
    return FROM + HEAD + text + b"\n"


class CountingDisk(Disk):
    """The machine's disk, and how often it was asked to sync."""

    def __init__(self) -> None:
        self.synced: list[str] = []

    def sync_data(self, fd: int) -> None:
        self.synced.append("file")
        super().sync_data(fd)

    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        self.synced.append(path)
        super().sync_directory(path, dir_fd)


class BrokenDisk(Disk):
    """A disk whose syncs fail."""

    def sync_data(self, fd: int) -> None:
        raise OSError(5, "it is broken")


def append(path: Path | str, *entries: Entry, disk: Disk | None = None) -> list[str]:
    """Appends with an appender of its own, as a process that has just begun; the troubles."""
    Appender(disk or Disk(), SystemClock(QUICKLY)).append(str(path), entries)
    return [one.trouble for one in entries]


@contextmanager
def held_by_another(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has the lock and keeps it."""
    hold = f"import fcntl, sys; f = open({str(path)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@contextmanager
def files_end_at(octets: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_missing_mbox_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    assert append(tmp_path / "Mailbox", entry()) == [""]
    assert (tmp_path / "Mailbox").read_bytes() == stands()
    assert (tmp_path / "Mailbox").stat().st_mode & 0o777 == 0o600


def test_messages_follow_each_other_quoted_and_ended(tmp_path: Path) -> None:
    assert append(tmp_path / "m", entry(b"From x\n>From y\nno end"), entry(b"")) == ["", ""]
    assert append(tmp_path / "m", entry()) == [""]
    quoted = FROM + HEAD + b">From x\n>>From y\nno end\n\n"
    assert (tmp_path / "m").read_bytes() == quoted + FROM + HEAD + b"\n" + stands()


def test_a_batch_takes_one_sync_and_the_name_is_synced_once(tmp_path: Path) -> None:
    disk = CountingDisk()
    appender = Appender(disk, SystemClock())
    for number in range(3):
        appender.append(str(tmp_path / "m"), [entry(b"%d %d\n" % (number, one)) for one in range(20)])
    assert disk.synced == ["file", str(tmp_path), "file", "file"]
    assert (tmp_path / "m").read_bytes().count(FROM) == 60


def test_the_name_of_an_mbox_that_somebody_else_made_is_synced_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m").write_bytes(stands(b"old\n"))
    (tmp_path / "m").symlink_to(tmp_path / "real" / "m")
    disk = CountingDisk()
    append(tmp_path / "m", entry(), disk=disk)
    assert disk.synced == ["file", str(tmp_path / "real")]


def test_a_link_is_followed_even_to_what_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "m").symlink_to("elsewhere")
    assert append(tmp_path / "m", entry()) == [""]
    assert (tmp_path / "elsewhere").read_bytes() == stands()


def test_what_somebody_did_not_end_is_ended_first(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"From a b\n\nno end")
    append(tmp_path / "m", entry())
    assert (tmp_path / "m").read_bytes() == b"From a b\n\nno end\n\n" + stands()


# -- a retry ----------------------------------------------------------------------------------------------------------


def test_a_retry_whose_record_was_lost_finds_its_message(tmp_path: Path) -> None:
    assert append(tmp_path / "m", entry()) == [""]
    assert append(tmp_path / "m", entry()) == [""]
    assert (tmp_path / "m").read_bytes() == stands()


def test_a_retry_finds_its_message_behind_those_of_others(tmp_path: Path) -> None:
    append(tmp_path / "m", entry(), entry(b"second\n"))
    others = [entry(b"Received: other %d\n\n" % number + b"x\n" * 2_000) for number in range(100)]
    append(tmp_path / "m", *others)
    size = (tmp_path / "m").stat().st_size
    assert append(tmp_path / "m", entry(), entry(b"second\n"), *others) == [""] * 102
    assert (tmp_path / "m").stat().st_size == size


def test_a_large_message_is_found_too_and_one_that_differs_in_its_last_octet_is_not(tmp_path: Path) -> None:
    body = b"Received: 1\n\n" + b"From here\n" * 300_000
    append(tmp_path / "m", entry(body))
    append(tmp_path / "m", entry(body), entry(body[:-2] + b"E\n"))
    assert (tmp_path / "m").read_bytes().count(FROM) == 2


@pytest.mark.parametrize("text", [b"Received: 1\n\nhello\n", b"", b"x", b"From a\n", b"y\n" * 500 + b"From b\n"])
def test_a_torn_beginning_is_cut_off_wherever_it_was_torn(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "m"
    append(path, entry(b"before\n"))
    before = path.read_bytes()
    append(path, entry(text))
    whole = path.read_bytes()
    for size in {*range(len(before) + 5, len(before) + 200), *range(len(whole) - 30, len(whole))}:
        if len(before) + 5 <= size < len(whole):
            path.write_bytes(whole[:size])
            assert append(path, entry(text)) == [""]
            assert path.read_bytes() == whole, size


def test_another_message_does_not_continue_the_torn_line_of_one(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(stands()[:-9])
    append(path, entry(b"other\n"))
    assert path.read_bytes() == stands()[:-9] + b"\n\n" + stands(b"other\n")


def test_equal_messages_to_one_person_are_as_many_as_there_are(tmp_path: Path) -> None:
    for _ in range(2):
        append(tmp_path / "m", entry(), entry(), entry())
    assert (tmp_path / "m").read_bytes() == stands() * 3
    append(tmp_path / "m", entry())
    assert (tmp_path / "m").read_bytes() == stands() * 3


def test_an_mbox_that_a_qmail_file_names_twice_gets_two(tmp_path: Path) -> None:
    for _ in range(2):
        append(tmp_path / "m", entry(before=0))
        append(tmp_path / "m", entry(before=1))
    assert (tmp_path / "m").read_bytes() == stands() * 2


def test_somebody_who_is_named_twice_and_names_his_mbox_twice_gets_four(tmp_path: Path) -> None:
    for _ in range(2):
        append(tmp_path / "m", entry(before=0), entry(before=0))
        append(tmp_path / "m", entry(before=1), entry(before=1))
    assert (tmp_path / "m").read_bytes() == stands() * 4


def test_a_file_that_may_not_be_read_is_written_to() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m"
        path.write_bytes(b"old\n")
        path.chmod(0o200)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            os.chown(path, NOBODY, NOBODY)
        pid = os.fork()
        if pid == 0:
            if os.geteuid() == 0:
                os.setresuid(NOBODY, NOBODY, NOBODY)
            os._exit(append(path, entry()) != [""])
        assert os.waitpid(pid, 0)[1] == 0
        path.chmod(0o600)
        assert path.read_bytes() == b"old\n" + stands()


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_goes_to_the_null_device_is_gone() -> None:
    assert append("/dev/null", entry(), entry()) == ["", ""]


@pytest.mark.parametrize("kind", ["fifo", "fifo with a reader", "socket", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = "/dev/zero" if kind == "device" else str(tmp_path / "m")
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "socket":
            listener.bind(path)
        elif kind.startswith("fifo"):
            os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if kind.endswith("reader") else -1
        assert append(path, entry()) == [f"Unable to open {path}: device not configured. (#4.2.1)\n"]
        if reader >= 0:
            assert os.read(reader, 10) == b""
            os.close(reader)


def test_what_cannot_be_opened_is_deferred_in_qmails_words(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"")
    for name, why in (
        ("dir", "is a directory"),
        ("missing/m", "file does not exist"),
        ("file/m", "not a directory"),
        ("loop", "symbolic link loop"),
        ("n" * 300, "file name too long"),
    ):
        assert append(tmp_path / name, entry()) == [f"Unable to open {tmp_path / name}: {why}. (#4.2.1)\n"]


def test_a_lock_that_is_never_given_back_defers(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with held_by_another(path):
        assert append(path, entry(), entry(b"2\n")) == [SLOW_LOCK] * 2
    assert path.read_bytes() == b""


def test_who_has_no_patience_is_refused_at_once(tmp_path: Path) -> None:
    refused, taken = entry(), entry()
    appender = Appender(Disk(), SystemClock(), patience=False)
    with held_by_another(tmp_path / "m"):
        appender.append(str(tmp_path / "m"), [refused])
    appender.append(str(tmp_path / "m"), [taken])
    assert (refused.trouble, taken.trouble) == (SLOW_LOCK, "")


def test_a_lock_that_is_given_back_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "m"
    with held_by_another(path) as process:
        process.stdin.close()  # type: ignore[union-attr]
        appended = entry()
        Appender(Disk(), SystemClock()).append(str(path), [appended])
    assert (appended.trouble, path.read_bytes()) == ("", stands())


def test_an_mbox_that_is_replaced_while_its_lock_is_waited_for_is_opened_again(tmp_path: Path) -> None:
    """maildir2mbox and mail readers rename a new one over it; what went into the old one would be lost."""
    path = tmp_path / "m"
    path.write_bytes(stands(b"old\n"))
    replace = (
        f"import fcntl, os; p = {str(path)!r}; f = open(p); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True)\n"
        "mine = f':{os.fstat(f.fileno()).st_ino} '\n"
        "while os.getppid() != 1 and not [l for l in open('/proc/locks') if '->' in l and mine in l]: pass\n"
        "open(p + '.new', 'wb').write(b'read\\n\\n'); os.rename(p + '.new', p)"
    )
    with subprocess.Popen([sys.executable, "-c", replace], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        appended = entry()
        Appender(Disk(), SystemClock()).append(str(path), [appended])
        assert process.wait(30) == 0
    assert (appended.trouble, path.read_bytes()) == ("", b"read\n\n" + stands())


def test_a_full_disk_leaves_what_was_there_and_takes_what_fits(tmp_path: Path) -> None:
    path = tmp_path / "m"
    append(path, entry())
    large, small = entry(b"large\n" * 1_000), entry(b"small\n")
    with files_end_at(1_000):
        assert append(path, large, small) == [f"Unable to write {path}: file too big. (#4.3.0)\n", ""]
    assert path.read_bytes() == stands() + stands(b"small\n")
    assert append(path, entry(b"large\n" * 1_000)) == [""]
    assert path.read_bytes() == stands() + stands(b"small\n") + stands(b"large\n" * 1_000)


def test_a_full_file_system_leaves_what_was_there(small_disk: Path) -> None:
    path = small_disk / "m"
    append(path, entry())
    assert append(path, entry(b"x" * 2_000_000)) == [f"Unable to write {path}: out of disk space. (#4.3.0)\n"]
    assert path.read_bytes() == stands()


def test_when_the_sync_fails_nothing_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "m"
    append(path, entry())
    trouble = f"Unable to write {path}: input/output error. (#4.3.0)\n"
    assert append(path, entry(b"2\n"), entry(b"3\n"), disk=BrokenDisk()) == [trouble, trouble]
    assert append(path, entry(), disk=BrokenDisk()) == [trouble]
    assert path.read_bytes() == stands()


def test_no_descriptor_and_no_alarm_stay(tmp_path: Path) -> None:
    import signal

    before = (len(os.listdir("/proc/self/fd")), signal.getsignal(signal.SIGALRM))
    os.mkfifo(tmp_path / "fifo")
    with held_by_another(tmp_path / "held"):
        for path in (tmp_path / "m", tmp_path / "fifo", tmp_path / "held", tmp_path / "no" / "m", "/dev/null"):
            append(path, entry())
        with (tmp_path / "m").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert (len(os.listdir("/proc/self/fd")), signal.getsignal(signal.SIGALRM)) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts; a full disk is also tried by RLIMIT_FSIZE")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], check=False).returncode:
        pytest.skip("mounts are not allowed here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
