"""The simulation as part of the suite: as many histories as the time allows, and a seed that tells the same twice.

SIM_SECONDS says for how long; `.ci/run` gives it five minutes.
"""

import os
import subprocess
import sys

import pytest

from tests.sim import campaign

SECONDS = float(os.environ.get("SIM_SECONDS", "60"))

# A slow machine tells fewer histories, but a simulation that tells hardly any shows nothing.
HISTORIES_MIN = 10


@pytest.mark.timeout(SECONDS + 180)
def test_nothing_is_lost_doubled_or_raised_from_the_dead(capsys: pytest.CaptureFixture[str]) -> None:
    summary = campaign.run(campaign.Order(seconds=SECONDS))
    report = campaign.report(summary)
    with capsys.disabled():
        print(f"\n{report}")
    assert not summary.wrong, report
    assert summary.histories >= HISTORIES_MIN, report


def replay(seed: int) -> bytes:
    """Everything that happened, a line each, in a process of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "tests.sim", "--replay", str(seed)], capture_output=True, timeout=100, check=False
    )
    assert told.returncode == 0, told.stderr.decode()
    return told.stdout


def test_a_seed_tells_the_same_history_octet_for_octet() -> None:
    first = replay(7)
    assert first.count(b"\n") >= campaign.EVENTS_MIN
    assert replay(7) == first
    assert replay(8) != first
