"""Every call of runtime/durable.py as the last one, on the weakest file system that keeps its word.

The calls of some lives of the office are recorded; then what a crash may leave after any of them is built in a folder
and recovered (tests/harness/weakdisk.py). Each kind of sync, left out, is found out. FAULT_ALL=1 tries all moments.
"""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import durable
from runtime.config import ConfigError
from runtime.durable import Disk
from tests.harness.mailroom import Work, life
from tests.harness.office import Place
from tests.harness.reckoning import Reckoning, Told
from tests.harness.volume import quick_folder
from tests.harness.weakdisk import Names, Tape

ALL = os.environ.get("FAULT_ALL") == "1"
MOMENTS_MAX = 100_000 if ALL else 100
STATES_EACH = 6 if ALL else 3
LIVES = 3
STEPS = 60

pytestmark = pytest.mark.timeout(3_600 if ALL else 120)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as found:
        yield found


def place_in(point: Path) -> Place:
    return Place(str(point / "spool"), str(point / "Maildir"), segment_octets=32 * 1024)


def record(memory: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Some lives of the office on a disk whose calls are recorded."""
    root = memory / "root"
    root.mkdir()
    tape = Tape(root)
    with monkeypatch.context() as patched:
        patched.setattr(durable, "os", tape)
        patched.setattr(durable, "shutil", tape)
        patched.setattr(durable, "_libc", tape.libc(durable._libc))
        disk.make_directory(str(root / "spool"))
        Disk.sync_directory(disk, str(root))
        for seed in range(LIVES):
            life(place_in(root), Work(STEPS, large_every=40), seed, disk, tape.tell)
    return tape


def reached(tape: Tape) -> set[str]:
    """What the office did that leaves names behind: the recording is worth something only when all of it is there."""
    what = set()
    for step in tape.steps:
        for _, name, node in step.changes if isinstance(step, Names) else ():
            what.add("named" if name.endswith("-000001.seg") else "")
            what.add("filled" if name.endswith("-000002.seg") else "")
            what.add("reclaimed" if name.endswith(".seg") and node is None else "")
            what.add("spared" if name == "spare" else "")
            what.add("published" if name.endswith(".d") else "")
    return what


def states(tape: Tape, seed: int) -> Iterator[tuple[int, random.Random | None]]:
    """Moments in any order, and for each some dice; None: everything has arrived."""
    moments = random.Random(seed).sample(range(2, len(tape.steps) + 1), min(MOMENTS_MAX, len(tape.steps) - 2))
    for moment in moments:
        for number in range(STATES_EACH):
            yield moment, random.Random(f"{seed}/{moment}/{number}") if number else None


def broken(tape: Tape, memory: Path, moment: int, dice: random.Random | None) -> list[str]:
    """What is wrong after a crash at that moment; [] when every promise is kept."""
    told = Told()
    told.learn(tape.told(moment))
    with tempfile.TemporaryDirectory(dir=memory) as target:
        tape.state(Path(target), moment, dice)
        place = place_in(Path(target))
        if not Path(place.spool).exists():
            return ["the spool is gone"]
        reckoning = Reckoning(place, told)
        try:
            reckoning.finish(reader=moment % 2 == 0)
        except ConfigError as error:  # a spool that does not look like one
            return error.mistakes
        return reckoning.broken + reckoning.alerts


def test_no_promise_is_broken_after_any_call(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = record(memory, Disk(), monkeypatch)
    assert {"named", "filled", "reclaimed", "spared", "published"} <= reached(tape)
    found = {
        (moment, dice is not None): wrong
        for moment, dice in states(tape, 1)
        if (wrong := broken(tape, memory, moment, dice))
    }
    assert not found, f"{len(found)} states are broken, the first: {next(iter(found.items()))}"


class NoSyncData(Disk):
    def sync_data(self, fd: int) -> None:
        pass


class NoSyncFile(Disk):
    def sync_file(self, fd: int) -> None:
        pass


class NoSyncDirectory(Disk):
    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        pass


class NoSyncFilesystem(Disk):
    def sync_filesystem(self, fd: int) -> None:
        pass


@pytest.mark.parametrize("disk", [NoSyncData, NoSyncFile, NoSyncDirectory, NoSyncFilesystem])
def test_each_kind_of_sync_is_missed(memory: Path, monkeypatch: pytest.MonkeyPatch, disk: type[Disk]) -> None:
    tape = record(memory, disk(), monkeypatch)
    assert any(broken(tape, memory, moment, dice) for moment, dice in states(tape, 2))
