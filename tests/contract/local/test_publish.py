"""Exactly once into a Maildir: real files, real kills."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from runtime.faults import Point
from services.local import texts
from services.local.publish import ELECTION_LASTS_S, SYNC_TOGETHER_MIN, Copy, Publisher
from services.local.sweep import NOTHING_SETTLED, Settled, called, sweep

CHECKOUT = Path(__file__).resolve().parents[3]
POINTS = [point for point in Point if point.value.startswith("publish.")]
CONTENT = b"Head: x\n" + b"body\n" * 800


def publisher(disk: Disk | None = None) -> Publisher:
    return Publisher(disk or Disk(), SystemClock(), SystemChance())


def copies(*names: str) -> list[Copy]:
    return [Copy(name, b"Head: x\n", memoryview(b"body\n" * 800)) for name in names]


def run(maildir: Path, count: int, crash_at: str = "") -> int:
    environment = {**os.environ, "CRASH_AT": crash_at, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.contract.local.publish_once", str(maildir), str(count)],
        cwd=CHECKOUT,
        env=environment,
        check=False,
    )
    return done.returncode


def new(maildir: Path) -> list[str]:
    return sorted(os.listdir(maildir / "new"))


def leave(maildir: Path) -> int:
    return len(new(maildir))


def move(maildir: Path) -> int:
    """As a reader does. Returns how many new messages may still come: those that were not there yet."""
    for name in new(maildir):
        (maildir / "new" / name).rename(maildir / "cur" / f"{name}:2,S")
    return 0


def delete(maildir: Path) -> int:
    for name in new(maildir):
        (maildir / "new" / name).unlink()
    return 0


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("user", [leave, move, delete])
def test_a_kill_anywhere_leaves_exactly_one_copy(tmp_path: Path, point: Point, user: Callable[[Path], int]) -> None:
    maildir = tmp_path / "Maildir"
    count = SYNC_TOGETHER_MIN if user is move else 1
    assert run(maildir, count, str(point)) == -signal.SIGKILL, "the point was not reached"
    seen = len(new(maildir))
    kept = user(maildir)
    assert run(maildir, count) == 0
    assert len(new(maildir)) == count - seen + kept
    assert run(maildir, count) == 0, "and whenever it is tried again"
    assert len(new(maildir)) == count - seen + kept
    everything = [maildir / folder / name for folder in ("new", "cur") for name in os.listdir(maildir / folder)]
    assert all(path.read_bytes() == CONTENT for path in everything)
    assert len({path.name.partition(":")[0] for path in everything}) == len(everything)


def test_kills_at_every_point_one_after_another_still_leave_one_copy(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    for point in POINTS:
        run(maildir, 2, str(point))
    assert run(maildir, 2) == 0
    assert len(new(maildir)) == 2


def test_two_attempts_alive_at_once_publish_once(tmp_path: Path) -> None:
    """The second one runs while the first is between election and rename, as a paused one would be."""
    maildir = tmp_path / "Maildir"

    class Interrupted(Disk):
        def rename_across(self, old: tuple[int, str], new: tuple[int, str]) -> None:
            second = copies("a")
            publisher().publish(str(maildir), second, make=True)
            assert second[0].trouble == ""
            (maildir / "new" / "a").rename(maildir / "cur" / "a:2,S")  # and the reader is quick
            super().rename_across(old, new)

    first = copies("a")
    publisher(Interrupted()).publish(str(maildir), first, make=True)
    assert first[0].trouble == ""
    assert new(maildir) == []
    assert os.listdir(maildir / "cur") == ["a:2,S"]


def test_the_same_name_twice_in_one_batch_is_one_copy(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    both = copies("a", "a")
    publisher().publish(str(maildir), both, make=True)
    assert [copy.trouble for copy in both] == ["", ""]
    assert new(maildir) == ["a"]


def test_nothing_but_messages_is_ever_in_new(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    publisher().publish(str(maildir), copies("a", "b", "c", "d", "e"), make=True)
    assert new(maildir) == ["a", "b", "c", "d", "e"]
    assert sorted(os.listdir(maildir / "tmp")) == ["a.d", "b.d", "c.d", "d.d", "e.d"]


def test_a_maildir_is_made_only_when_that_is_asked_for(tmp_path: Path) -> None:
    found = copies("a")
    publisher().publish(str(tmp_path / "Lists"), found, make=False)
    assert found[0].trouble == texts.NO_MAILDIR
    assert os.listdir(tmp_path) == []


def test_a_maildir_that_was_half_made_is_finished(tmp_path: Path) -> None:
    (tmp_path / "Maildir" / "tmp").mkdir(parents=True)
    found = copies("a")
    publisher().publish(str(tmp_path / "Maildir"), found, make=True)
    assert found[0].trouble == ""


def test_a_maildir_without_cur_gets_one_and_without_another_part_does_not(tmp_path: Path) -> None:
    for missing in ("tmp", "new", "cur"):
        maildir = tmp_path / missing
        for one in {"tmp", "new", "cur"} - {missing}:
            (maildir / one).mkdir(parents=True)
        found = copies("a")
        publisher().publish(str(maildir), found, make=False)
        assert found[0].trouble == ("" if missing == "cur" else texts.MAILDIR_TROUBLE)
        assert (maildir / missing).exists() == (missing == "cur")


@pytest.mark.parametrize("part", ["tmp", "new", "cur"])
def test_a_link_in_place_of_a_part_leads_nowhere(tmp_path: Path, part: str) -> None:
    maildir, elsewhere = tmp_path / "Maildir", tmp_path / "elsewhere"
    for one in ("tmp", "new", "cur"):
        (maildir / one).mkdir(parents=True)
    elsewhere.mkdir()
    (maildir / part).rmdir()
    (maildir / part).symlink_to(elsewhere)
    found = copies("a")
    publisher().publish(str(maildir), found, make=True)
    assert found[0].trouble == texts.MAILDIR_TROUBLE
    assert os.listdir(elsewhere) == []


class FailingDisk(Disk):
    """A disk on which one operation fails, with an errno, from its nth call on."""

    def __init__(self, operation: str, number: int, first: int = 1) -> None:
        self._operation = operation
        self._errno = number
        self._left = first

    def _pass(self, operation: str) -> None:
        if operation == self._operation:
            self._left -= 1
            if self._left <= 0:
                raise OSError(self._errno, os.strerror(self._errno))

    def write_all(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        self._pass("write")
        return super().write_all(fd, buffers)

    def sync_filesystem(self, fd: int) -> None:
        self._pass("sync")
        super().sync_filesystem(fd)

    def sync_data(self, fd: int) -> None:
        self._pass("sync")
        super().sync_data(fd)

    def link(self, existing: str, new: str, dir_fd: int | None = None) -> None:
        self._pass("link")
        super().link(existing, new, dir_fd)

    def sync_file(self, fd: int) -> None:
        self._pass("sync directory")
        super().sync_file(fd)

    def rename_across(self, old: tuple[int, str], new: tuple[int, str]) -> None:
        self._pass("rename")
        super().rename_across(old, new)


@pytest.mark.parametrize("operation", ["write", "sync", "link", "sync directory", "rename"])
@pytest.mark.parametrize("count", [1, SYNC_TOGETHER_MIN])
def test_a_failing_disk_defers_and_the_next_attempt_publishes_once(tmp_path: Path, operation: str, count: int) -> None:
    maildir = tmp_path / "Maildir"
    names = [str(number) for number in range(count)]
    failed = copies(*names)
    publisher(FailingDisk(operation, errno.EIO)).publish(str(maildir), failed, make=True)
    assert {copy.trouble for copy in failed} == {texts.MAILDIR_TROUBLE}
    assert new(maildir) == []
    publisher().publish(str(maildir), copies(*names), make=True)
    assert new(maildir) == names


def test_a_full_mailbox_is_that_message_alone(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    found = copies("a", "b")
    publisher(FailingDisk("write", errno.EDQUOT, first=2)).publish(str(maildir), found, make=True)
    assert [copy.trouble for copy in found] == ["", "The mailbox is over its quota. (#4.2.2)\n"]
    assert new(maildir) == ["a"]
    assert os.listdir(maildir / "tmp") == ["a.d"]


def test_an_election_older_than_36_hours_counts_only_while_its_message_is_found(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    publisher().publish(str(maildir), copies("a", "b", "c"), make=True)
    (maildir / "new" / "b").rename(maildir / "cur" / "b:2,S")
    (maildir / "new" / "c").unlink()
    then = SystemClock().wall_ms() / 1_000 - ELECTION_LASTS_S - 60
    for name in "abc":
        os.utime(maildir / "tmp" / f"{name}.d", (then, then))
    again = copies("a", "b", "c")
    publisher().publish(str(maildir), again, make=True)
    assert [copy.trouble for copy in again] == ["", "", ""]
    assert [copy.forgotten for copy in again] == [False, False, True]
    assert new(maildir) == ["a", "c"]


def _name(number: int) -> str:
    return f"1700000000.Q{number:026d}R0I0.c"


def test_the_sweep_takes_what_is_settled_and_what_is_too_old(tmp_path: Path) -> None:
    maildir, clock = tmp_path / "Maildir", SystemClock()
    names = [_name(number) for number in range(6)]
    publisher().publish(str(maildir), copies(*names), make=True)
    now_s = clock.wall_ms() / 1_000
    ages_s = (10, 100, 1_000, 5_000, ELECTION_LASTS_S + 10, 1_000)
    for name, age_s in zip(names, ages_s, strict=True):
        os.utime(maildir / "tmp" / f"{name}.d", (now_s - age_s, now_s - age_s))
    draft = maildir / "tmp" / f"{names[0]}.aa.w"
    draft.write_bytes(b"")
    foreign = maildir / "tmp" / "somebody.elses"
    foreign.write_bytes(b"")
    os.utime(foreign, (0, 0))
    settled = Settled(now_s - 4_000, now_s - 500, frozenset({called(f"{5:026d}", 0)}))
    assert sweep(Disk(), clock, str(maildir), settled) == 4
    left = {name.removesuffix(".d") for name in os.listdir(maildir / "tmp") if name.endswith(".d")}
    assert left == {names[0], names[1], names[3], names[5]}
    assert draft.exists()
    assert foreign.exists()
    os.utime(draft, (0, 0))
    sweep(Disk(), clock, str(maildir), NOTHING_SETTLED)
    assert not draft.exists()
    assert new(maildir) == names


def test_a_sweep_of_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert sweep(Disk(), SystemClock(), str(tmp_path / "none"), NOTHING_SETTLED) == 0
