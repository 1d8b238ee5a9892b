"""Replicas of the queue that come, go, die and sleep under load: their logs are taken, and nothing is lost or doubled.

Two replicas run beside a stack's own, so that nobody starts them again.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.config import EXIT_TEMPORARY
from tests.harness import crew
from tests.harness.crew import Crew
from tests.harness.ledger import Fate
from tests.harness.stack import Stack, patience, running
from tests.harness.traffic import DEMO, Traffic, reckon

pytestmark = pytest.mark.timeout(300)

ALL = os.environ.get("FAULT_ALL") == "1"
# An id must not be too old while its log has no owner: the horizon is scaled as well.
SCALED = {"TIME_SCALE": "0.02"}
THE_QUEUE_ALONE = "smtpd=0,local=0,remote=0,pop3=0"
# Without Redis a log is taken after a minute by its heartbeat alone: who takes it sooner has found its lock free.
SOONER_S = 40.0
TOOK = "took log"


@dataclass(slots=True)
class House:
    stack: Stack
    crew: Crew

    def happens(self, event: str, log: str, count: int = 1, within_s: float = 60.0) -> None:
        """Returns when this has happened to the log so many times, whoever did it."""
        for _ in patience(within_s):
            found = [one for one in self.stack.events("queue") if (one["event"], one.get("log")) == (event, log)]
            if len(found) >= count:
                return
        raise AssertionError(f"{event} {log}: {found}")

    def log_of(self, name: str) -> str:
        """The log that a replica began with, or took last."""
        events = self.stack.events("queue")
        return next(str(one["log"]) for one in reversed(events) if (one["event"], one["service"]) == (TOOK, name))


@contextmanager
def house(state: Path) -> Iterator[House]:
    with ExitStack() as parts:
        stack = parts.enter_context(running(Stack(state, ("demo",), SCALED, THE_QUEUE_ALONE)))
        hands = parts.enter_context(crew.running(stack, {"queue": 2, "smtpd": 1, "local": 1}, {}))
        yield House(stack, hands)


async def test_replicas_come_and_go_under_load(state: Path) -> None:
    with house(state) as built:
        first, second = built.crew.hands["queue-10"], built.crew.hands["queue-11"]
        built.stack.signal("redis-0", signal.SIGSTOP)
        log = built.log_of("queue-11")
        assert await asyncio.to_thread(second.stop) == 0
        await asyncio.to_thread(built.happens, TOOK, log, 2, SOONER_S)
        await asyncio.to_thread(built.happens, "removed log", log)  # nothing ever was in it
        traffic = Traffic(built.crew.smtp_port, (DEMO,))
        async with traffic.flowing():
            await traffic.accepted(20)
            log = built.log_of("queue-10")
            first.kill()
            await asyncio.to_thread(built.happens, TOOK, log, 2, SOONER_S)
            await traffic.accepted(20)
            await asyncio.to_thread(first.start)
            own = built.log_of("queue-10")
            await asyncio.to_thread(second.start)
            log = built.log_of("queue-11")
            await traffic.accepted(40)
            assert await asyncio.to_thread(second.stop) == 0
            await asyncio.to_thread(built.happens, TOOK, log, 2, SOONER_S)
            await traffic.accepted(20)
            built.stack.signal("redis-0", signal.SIGCONT)
            first.signal(signal.SIGSTOP)
            await asyncio.to_thread(built.happens, TOOK, own, 2)
            await traffic.accepted(20)  # nobody waits for the sleeper
            first.signal(signal.SIGCONT)
            assert await asyncio.to_thread(first.wait) == EXIT_TEMPORARY
            await traffic.accepted(20)
        await asyncio.to_thread(reckon, built.stack, traffic.kept)
        assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()
        assert not traffic.kept.of(Fate.UNKNOWN), traffic.kept.summary()
