"""A queue that dies at, or is refused, every call to the file system: of takeover, accept, settle, reclaim, remove.

In one small process (tests/harness/clerk.py), call after call; the next owner must find every promise kept.
FAULT_ALL=1 adds the calls that only read, and every error for every call.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from runtime.config import EXIT_IO
from tests.harness import brood
from tests.harness.day import CLERK, LOG, MAIN, PHASES, Days, Phase
from tests.harness.promises import Lines
from tests.harness.strace import Injection

pytestmark = pytest.mark.timeout(1_800)

TAKERS = 50
ALL = os.environ.get("FAULT_ALL") == "1"


@pytest.fixture
def days(program: Callable[[str], str]) -> Iterator[Days]:
    """On a file system in memory where there is one: calls are counted here, not what a disk makes of them."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with brood.running(CLERK) as parent, tempfile.TemporaryDirectory(prefix="seapost-days-", dir=memory) as folder:
        yield Days.begin(parent, program("strace"), Path(folder))


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_a_kill_at_every_call_breaks_no_promise(days: Days, phase: Phase) -> None:
    faults = []
    steps = [step for step in days.steps(phase) if step.call.changes or ALL]
    for step in steps:
        spool, status, said = days.strike(step, "signal=KILL")
        assert status == -9, f"{step} was not reached"
        faults += [f"{step}: {fault} ({spool})" for fault in days.reckon(spool, step.phase, said)]
    print(f"{phase}: {len(steps)} kills")
    assert not faults, "\n".join(faults[:20])


# What a disk, a file system or a limit of the process may answer to any call at any time.
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ESTALE", "ENOMEM", "EINTR")
READS = ("pread64", "read", "lseek")
SYNCS = ("fsync", "fdatasync")
_READS_TRIED = 4  # of the calls that only read, every fourth


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_an_error_at_every_call_is_answered_honestly(days: Days, phase: Phase) -> None:
    """What was committed is there, what was refused is not, nothing is acknowledged after it; nothing stays open."""
    faults = []
    steps = days.steps(phase)
    chosen = [step for place, step in enumerate(steps) if ALL or step.call.changes or place % _READS_TRIED == 0]
    for place, step in enumerate(chosen):
        for error in ERRORS if ALL else (ERRORS[place % len(ERRORS)],):
            spool, status, said = days.strike(step, f"error={error}")
            bad = ended(status, said, step.call.name == "close") + days.reckon(spool, step.phase, said)
            faults += [f"{step} {error}: {fault} ({spool})" for fault in bad]
    print(f"{phase}: {len(chosen)} of {len(steps)} calls failed once")
    assert not faults, "\n".join(faults[:20])


def test_a_sync_that_failed_once_is_not_tried_again(days: Days) -> None:
    """The next one would succeed, for the kernel forgets what it could not write."""
    faults = []
    steps = [step for step in days.steps(Phase("shift", LOG)) if step.call.name in SYNCS]
    for step in steps:
        spool, status, said = days.strike(step, "error=EIO")
        bad = ["it went on"] * (status != EXIT_IO) + days.reckon(spool, step.phase, said)
        faults += [f"{step}: {fault} ({spool})" for fault in bad]
    assert steps
    assert not faults, "\n".join(faults[:20])


@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
def test_a_disk_that_ceases_to_be_read_while_a_log_is_taken_takes_nothing_away(days: Days, error: str) -> None:
    """From some call on nothing is read any more; the next owner, who can read again, finds everything."""
    faults = []
    steps = [step for step in days.steps(Phase("take", MAIN)) if step.call.name in READS]
    for step in steps:
        spool, status, said = days.strike(step, f"error={error}", onwards=True)
        bad = ended(status, said, True) + days.reckon(spool, step.phase, said)
        faults += [f"{step} and on: {fault} ({spool})" for fault in bad]
    assert steps
    assert not faults, "\n".join(faults[:20])


def test_a_write_that_took_nothing_is_finished(days: Days) -> None:
    """The shortest of short writes; the day goes on as if nothing had been."""
    faults = []
    steps = [step for phase in PHASES for step in days.steps(phase) if step.call.name in ("write", "writev")]
    for step in steps:
        spool, status, said = days.strike(step, "retval=0")
        bad = [f"ended with {status}"] * bool(status) + days.reckon(spool, step.phase, said)
        faults += [f"{step}: {fault} ({spool})" for fault in bad]
    assert steps
    assert not faults, "\n".join(faults[:20])


def test_takers_die_fifty_times_in_a_row(days: Days) -> None:
    """Each at another call, on what the ones before it left."""
    spool, taking = days.morning(Phase("take", MAIN)), Phase("take", MAIN, "retake")
    died = 0
    for turn, step in zip(range(TAKERS), cycle(step for step in days.steps(taking) if step.call.changes), strict=False):
        status, _, _ = days.work(spool, taking, Injection(step.call.name, "signal=KILL", str(step.call.number)).words)
        assert status in (0, -9), f"taker {turn} ended with {status}"
        died += status == -9
    assert died >= TAKERS - 5
    faults = days.reckon(spool, taking, [])
    assert not faults, "\n".join(faults[:20])


def ended(status: int, said: Lines, not_closed: bool) -> list[str]:
    """What is wrong with the end of a process whose disk has failed once."""
    if status != 0:
        return [] if status == EXIT_IO else [f"ended with {status}"]
    still_open = [line[1] for line in said if line[0] == "descriptors"]
    return [f"{count} descriptors stay open" for count in still_open if count > not_closed]
