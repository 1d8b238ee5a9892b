"""The whole stack while strace reaches into its processes: killed at calls, refused by the disk, one after another.

The small process of test_every_call.py goes through every call; here a few of each kind, under load, with everything
around it that a small process has not.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.config import EXIT_IO
from tests.harness import maildir, strace
from tests.harness.ledger import Fate
from tests.harness.stack import Stack, patience, running
from tests.harness.strace import Injection
from tests.harness.traffic import Traffic, reckon

pytestmark = pytest.mark.timeout(240)

SETTINGS = {"TIME_SCALE": "0.002", "SPOOL_SEGMENT_OCTETS": "65536"}

# FAULT_ALL=1 does what stands behind `+` as well; `up` waits longer each time before it starts one that died again.
ALL = os.environ.get("FAULT_ALL") == "1"

# Each ends one life of the queue.
KILLS = (
    Injection("writev", "signal=KILL", "7"),
    Injection("fdatasync", "signal=KILL", "7"),
    Injection("newfstatat", "signal=KILL", "31"),
    Injection("unlink", "signal=KILL", "2"),
    Injection("sendmsg", "signal=KILL", "40"),
) + ALL * (
    Injection("openat", "signal=KILL", "12"),
    Injection("fsync", "signal=KILL", "3"),
    Injection("recvmsg", "signal=KILL", "60"),
)
ERRORS = (
    Injection("fdatasync", "error=EIO", "5"),
    Injection("writev", "error=ENOSPC", "5"),
    Injection("fsync", "error=EIO", "1"),
) + ALL * (
    Injection("fallocate", "error=EDQUOT", "1"),
    Injection("unlink", "error=EROFS", "1"),
)
# In a child that publishes as the user: it is the spawner's, and strace follows it.
CHILD_STRIKES = (
    Injection("linkat", "signal=KILL", "2"),
    Injection("renameat,renameat2", "signal=KILL", "2"),
    Injection("fsync", "signal=KILL", "2"),
    Injection("fdatasync,syncfs", "signal=KILL", "2"),
    Injection("linkat", "error=EDQUOT", "2+3"),
    Injection("fsync", "error=EIO", "3"),
    Injection("openat", "error=EMFILE", "30..40"),
)


# While the next life takes the log over.
TAKER_KILLS = (
    Injection("rename", "signal=KILL", "1"),
    Injection("fdatasync", "signal=KILL", "1"),
    Injection("writev", "signal=KILL", "1"),
)


async def test_the_queue_dies_at_calls_of_every_kind(state: Path, program: Callable[[str], str]) -> None:
    with running(Stack(state, environment=SETTINGS)) as stack:
        traffic = Traffic(stack.ports["smtp"])
        async with traffic.flowing():
            for injection in KILLS:
                await traffic.accepted(12)
                since = stack.mark()
                with struck(stack.pid("queue-0"), injection, program("strace"), state):
                    await asyncio.to_thread(stack.said.wait, r"^up: queue-0 was ended by SIGKILL", since)
                await asyncio.to_thread(stack.wait_started, "queue-0", since)
            await traffic.accepted(12)
        await asyncio.to_thread(reckon, stack, traffic.kept)
        assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()


async def test_the_queue_dies_while_it_takes_its_log_back(state: Path, program: Callable[[str], str]) -> None:
    with running(Stack(state, environment=SETTINGS)) as stack:
        traffic = Traffic(stack.ports["smtp"])
        async with traffic.flowing():
            await traffic.accepted(40)
            since, former = stack.mark(), stack.pid("queue-0")
            stack.kill("queue-0")
            for turn, injection in enumerate(TAKER_KILLS, 2):
                former = await next_life(stack, former)
                with struck(former, injection, program("strace"), state):
                    await asyncio.to_thread(stack.said.wait, r"^up: queue-0 was ended by SIGKILL", since, turn)
            await asyncio.to_thread(stack.wait_started, "queue-0", since)
            await traffic.accepted(12)
        await asyncio.to_thread(reckon, stack, traffic.kept)


async def test_a_disk_that_refuses_a_call_ends_the_queue_and_loses_nothing(
    state: Path, program: Callable[[str], str]
) -> None:
    with running(Stack(state, environment=SETTINGS)) as stack:
        traffic = Traffic(stack.ports["smtp"])
        async with traffic.flowing():
            for injection in ERRORS:
                await traffic.accepted(12)
                since = stack.mark()
                with struck(stack.pid("queue-0"), injection, program("strace"), state):
                    await asyncio.to_thread(stack.said.wait, rf"^up: queue-0 ended with status {EXIT_IO}", since)
                await asyncio.to_thread(stack.wait_started, "queue-0", since)
            await traffic.accepted(12)
        await asyncio.to_thread(reckon, stack, traffic.kept)
        assert not stack.said.find(r"^up: queue-0 ended with status (?!74:)"), "another status"


async def test_a_child_that_publishes_is_struck(state: Path, program: Callable[[str], str]) -> None:
    """Killed or refused at its calls, while somebody reads the mail at once."""
    with running(Stack(state, environment=SETTINGS)) as stack:
        traffic = Traffic(stack.ports["smtp"])
        with maildir.reading(stack.home("demo")):
            async with traffic.flowing():
                for injection in CHILD_STRIKES:
                    await traffic.accepted(4)
                    child = strace.child_of(strace.child_of(stack.pid("local-0")))
                    with struck(child, injection, program("strace"), state) as report:
                        await asyncio.to_thread(wait_struck, report)
            await asyncio.to_thread(stack.wait_idle, 90.0)
        reckon(stack, traffic.kept)


@contextmanager
def struck(pid: int, injection: Injection, program: str, state: Path) -> Iterator[Path]:
    report = state / "strace"
    with strace.attached(program, pid, injection.words, report):
        yield report


def wait_struck(report: Path) -> None:
    """Returns when strace has done what it was told to."""
    for _ in patience(60.0):
        seen = report.read_text(errors="replace")
        if "(INJECTED)" in seen or "killed by SIGKILL" in seen:
            return
    raise AssertionError(f"no such call was made: {report.read_text(errors='replace')}")


async def next_life(stack: Stack, former: int) -> int:
    """The pid of the queue once it is started again."""
    for _ in patience(60.0):
        if (pid := stack.pid("queue-0")) not in (0, former):
            return pid
        await asyncio.sleep(0)
    raise AssertionError("it was not started again")
