"""Everybody around the queue: clients of smtpd, local and remote workers, mailboxes and foreign servers.

The producer's and the worker's side of the streams are the real runtime/producer.py and runtime/worker.py. What is
modelled is what lies beyond: a Maildir that publishes each copy once under its key, and a server that takes a message
at its final dot, whether or not we learn of it.
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from mail.ids import MessageId
from mail.outcome import Deferred, Delivered, Failed, Outcome
from mail.routing import Channel
from runtime.clock import fresh_id
from runtime.config import Address
from runtime.faults import Point
from runtime.producer import UNRESOLVED, Producer, Submission
from runtime.serve import DRAIN_S
from runtime.worker import Delivery, ForwardMail, Result, Target, Worker
from tests.sim.process import SimProcess

QUEUES = (Address("queues", 1),)
HOME = "sim.example"
AWAY = ("far.example", "slow.example", "busy.example")
LOCAL_SLOTS = 10
REMOTE_SLOTS = 20


@dataclass(slots=True)
class Letter:
    """A message that a client handed over, and what it was told: "250", the text of a refusal, or nothing yet."""

    submission: Submission
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that somebody got."""

    at_us: int
    message: MessageId
    index: int
    address: str
    body: bytes
    worker: str


@dataclass(slots=True)
class Post:
    """What the world outside knows at the end: the letters, the copies, the windows that were announced."""

    letters: dict[MessageId, Letter] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    maildir: set[tuple[MessageId, int]] = field(default_factory=set)
    announced: Counter[str] = field(default_factory=Counter)
    attempts: Counter[tuple[MessageId, int]] = field(default_factory=Counter)
    busy: Counter[int] = field(default_factory=Counter)  # clients that wait for an answer, by the pid of their smtpd


class World(Protocol):
    """What people need of the world."""

    post: Post

    def point(self, name: Point) -> None: ...

    def now_us(self) -> int: ...

    def note(self, *what: object) -> None: ...

    @property
    def quiet(self) -> bool: ...


# -- who sends --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Habits:
    """What one smtpd's clients do: messages in all, seconds between them, octets at most."""

    messages: int
    every_s: float
    octets_max: int
    remote_part: float


def letter(process: SimProcess, chance: Random, habits: Habits) -> Submission:
    message = fresh_id(process.clock, process.chance)
    recipients = tuple(_recipient(chance, habits) for _ in range(chance.choice((1, 1, 1, 2, 3))))
    sender = chance.choice((f"sender{chance.randrange(4)}@{HOME}", f"list@{HOME}", ""))
    octets = chance.randrange(1, habits.octets_max) if chance.random() < 0.9 else 0
    body = f"Subject: {message}\n\n".encode() + chance.randbytes(octets // 2).hex().encode()
    return Submission(message, sender, recipients, body, uid=0)


def _recipient(chance: Random, habits: Habits) -> str:
    """An address whose local part says what becomes of mail to it."""
    fate = chance.choice(("ok", "ok", "ok", "ok", "late1", "late1", "late2", "fail", "forward"))
    where = chance.choice(AWAY) if chance.random() < habits.remote_part else HOME
    if where != HOME and fate == "forward":
        fate = "ok"
    return f"{fate}-{chance.randrange(8)}@{where}"


class Smtpd:
    """Clients that hand over a letter now and then and wait for their answers."""

    def __init__(self, world: World, chance: Random, habits: Habits) -> None:
        self._world = world
        self._chance = chance
        self._habits = habits
        self._left = habits.messages

    async def main(self, process: SimProcess) -> None:
        producer = Producer(QUEUES, process)
        running = asyncio.create_task(producer.run())
        sending = asyncio.create_task(self._send(producer, process))
        await process.serve()
        sending.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    async def _send(self, producer: Producer, process: SimProcess) -> None:
        under_way: list[asyncio.Task[None]] = []
        while self._left > 0 and not self._world.quiet:
            await asyncio.sleep(self._chance.expovariate(1 / self._habits.every_s))
            for _ in range(min(self._left, self._chance.choice((1, 1, 2, 4)))):
                self._left -= 1
                one = Letter(letter(process, self._chance, self._habits))
                self._world.post.letters[one.submission.id] = one
                under_way.append(asyncio.create_task(self._hand_over(process.pid, producer, one)))
        await asyncio.gather(*under_way)

    async def _hand_over(self, pid: int, producer: Producer, one: Letter) -> None:
        self._world.post.busy[pid] += 1
        self._world.point(Point.SMTPD_BEFORE_ENQUEUE)
        # At MAIL FROM the client is told to come again when no queue is there.
        answer = await producer.submit(one.submission) if await producer.available() else "451 not now"
        self._world.point(Point.SMTPD_BEFORE_REPLY)
        one.answer = answer or "250"
        self._world.note("answer", one.submission.id, one.answer)
        self._world.post.busy[pid] -= 1


def is_unresolved(answer: str) -> bool:
    """Whether the client was told 451 although the message may be queued: window W1."""
    return answer == UNRESOLVED


# -- who delivers -----------------------------------------------------------------------------------------------------


class Agent:
    """A worker of one channel, and what it reaches."""

    def __init__(self, world: World, chance: Random, channel: Channel) -> None:
        self._world = world
        self._chance = chance
        self._channel = channel
        self._under_way: set[asyncio.Task[None]] = set()

    async def main(self, process: SimProcess) -> None:
        slots = LOCAL_SLOTS if self._channel is Channel.LOCAL else REMOTE_SLOTS
        worker = Worker(self._channel, QUEUES, slots, process)

        def take(deliveries: list[Delivery]) -> None:
            for delivery in deliveries:
                task = asyncio.create_task(self._deliver(worker, process, delivery))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

        running = asyncio.create_task(worker.run(take))
        await process.serve()
        await worker.drain(DRAIN_S)
        for task in self._under_way:
            task.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    async def _deliver(self, worker: Worker, process: SimProcess, delivery: Delivery) -> None:
        if self._channel is Channel.REMOTE:
            await self._transact(worker, process, delivery)
            return
        for target in delivery.targets:
            await asyncio.sleep(self._delay_s())
            if not worker.may_proceed(delivery):
                worker.settle(delivery, [Result(target.index, Deferred("no queue\n"), target.done)])
                continue
            worker.settle(delivery, [await self._publish(process, delivery, target)])

    async def _publish(self, process: SimProcess, delivery: Delivery, target: Target) -> Result:
        """Local delivery is exactly once by key, however often and by however many it is tried."""
        outcome = self._fate(delivery, target)
        if not isinstance(outcome, Delivered):
            return Result(target.index, outcome)
        if target.address.startswith("forward-"):
            forward = ForwardMail(delivery.sender, (f"ok-9@{HOME}", f"ok-9@{AWAY[0]}"), "Delivered-To: x\n", 0)
            return Result(target.index, outcome, done=(0,), forwards=(forward,))
        key = (delivery.id, target.index)
        self._world.point(Point.PUBLISH_BEFORE_RENAME)
        if key not in self._world.post.maildir:
            self._world.post.maildir.add(key)
            self._got(process, delivery, target)
        self._world.point(Point.PUBLISH_AFTER_SYNC)
        await asyncio.sleep(self._delay_s())
        return Result(target.index, outcome)

    async def _transact(self, worker: Worker, process: SimProcess, delivery: Delivery) -> None:
        """A remote transaction: the server has the message from the dot on, whatever we learn."""
        await asyncio.sleep(self._delay_s())
        if not worker.may_proceed(delivery):
            worker.settle(delivery, [Result(one.index, Deferred("no queue\n")) for one in delivery.targets])
            return
        await asyncio.sleep(self._delay_s())
        if not worker.may_proceed(delivery):
            worker.settle(delivery, [Result(one.index, Deferred("no queue\n")) for one in delivery.targets])
            return
        self._world.point(Point.REMOTE_BEFORE_DOT)
        outcomes = [(target, self._fate(delivery, target)) for target in delivery.targets]
        for target, outcome in outcomes:
            if isinstance(outcome, Delivered):
                self._got(process, delivery, target)
        self._world.point(Point.REMOTE_AFTER_DOT)
        await asyncio.sleep(self._delay_s())
        if self._chance.random() < 0.03 and not self._world.quiet:
            process.events.possible_duplicate("W3", delivery.id)
            worker.settle(
                delivery,
                [Result(one.index, Deferred("no reply\n"), possible_duplicate=True) for one in delivery.targets],
            )
            return
        worker.settle(delivery, [Result(target.index, outcome) for target, outcome in outcomes])

    def _fate(self, delivery: Delivery, target: Target) -> Outcome:
        fate = target.address.partition("-")[0]
        self._world.post.attempts[(delivery.id, target.index)] += 1
        tries = self._world.post.attempts[(delivery.id, target.index)]
        if fate == "fail":
            return Failed("no such user\n")
        if fate.startswith("late") and tries <= int(fate[4:]):
            return Deferred("not now\n")
        return Delivered("")

    def _got(self, process: SimProcess, delivery: Delivery, target: Target) -> None:
        copy = Copy(self._world.now_us(), delivery.id, target.index, target.address, delivery.body, process.name)
        self._world.post.copies.append(copy)
        self._world.note("copy", process.name, delivery.key, target.index, target.address)

    def _delay_s(self) -> float:
        return self._chance.uniform(0.001, 0.03) if self._chance.random() < 0.9 else self._chance.uniform(0.1, 4.0)
