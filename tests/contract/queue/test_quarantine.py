"""What is copied aside is bounded, and no trouble with it reaches the mail."""

import os
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.queue import quarantine
from services.queue.quarantine import COPY_MAX_OCTETS, Quarantine


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "FILES_MAX", 3)
    monkeypatch.setattr(quarantine, "OCTETS_MAX", 100)


def put(path: Path, name: str, octets: int = 10) -> str:
    said = Quarantine(str(path), Disk()).set_aside(name, b"x" * octets)
    if (path / name).exists():
        moment = len(list(path.iterdir()))
        os.utime(path / name, (moment, moment))
    return said


def test_a_copy_is_there_and_cut_to_its_bound(tmp_path: Path) -> None:
    where = Quarantine(str(tmp_path), Disk()).set_aside("a.torn", b"x" * (COPY_MAX_OCTETS + 1))
    assert where == str(tmp_path / "a.torn")
    assert (tmp_path / "a.torn").stat().st_size == COPY_MAX_OCTETS


@pytest.mark.usefixtures("few")
def test_the_oldest_torn_tail_makes_room(tmp_path: Path) -> None:
    for name in ("1.torn", "2.damaged", "3.torn", "4.damaged"):
        assert put(tmp_path, name) == str(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["2.damaged", "3.torn", "4.damaged"]


@pytest.mark.usefixtures("few")
def test_room_is_made_by_octets_too(tmp_path: Path) -> None:
    put(tmp_path, "1.torn", 60)
    put(tmp_path, "2.damaged", 60)
    assert os.listdir(tmp_path) == ["2.damaged"]


@pytest.mark.usefixtures("few")
def test_damage_never_makes_room(tmp_path: Path) -> None:
    for name in ("1.damaged", "2.damaged", "foreign"):
        put(tmp_path, name)
    assert "full" in put(tmp_path, "4.torn")
    assert sorted(os.listdir(tmp_path)) == ["1.damaged", "2.damaged", "foreign"]


@pytest.mark.usefixtures("few")
def test_the_same_copy_again_takes_no_more_room(tmp_path: Path) -> None:
    for name in ("1.damaged", "2.damaged", "3.damaged", "3.damaged"):
        assert put(tmp_path, name) == str(tmp_path / name)


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    class Full(Disk):
        def replace_file(self, path: str, content: bytes, mode: int = 0o600) -> None:
            Path(f"{path}.{os.getpid()}.draft").write_bytes(b"half")
            raise OSError(28, "No space left on device")

    said = Quarantine(str(tmp_path), Full()).set_aside("a.torn", b"x")
    assert said == "nowhere, for No space left on device"
    assert os.listdir(tmp_path) == []


def test_a_quarantine_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    assert "nowhere" in Quarantine(str(tmp_path / "gone"), Disk()).set_aside("a.torn", b"x")
