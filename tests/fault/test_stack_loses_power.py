"""The power of a whole machine fails while clients send: spool, homes, certificates, Redis, everything on one volume.

What a client was told before the cut is true after the reboot. FAULT_ALL=1 does it more often, and on XFS too.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.harness import volume
from tests.harness.ledger import Fate, Ledger
from tests.harness.stack import Stack, patience, running
from tests.harness.traffic import Traffic, reckon
from tests.harness.volume import Volume

ALL = os.environ.get("FAULT_ALL") == "1"
CUTS = 12 if ALL else 2
SETTINGS = {"TIME_SCALE": "0.002", "SPOOL_SEGMENT_OCTETS": "65536"}

pytestmark = pytest.mark.timeout(900 if ALL else 240)


@pytest.fixture(params=["ext4"] + ["xfs"] * ALL)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Volume]:
    if lacking := volume.missing_part(request.param):
        missing(*lacking)
    with volume.in_memory(tmp_path / "memory", "size=1g") as memory:
        memory.chmod(0o755)
        yield Volume.make(request.param, memory / "image", memory / "mount")


async def test_what_clients_were_told_is_true_after_the_reboot(machine: Volume) -> None:
    stack = Stack(machine.point / "state", environment=SETTINGS)
    machine.mount()
    try:
        machine.point.chmod(0o755)
        with running(stack):
            os.sync()  # a machine that has run for a while; its first start is not the matter here
        traffic = Traffic(stack.ports["smtp"], pause_s=0.02)
        async with started(stack), traffic.flowing():
            await traffic.accepted(10)
            for number in range(CUTS):
                await traffic.accepted(40 + 13 * number)
                await reboot(machine, stack, traffic.kept)
            await traffic.accepted(10)
        await asyncio.to_thread(bring_up_and_reckon, stack, traffic.kept)
    finally:
        await asyncio.to_thread(die, stack)
        machine.unmount()


@contextlib.asynccontextmanager
async def started(stack: Stack) -> AsyncIterator[None]:
    await asyncio.to_thread(stack.start)
    yield


def bring_up_and_reckon(stack: Stack, kept: Ledger) -> None:
    reckon(stack, kept)
    stack.stop()


async def reboot(machine: Volume, stack: Stack, kept: Ledger) -> None:
    """The cut, the death of everything, the mount that replays the journal, the start."""
    told = len(kept.entries)
    machine.cut()
    await asyncio.to_thread(die, stack)
    # While the power failed a sync may have said that it was done, which no machine lives to hear.
    for number in range(told, len(kept.entries)):
        if kept.entries[number].fate is Fate.ACCEPTED:
            kept.entries[number] = replace(kept.entries[number], fate=Fate.UNKNOWN)
    await asyncio.to_thread(unmount, machine)
    machine.mount()
    await asyncio.to_thread(stack.start)


def die(stack: Stack) -> None:
    """Every process of the stack, at once and without a word."""
    assert stack.process
    if stack.process.poll() is not None:
        return
    for pid in [stack.process.pid, *descendants(stack.process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stack.wait_end()


def descendants(pid: int) -> list[int]:
    done = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, timeout=30, check=True)
    parents = {int(child): int(parent) for child, parent in map(str.split, done.stdout.splitlines())}
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sorted(family - {pid})


def unmount(machine: Volume) -> None:
    """As soon as the last of the dead has let go."""
    for _ in patience(30.0):
        try:
            machine.unmount()
        except OSError:
            continue
        return
    raise AssertionError(f"somebody still has files open in {machine.point}")
