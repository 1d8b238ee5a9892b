"""The limits of programs: what the control files say, and what a program finds that it may use."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.config import ConfigError
from runtime.controls import Controls
from services.local import limits
from services.local.config import Rules
from services.local.limits import NO_LIMIT, ProgramLimits

PRINT = "import resource; print(*(resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[{}] for n in '{}'.split()))"


def read(folder: Path, **files: str) -> ProgramLimits:
    for name, content in files.items():
        (folder / name).write_text(content)
    return limits.read(Controls(str(folder)))


def seen_by_a_program(found: ProgramLimits, names: str, own_uid: bool = True) -> list[int]:
    """The limits, soft and hard, in a program that is started under them."""
    said = subprocess.run(
        [sys.executable, "-c", f"{PRINT.format(0, names)}; {PRINT.format(1, names)}"],
        preexec_fn=lambda: found.apply(own_uid),
        capture_output=True,
        check=True,
    ).stdout.split()
    return list(map(int, said))


def test_without_files_there_are_limits_for_all_that_a_bomb_is_made_of(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found == ProgramLimits()
    bounded = (found.address_space, found.cpu_s, found.processes, found.files, found.file_size, found.wall_s)
    assert min(bounded) > 0
    assert found.core == 0


def test_softlimits_options_are_obeyed_one_or_several_a_line(tmp_path: Path) -> None:
    found = read(
        tmp_path, softlimit="# ours\n-a 500000000 -t5\n-o 33 \n-p =\n\n", timeoutprogram="7\n", outputbytes="0\n"
    )
    assert (found.address_space, found.cpu_s, found.files, found.processes) == (500_000_000, 5, 33, NO_LIMIT)
    assert (found.wall_s, found.output) == (7, 0)
    assert found.file_size == limits.FILE_OCTETS


def test_m_is_four_limits_and_a_later_option_wins(tmp_path: Path) -> None:
    found = read(tmp_path, softlimit="-m 2000000\n-s 8000000\n")
    assert (found.data, found.locked, found.address_space, found.stack) == (2_000_000, 2_000_000, 2_000_000, 8_000_000)


def test_every_mistake_in_every_file_is_told_at_once_with_the_file_and_the_fix(tmp_path: Path) -> None:
    (tmp_path / "me").write_text("mail.example.test\n")
    (tmp_path / "softlimit").write_text("-a lots\n-z 5\na 5\n-t\n-o 9\n")
    (tmp_path / "timeoutprogram").write_text("0\n")
    (tmp_path / "outputbytes").write_text("much\n")
    with pytest.raises(ConfigError) as told:
        Rules(str(tmp_path))
    mistakes = told.value.mistakes
    assert len(mistakes) == 6
    assert [mistake.split(":")[0] for mistake in mistakes] == [
        *[str(tmp_path / "softlimit")] * 4,
        str(tmp_path / "timeoutprogram"),
        str(tmp_path / "outputbytes"),
    ]
    assert all("write" in mistake for mistake in mistakes)


def test_the_rules_have_the_limits_and_follow_the_files(tmp_path: Path) -> None:
    (tmp_path / "me").write_text("mail.example.test\n")
    rules = Rules(str(tmp_path))
    assert rules.limits == ProgramLimits()
    (tmp_path / "softlimit").write_text("-o 50\n")
    rules.reread()
    assert rules.limits.files == 50


def test_a_program_cannot_raise_its_limits() -> None:
    found = ProgramLimits(address_space=700 * limits.MIB, files=50, file_size=1_000_000, cpu_s=9, stack=4_000_000)
    bounded = [700 * limits.MIB, 50, 1_000_000, 0, 4_000_000]
    assert seen_by_a_program(found, "AS NOFILE FSIZE CORE STACK") == bounded * 2
    assert seen_by_a_program(found, "CPU") == [9, 10]


def test_a_program_that_computes_for_too_long_is_told_so_by_its_signal() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "while True: pass"], preexec_fn=lambda: ProgramLimits(cpu_s=1).apply(True)
    ) as process:
        assert process.wait(60) == -signal.SIGXCPU


def test_what_is_not_limited_stays_as_it_is() -> None:
    free = ProgramLimits(*[NO_LIMIT] * 12)
    names = "AS NOFILE FSIZE CPU NPROC"
    now = [resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[i] for i in (0, 1) for name in names.split()]
    assert seen_by_a_program(free, names) == now


def test_a_limit_above_the_hard_one_is_the_hard_one() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert seen_by_a_program(ProgramLimits(files=hard + 1), "NOFILE") == [hard, hard]


def test_processes_are_counted_only_where_a_uid_is_one_user() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    assert seen_by_a_program(ProgramLimits(processes=11), "NPROC", own_uid=False)[1] == hard
    if os.geteuid() == 0:  # root is not bounded by it; another uid with many processes could not start the program
        assert seen_by_a_program(ProgramLimits(processes=11), "NPROC") == [11, 11]


def test_the_limits_travel_as_a_row_of_numbers() -> None:
    import dataclasses
    import json

    found = ProgramLimits(files=7)
    assert ProgramLimits(*json.loads(json.dumps(dataclasses.astuple(found)))) == found
