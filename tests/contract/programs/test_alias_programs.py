"""fastforward and the programs around it as processes: a database is whole whatever dies, and costs what is looked at.

What they print and how they end stands in tests/cases/programs.
"""

import fcntl
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mail import cdb
from tests.harness import strace
from tests.harness.stack import patience
from tests.harness.strace import Injection

BIN = Path(__file__).resolve().parents[3] / "bin"
OLD, NEW = b"bob: ann\n", b"bob: carl\nann: dora\n"
MANY = 100_000
WAITS_S = 30.0
MIB = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "me").write_text("d.test\n")
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SEAPOST_CONTROL": str(folder / "control"), **more}


def newaliases(folder: Path, *before: str) -> "subprocess.CompletedProcess[str]":
    words = [*before, str(BIN / "newaliases"), str(folder / "aliases")]
    return subprocess.run(words, env=environment(folder), capture_output=True, text=True, check=False, timeout=60)


def made_of(folder: Path, table: bytes) -> bytes:
    """What newaliases makes of a table, which stays."""
    (folder / "aliases").write_bytes(table)
    assert newaliases(folder).returncode == 0
    return (folder / "aliases.cdb").read_bytes()


def seen_by_strace(folder: Path, program: str) -> list[strace.Call]:
    """What newaliases does to its draft and its folder, in order."""
    report = folder / "report"
    assert newaliases(folder, program, "-o", str(report), *strace.LISTING).returncode == 0
    return [call for call in strace.calls(report.read_text(), f"{folder}/aliases") if call.changes]


def test_whoever_kills_newaliases_leaves_the_old_database_or_the_new_one(
    folder: Path, program: Callable[[str], str]
) -> None:
    new, old = made_of(folder, NEW), made_of(folder, OLD)
    (folder / "aliases").write_bytes(NEW)
    calls = seen_by_strace(folder, program("strace"))
    assert {"write", "writev", "fsync"} & {call.name for call in calls}
    assert any(call.name.startswith("rename") for call in calls)
    kept = []
    for call in calls:
        (folder / "aliases.cdb").write_bytes(old)
        injection = Injection(call.name, "signal=KILL", str(call.number))
        newaliases(folder, program("strace"), "-o", str(folder / "report"), *injection.words)
        left = (folder / "aliases.cdb").read_bytes()
        assert left in (old, new), call
        kept.append(left == old)
        assert newaliases(folder).returncode == 0
        assert (folder / "aliases.cdb").read_bytes() == new
        assert not (folder / "aliases.tmp").exists()
    assert kept == sorted(kept, reverse=True)  # from one call on it is the new one
    assert kept.count(True) >= 3


@pytest.mark.parametrize(
    ("calls", "error", "complaint"),
    [
        ("write,writev", "ENOSPC", "unable to write to {}/aliases.tmp: out of disk space"),
        ("fsync", "EIO", "unable to write to {}/aliases.tmp: input/output error"),
        ("rename,renameat", "EROFS", "unable to move {}/aliases.tmp to {}/aliases.cdb: read-only file system"),
    ],
)
def test_a_disk_that_refuses_leaves_the_old_database(
    folder: Path, program: Callable[[str], str], calls: str, error: str, complaint: str
) -> None:
    old = made_of(folder, OLD)
    (folder / "aliases").write_bytes(NEW)
    injection = Injection(calls, f"error={error}", "1+", str(folder / "aliases.tmp"))
    ran = newaliases(folder, program("strace"), "-o", str(folder / "report"), *injection.words)
    wanted = complaint.replace("{}", str(folder))
    assert (ran.returncode, ran.stderr) == (111, f"newaliases: fatal: {wanted}\n")
    assert (folder / "aliases.cdb").read_bytes() == old
    assert not (folder / "aliases.tmp").exists()


def test_who_comes_second_waits_and_makes_a_draft_of_its_own(folder: Path) -> None:
    made = made_of(folder, NEW)
    draft = folder / "aliases.tmp"
    with draft.open("wb") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        words = [BIN / "newaliases", folder / "aliases"]
        with subprocess.Popen(words, env=environment(folder), stderr=subprocess.PIPE) as second:
            for _ in patience(WAITS_S):
                if f"-> FLOCK  ADVISORY  WRITE {second.pid} " in Path("/proc/locks").read_text():
                    break
            first.write(b"the first one's")
            first.flush()
            draft.rename(folder / "first.cdb")
            fcntl.flock(first, fcntl.LOCK_UN)
            assert second.communicate(timeout=WAITS_S)[1] == b""
            assert second.returncode == 0
    assert (folder / "first.cdb").read_bytes() == b"the first one's"
    assert (folder / "aliases.cdb").read_bytes() == made


def test_a_link_in_the_place_of_the_draft_leads_nowhere(folder: Path) -> None:
    (folder / "aliases").write_bytes(NEW)
    (folder / "precious").write_bytes(b"precious")
    (folder / "aliases.tmp").symlink_to("precious")
    ran = newaliases(folder)
    assert ran.returncode == 111
    assert ran.stderr == f"newaliases: fatal: unable to create {folder}/aliases.tmp: symbolic link loop\n"
    assert (folder / "precious").read_bytes() == b"precious"


def test_the_database_may_be_elsewhere(folder: Path) -> None:
    (folder / "aliases").write_bytes(NEW)
    words = [BIN / "newaliases", folder / "aliases", folder / "control" / "made.cdb"]
    assert subprocess.run(words, env=environment(folder), check=False, timeout=60).returncode == 0
    assert cdb.find((folder / "control" / "made.cdb").read_bytes(), b":bob@") == b"&carl@d.test\0"
    assert sorted(path.name for path in folder.iterdir()) == ["aliases", "control"]


def test_a_hundred_thousand_aliases_are_compiled_and_looked_up_without_being_read(folder: Path) -> None:
    made_of(folder, b"".join(b"user%d: person%d@far.example\n" % (i, i) for i in range(MANY)))
    with (folder / "aliases.cdb").open("r+b") as file:
        file.truncate(512 * MIB)  # what follows the tables is nobody's
    ran = subprocess.run(
        [BIN / "fastforward", "-n", folder / "aliases.cdb"],
        env=environment(folder, RECIPIENT="User99999@d.test", SENDER=""),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (256 * MIB, 256 * MIB)),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (0, b"from <>\nto <person99999@far.example>\n")


def test_a_hostile_database_is_refused_and_not_waited_for(folder: Path) -> None:
    made = bytearray(cdb.make([(b":bob@d.test", b"&a@b\0")]))
    place = next(at for at in range(4, 2_048, 8) if made[at : at + 4] != b"\0\0\0\0")
    made[place : place + 4] = b"\xff\xff\xff\xff"
    os.mkfifo(folder / "fifo")
    (folder / "bad.cdb").write_bytes(made)
    for name, error in (("bad.cdb", "input/output error"), ("fifo", "invalid argument")):
        ran = subprocess.run(
            [BIN / "fastforward", folder / name],
            env=environment(folder, RECIPIENT="bob@d.test", SENDER=""),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (ran.returncode, ran.stderr) == (111, f"fastforward: fatal: unable to read {folder / name}: {error}\n")
