"""What local notes of instructions that cannot be done exactly once, and what a later local learns from it."""

from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.durable import Disk
from services.local.underway import Underway

ONE, TWO = ("0" * 26 + "R0", 3), ("1" * 26 + "R1", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "local-0.underway"


def opened(path: Path) -> Underway:
    return Underway(str(path), Disk(), SystemClock())


def test_what_was_begun_and_not_recorded_is_lost_to_the_next(path: Path) -> None:
    dead = opened(path)
    assert dead.begin([ONE, TWO]) == []
    dead.finish(TWO[0])
    found = opened(path)
    assert found.begin([TWO]) == []
    assert found.begin([ONE]) == [ONE]


def test_a_repetition_is_told_once_and_then_begun_as_any_other(path: Path) -> None:
    opened(path).begin([ONE])
    found = opened(path)
    assert found.begin([ONE]) == [ONE]
    assert found.begin([ONE]) == []
    found.finish(ONE[0])
    assert opened(path).begin([ONE]) == []


def test_what_is_lost_stays_noted_though_the_deferral_is_recorded(path: Path) -> None:
    notes = opened(path)
    notes.begin([ONE])
    notes.lose([ONE])
    notes.finish(ONE[0])
    assert opened(path).begin([ONE]) == [ONE]
    assert notes.begin([ONE]) == [ONE]


def test_a_torn_line_and_foreign_lines_are_passed_over(path: Path) -> None:
    opened(path).begin([ONE])
    with path.open("ab") as file:
        file.write(b"nonsense\n+ x y z\n\xff\n+ 17000")
    found = opened(path)
    assert found.begin([TWO]) == []
    assert found.begin([ONE]) == [ONE]


def test_what_is_older_than_any_message_is_forgotten(path: Path) -> None:
    path.write_text(f"+ 1700000000 {ONE[0]} {ONE[1]}\n")
    assert opened(path).begin([ONE]) == []


def test_without_a_place_it_remembers_as_long_as_it_lives(tmp_path: Path) -> None:
    notes = Underway("", Disk(), SystemClock())
    notes.begin([ONE])
    notes.lose([ONE])
    assert notes.begin([ONE]) == [ONE]
    assert Underway("", Disk(), SystemClock()).begin([ONE]) == []
    assert Underway(str(tmp_path / "no" / "place"), Disk(), SystemClock()).begin([ONE]) == []
