"""A network between the services that is cut, loses replies, holds requests, falls silent: honest answers, one copy.

smtpd, local and remote run beside a stack that has the queue alone, and reach it through proxies (wire_cutter.py).
"""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import crew, wire_cutter
from tests.harness.crew import Crew
from tests.harness.ledger import Fate
from tests.harness.sink import Sink
from tests.harness.stack import Stack, running
from tests.harness.traffic import CONNECTIONS, DEMO, FAR, OCTETS, Traffic, reckon
from tests.harness.wire_cutter import Cutter, Door, Way

pytestmark = pytest.mark.timeout(300)

ALL = os.environ.get("FAULT_ALL") == "1"
SCALED = {"TIME_SCALE": "0.002"}
# A producer offers again for 15 s what is unanswered, and asks after that (runtime/producer.py).
GIVEN_UP_S = 17.0
OF_EVERY_CONNECTION = CONNECTIONS * OCTETS  # a message of each is on its way
THE_QUEUE_ALONE = "smtpd=0,local=0,remote=0,pop3=0"


@dataclass(slots=True)
class House:
    """A stack whose services meet the queue through proxies."""

    stack: Stack
    crew: Crew
    producers: Cutter
    locals: Cutter
    remotes: Cutter

    def traffic(self, *recipients: str) -> Traffic:
        return Traffic(self.crew.smtp_port, recipients or (DEMO,))


@contextmanager
def house(state: Path, world: Sink) -> Iterator[House]:
    routes = {"smtproutes": f"far.example:127.0.0.1:{world.port}\n"}
    with ExitStack() as open_parts:
        stack = open_parts.enter_context(running(Stack(state, ("demo",), SCALED, THE_QUEUE_ALONE, routes)))
        port = int(json.loads((state / "run" / "queue-0.json").read_text())["rpc"].rpartition(":")[2])
        cutters = [open_parts.enter_context(wire_cutter.running(port)) for _ in range(3)]
        names = ("smtpd", "local", "remote")
        changes = {name: {"QUEUE_ADDRS": cutter.address} for name, cutter in zip(names, cutters, strict=True)}
        hands = open_parts.enter_context(crew.running(stack, dict.fromkeys(names, 1), changes))
        yield House(stack, hands, *cutters)


async def test_between_smtpd_and_the_queue(state: Path, world: Sink) -> None:
    """Replies lost after the commit, requests that arrive when their sender has gone elsewhere, a partition."""
    with house(state, world) as built:
        traffic, cutter = built.traffic(), built.producers
        async with traffic.flowing():
            for _ in range(3):
                await traffic.accepted(10)
                cutter.replies = Way.LOSE
                await asyncio.to_thread(cutter.stops)
                cutter.heal()
            for _ in range(3):
                await traffic.accepted(10)
                cutter.hold()
                await asyncio.to_thread(cutter.stops, OF_EVERY_CONNECTION)
                cutter.cut_clients()
                await traffic.accepted(8)
                cutter.release()
            await traffic.accepted(10)
            cutter.partition()
            await asyncio.to_thread(cutter.stops)  # some wait for a reply that is lost, others for their request
            cutter.heal()
            await traffic.accepted(10)
        await asyncio.to_thread(reckon, built.stack, traffic.kept)
        assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()
        assert not traffic.kept.of(Fate.UNKNOWN), traffic.kept.summary()


async def test_a_request_that_comes_after_its_refusal(state: Path, world: Sink) -> None:
    """It was on its way while smtpd gave up, asked, and told its client 451: the queue will never take it."""
    with house(state, world) as built:
        traffic, cutter = built.traffic(), built.producers
        async with traffic.flowing():
            await traffic.accepted(10)
            cutter.hold()
            await asyncio.to_thread(cutter.stops, OF_EVERY_CONNECTION)
            cutter.door = Door.REFUSE
            cutter.cut_clients()
            await asyncio.sleep(GIVEN_UP_S)  # nothing says that smtpd has ceased to offer it
            cutter.door = Door.OPEN
            await traffic.accepted(4)
            refused = traffic.kept.of(Fate.REFUSED)
            assert refused, traffic.kept.summary()
            cutter.release()
            await traffic.accepted(10)
        await asyncio.to_thread(reckon, built.stack, traffic.kept)


async def test_between_the_queue_and_its_workers(state: Path, world: Sink) -> None:
    """Outcomes and acknowledgements lost, partitions: nothing is delivered twice, for workers keep what they did."""
    with house(state, world) as built:
        traffic = built.traffic(DEMO, FAR)
        async with traffic.flowing():
            for cutter in (built.locals, built.remotes):
                for harm in ("requests", "replies", "partition"):
                    await traffic.accepted(10)
                    if harm == "partition":
                        cutter.partition()
                    else:
                        setattr(cutter, harm, Way.LOSE)
                    await asyncio.to_thread(cutter.stops)
                    cutter.heal()
            await traffic.accepted(10)
        await asyncio.to_thread(reckon, built.stack, traffic.kept, world)
        assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()
