"""A taker that is killed at any of its steps, any number of times: the next one finds the same mail."""

import os
import signal

import pytest

from runtime import faults
from runtime.faults import Point
from services.queue.log import LostLog
from tests.harness.yard import Yard, accepted, an_id, ids_of

STEPS = [
    Point.TAKEOVER_AFTER_TOKEN,
    Point.TAKEOVER_AFTER_RENAME,
    Point.SEGMENT_AFTER_CREATE,
    Point.TAKEOVER_AFTER_SCAN,
    Point.LOG_BEFORE_WRITE,
    Point.LOG_AFTER_WRITE,
    Point.LOG_AFTER_SYNC,
    Point.LOG_AFTER_RECHECK,
    Point.TAKEOVER_AFTER_SEAL,
]


def killed_taker(yard: Yard, owner: str, step: Point) -> None:
    """A process that takes the log and is killed at the step."""
    child = os.fork()
    if child == 0:
        try:
            faults.arm(step.value)
            yard.take(owner)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{step} was not reached"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_a_taker_killed_at_a_step_changes_nothing(yard: Yard, step: Point) -> None:
    log = yard.create()
    log.append([accepted(1)])
    log.append([accepted(2), accepted(3)])
    for turn in range(3):
        killed_taker(yard, f"dead-{turn}", step)
    yard.take("alive")
    assert sorted(ids_of(yard.learned)) == [an_id(1), an_id(2), an_id(3)]


@pytest.mark.parametrize("step", STEPS)
def test_a_former_owner_is_fenced_off_by_a_taker_that_died(yard: Yard, step: Point) -> None:
    log = yard.create()
    log.append([accepted(1)])
    killed_taker(yard, "dead", step)
    told = True
    try:
        log.append([accepted(2)])
    except LostLog:
        told = False
    yard.take("alive")
    found = ids_of(yard.learned)
    assert an_id(1) in found
    if told:
        assert an_id(2) in found, "acknowledged, so it is there"
