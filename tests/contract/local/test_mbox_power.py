"""An mbox when the power fails, after any call, on the weakest file system that keeps its word.

What was told to be there is there; what is tried again stands there once. Each sync, left out, is missed.
"""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import durable
from runtime.clock import SystemClock
from runtime.durable import Disk
from services.local.mbox import Appender, Entry
from tests.harness.scribe import FROM, HEAD, stands, text
from tests.harness.volume import quick_folder
from tests.harness.weakdisk import Tape

STATES_EACH = 12


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as found:
        yield found


def append(path: Path, disk: Disk, names: list[str]) -> None:
    entries = [Entry(FROM, HEAD, text(name)) for name in names]
    Appender(disk, SystemClock()).append(str(path), entries)
    assert [entry.trouble for entry in entries] == [""] * len(names)


def record(memory: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Tape:
    """Some batches, each by a process of its own, and one whose record was lost."""
    root = memory / "root"
    root.mkdir()
    tape = Tape(root)
    with monkeypatch.context() as patched:
        patched.setattr(durable, "os", tape)
        patched.setattr(durable, "_libc", tape.libc(durable._libc))
        for names in (["a"], ["b", "c", "d"], ["c"], ["e", "f"]):
            append(root / "mbox", disk, names)
            tape.tell("there", *names)
    return tape


def broken(tape: Tape, memory: Path, moment: int, dice: random.Random) -> list[str]:
    told = {name for _, *names in tape.told(moment) for name in names}
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        tape.state(Path(folder), moment, dice)
        mbox = Path(folder) / "mbox"
        there = mbox.read_bytes() if mbox.exists() else b""
        wrong = [f"{name} is lost" for name in sorted(told) if stands(name) not in there]
        append(mbox, Disk(), list("abcdef"))
        content = b"\n" + mbox.read_bytes()
        return wrong + [f"{name} stands there twice" for name in "abcdef" if content.count(b"\n" + stands(name)) != 1]


def all_broken(tape: Tape, memory: Path) -> Iterator[tuple[int, int, list[str]]]:
    for moment in range(len(tape.steps) + 1):
        for number in range(STATES_EACH):
            if wrong := broken(tape, memory, moment, random.Random(f"{moment}/{number}")):
                yield moment, number, wrong


def test_what_was_told_is_there_and_what_is_tried_again_stands_there_once(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = record(memory, Disk(), monkeypatch)
    assert len(tape.steps) > 12
    assert not list(all_broken(tape, memory))


class NoSyncData(Disk):
    def sync_data(self, fd: int) -> None:
        pass


class NoSyncDirectory(Disk):
    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        pass


@pytest.mark.parametrize("disk", [NoSyncData, NoSyncDirectory])
def test_each_kind_of_sync_is_missed(memory: Path, monkeypatch: pytest.MonkeyPatch, disk: type[Disk]) -> None:
    assert any(all_broken(record(memory, disk(), monkeypatch), memory))
