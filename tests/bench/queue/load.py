"""A replica's two sides, played with the services' own clients: one hands mail in, the other takes deliveries.

Each keeps as many messages under way as the services do as shipped. What it costs to play them is not the queue's, and
is not counted.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from mail.outcome import Deferred, Delivered, Outcome
from mail.routing import Channel
from runtime.clock import SystemChance, SystemClock, fresh_id
from runtime.events import Events
from runtime.producer import Producer, Submission
from runtime.rpc import Identity
from runtime.serve import Process
from runtime.worker import Delivery, Result, Worker
from tests.bench.load import CONNECTIONS
from tests.bench.queue.replica import Replica
from tests.harness import backlog

# qmail's concurrencyremote (qmail-control(5)).
SLOTS = 20

RUN_MAX_S = 600.0
_AGAIN_S = 0.02

_numbers = itertools.count()


class Stalled(Exception):
    """A replica did not do what was asked of it: the text says how far it came."""


@dataclass
class _Surroundings:
    """What a producer and a worker have from their process."""

    identity: Identity
    instance: str = "bench-0"
    clock: SystemClock = field(default_factory=SystemClock)
    events: Events = field(default_factory=lambda: Events("bench-0", SystemClock()))


def _surroundings(tls: Path, role: str) -> Process:
    return cast(Process, _Surroundings(Identity.load(str(tls), role)))


class Source:
    """Hands mail to one replica, as smtpd does. An async context."""

    def __init__(self, replica: Replica, tls: Path, octets: int) -> None:
        self._producer = Producer((replica.address,), _surroundings(tls, "smtpd"))
        self._body = backlog.body(octets)
        self._replica = replica

    async def __aenter__(self) -> "Source":
        self._running = asyncio.create_task(self._producer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await _cancel(self._running)

    async def send(self, messages: int) -> None:
        """Returns when so many are committed, of which as many wait together as connections do; raises Stalled."""
        left = iter(range(messages))
        async with asyncio.timeout(RUN_MAX_S):
            await asyncio.gather(*(self._connection(left) for _ in range(CONNECTIONS)))

    async def _connection(self, left: Iterator[int]) -> None:
        for _ in left:
            reply = await self.send_one()
            if reply is not None:
                raise Stalled(f"{self._replica.name} does not take mail: {reply}")

    async def send_one(self) -> str | None:
        """None when the message is committed, else the reply."""
        number = next(_numbers)
        return await self._producer.submit(
            Submission(
                id=fresh_id(SystemClock(), SystemChance()),
                sender=backlog.sender(number),
                recipients=(backlog.recipient(number),),
                body=self._body,
                uid=7_791,
            )
        )

    async def first_s(self) -> float:
        """Seconds from the replica's start to the first message that is committed."""
        async with asyncio.timeout(RUN_MAX_S):
            while await self.send_one() is not None:
                self._replica.check()
                await asyncio.sleep(_AGAIN_S)
        return self._replica.age_s


class Sink:
    """Takes deliveries of one replica, as remote does, and says of each at once that it was made, or put off."""

    def __init__(self, replica: Replica, tls: Path, defer: bool = False) -> None:
        self._worker = Worker(Channel.REMOTE, (replica.address,), SLOTS, _surroundings(tls, "remote"))
        self._outcome: Outcome = Deferred(backlog.report(1)) if defer else Delivered("accepted\n")
        self._wanted = 0
        self._reached = asyncio.Event()
        self.taken = 0

    async def take(self, messages: int) -> None:
        """Returns when at least so many were taken, and all that were taken are recorded."""
        self._wanted = messages
        running = asyncio.create_task(self._worker.run(self._take))
        try:
            async with asyncio.timeout(RUN_MAX_S):
                await self._reached.wait()
            await self._worker.drain(RUN_MAX_S)
        except TimeoutError as error:
            raise Stalled(f"{self.taken} of {messages} deliveries came within {RUN_MAX_S:g} s") from error
        finally:
            await _cancel(running)

    def _take(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self._worker.settle(delivery, [Result(target.index, self._outcome) for target in delivery.targets])
        self.taken += len(deliveries)
        if self.taken >= self._wanted:
            self._reached.set()


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True, slots=True)
class Cost:
    """What a round came to: messages a second, and the queue's own processor time for each."""

    rate: float
    cpu_ms: float


class Stopwatch:
    """Measures one round of one replica."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._used = replica.processor_s()
        self._began = time.monotonic()

    def cost(self, messages: int) -> Cost:
        took = time.monotonic() - self._began
        return Cost(messages / took, (self._replica.processor_s() - self._used) * 1_000 / messages)


async def accept(replica: Replica, source: Source, messages: int) -> Cost:
    """New mail comes, and nothing is delivered."""
    watch = Stopwatch(replica)
    await source.send(messages)
    return watch.cost(messages)


async def drain(replica: Replica, sink: Sink, messages: int) -> Cost:
    """What waits is delivered, or put off, and no new mail comes."""
    watch = Stopwatch(replica)
    await sink.take(messages)
    return watch.cost(sink.taken)


async def flow(replica: Replica, source: Source, sink: Sink, messages: int) -> Cost:
    """New mail comes and is delivered as it comes."""
    watch = Stopwatch(replica)
    await asyncio.gather(source.send(messages), sink.take(messages))
    return watch.cost(messages)
