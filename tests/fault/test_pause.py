"""Processes that are stopped in the middle of something, replaced meanwhile, and wake up: no harm is done then."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import crew, maildir, strace, wire_cutter
from tests.harness.ledger import Fate
from tests.harness.sink import Sink
from tests.harness.stack import Stack, patience, running
from tests.harness.strace import Injection
from tests.harness.traffic import FAR, Traffic, reckon

pytestmark = pytest.mark.timeout(300)

ALL = os.environ.get("FAULT_ALL") == "1"
SCALED = {"TIME_SCALE": "0.002"}
# Longer than what happens to the child meanwhile; it wakes when strace lets go of it.
BEFORE_THE_RENAME = Injection("rename,renameat,renameat2", "delay_enter=60000000", "1")


async def test_a_child_that_sleeps_before_its_rename_while_another_publishes(
    state: Path, program: Callable[[str], str]
) -> None:
    """And somebody fetches what the other has published before the first one wakes up."""
    with running(Stack(state, environment=SCALED, replicas="local=2")) as stack:
        traffic = Traffic(stack.ports["smtp"])
        with maildir.reading(stack.home("demo")):
            async with traffic.flowing():
                await traffic.accepted(10)
                child = strace.child_of(strace.child_of(stack.pid("local-0")))
                with strace.attached(program("strace"), child, BEFORE_THE_RENAME.words, state / "strace"):
                    elected = await asyncio.to_thread(wait_elected, stack.home("demo"))
                    stack.signal("local-0", signal.SIGSTOP)
                    await asyncio.to_thread(stack.replace, "queue-0")  # the next one sees that local-0 is not there
                    await asyncio.to_thread(wait_published, elected)
                    stack.signal("local-0", signal.SIGCONT)
                await traffic.accepted(10)
            await asyncio.to_thread(stack.wait_idle, 90.0)
        reckon(stack, traffic.kept)
        assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()


def wait_elected(home: Path) -> list[Path]:
    """The drafts that were elected and are not published, once there are some that stay so for a while."""
    before: list[Path] = []
    stayed = 0
    for _ in patience(60.0):
        found = [path for path in (home / "Maildir" / "tmp").glob("*.w") if _links(path) == 2]
        stayed = stayed + 1 if found and found == before else 0
        if stayed == 10:
            return found
        before = found
    raise AssertionError("no child sleeps before its rename")


def wait_published(drafts: list[Path]) -> None:
    for _ in patience(60.0):
        if not any(path.exists() for path in drafts):
            return
    raise AssertionError(f"nobody has published {drafts}")


def _links(path: Path) -> int:
    try:
        return path.stat().st_nlink
    except FileNotFoundError:
        return 0


async def test_an_smtpd_that_sleeps_while_the_queue_dies(state: Path) -> None:
    with running(Stack(state, environment=SCALED)) as stack:
        traffic = Traffic(stack.ports["smtp"])
        async with traffic.flowing():
            for _ in range(3):
                await traffic.accepted(10)
                stack.signal("smtpd-0", signal.SIGSTOP)
                await asyncio.to_thread(stack.replace, "queue-0")
                stack.signal("smtpd-0", signal.SIGCONT)
            await traffic.accepted(10)
        await asyncio.to_thread(reckon, stack, traffic.kept)
        assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()


@pytest.mark.skipif(not ALL, reason="takes the 30 s for which a remote's delivery is held: make fault")
async def test_a_remote_that_sleeps_before_the_dot(state: Path, world: Sink) -> None:
    """Its queue dies, its message is given to another after 30 s, and it wakes up: it must not send the dot."""
    with wire_cutter.running(world.port) as cutter:
        routes = {"smtproutes": f"far.example:127.0.0.1:{cutter.port}\n"}
        # Neither side is to time out while one sleeps.
        with running(Stack(state, environment={"TIME_SCALE": "0.5"}, controls=routes)) as stack:
            traffic = Traffic(stack.ports["smtp"], (FAR,), pause_s=50.0)
            cutter.holds_replies = True
            async with traffic.flowing():
                await traffic.accepted(4)
                await asyncio.to_thread(cutter.stops, 4 * len("220 sink.example ESMTP\r\n"))
                stack.signal("remote-0", signal.SIGSTOP)
                cutter.holds_replies = False
                await asyncio.to_thread(stack.replace, "queue-0")
                since = stack.mark()
                with crew.running(stack, {"remote": 1}, {}):
                    await asyncio.to_thread(stack.said.wait, r"^queue-0: end msg", since, 4)
                    stack.signal("remote-0", signal.SIGCONT)
                    await asyncio.to_thread(stack.said.wait, r"^queue-0: worker remote-0/\d+ has come", since)
                cutter.release()  # now it could go on, and its queue is there again
                traffic.pause_s = 0.0
            await asyncio.to_thread(reckon, stack, traffic.kept, world)
        assert len(world.taken) == 4
