"""Work for an office: mail comes in, is delivered, deferred, bounced, forwarded, refused and reclaimed, all at once.

Every intention is told before, every promise after it is kept, each as one line of JSON; `life` runs it in a process
that can be killed at any moment. tests/harness/reckoning.py holds what was told against what is found.
"""

import asyncio
import json
import os
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mail.ids import MessageId, make_id
from runtime.clock import SystemClock
from runtime.durable import Disk
from services.queue.ledger import Incoming
from services.queue.message import Message
from tests.harness.maildir import Parcel
from tests.harness.office import DELIVERED, Office, Place, destiny

Tell = Callable[..., None]

CLERKS = 8
_LIVE_MAX = 40
_LARGE_OCTETS = 1_100_000  # above what stands in a segment
_DELIVERIES_MAX = 8
_ONLY = 90
SENDER = "from@there.example"


@dataclass(frozen=True, slots=True)
class Work:
    """How much of what: `steps` actions, of which one in `large_every` is a message with a large body (0: none)."""

    steps: int = 10_000
    large_every: int = 0
    octets_max: int = 3_000
    new_mail: int = 45  # of a hundred actions; 90 leave none for deliveries
    neighbour: str = ""  # a file that somebody else writes and syncs all the while


@dataclass
class Mailroom:
    """The clerks of one life, their dice, and what they have under way."""

    office: Office
    work: Work
    tell: Tell
    dice: random.Random
    left: int = 0
    busy: set[tuple[MessageId, int]] = field(default_factory=set)
    _tidying: bool = False
    _publishing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Returns when every step is done, or the disk has failed."""
        self.left = self.work.steps
        async with asyncio.TaskGroup() as group:
            for _ in range(CLERKS):
                group.create_task(self._clerk())

    async def _clerk(self) -> None:
        while self.left > 0 and not self.office.failed:
            self.left -= 1
            await asyncio.sleep(0)
            lot = self.dice.randrange(100)
            crowded = len(self.office.messages()) > _LIVE_MAX
            if lot < 4:
                await self._refuse()
            elif lot < 10:
                await self._tidy()
            elif lot < 10 + self.work.new_mail and (not crowded or self.work.new_mail == _ONLY):
                await self._accept()
            else:
                await self._deliver()

    def _fresh(self) -> MessageId:
        return make_id(SystemClock().wall_ms(), self.dice.randbytes(10))

    async def _accept(self) -> None:
        every = self.work.large_every
        octets = (
            _LARGE_OCTETS if every and not self.dice.randrange(every) else self.dice.randrange(self.work.octets_max)
        )
        message = self._fresh()
        body = Parcel.of_octets(message, octets).text.replace(b"\r\n", b"\n")
        recipients = tuple(f"r{number}@here.example" for number in range(self.dice.choice((1, 1, 2, 3))))
        self.tell("offer", message, len(recipients))
        if await self.office.accept(Incoming(message, SENDER, recipients, body, uid=7)) is None:
            self.tell("committed", message)

    async def _refuse(self) -> None:
        message = self._fresh()
        self.tell("refusing", message)
        if await self.office.resolve(message) is False:
            self.tell("refused", message)

    async def _tidy(self) -> None:
        if not self._tidying:
            self._tidying = True
            await self.office.tidy()
            self._tidying = False

    async def _deliver(self) -> None:
        """Takes some recipients a step further; those that are delivered go into the Maildir together."""
        chosen = self._choose(self.dice.randrange(1, _DELIVERIES_MAX))
        wanted = [step for step in chosen if step[2] == DELIVERED]
        if wanted:
            async with self._publishing:
                pairs = [(message, recipient) for message, recipient, _ in wanted]
                troubles = await asyncio.to_thread(self.office.publish, pairs)
            published = {(step[0].id, step[1]) for step, trouble in zip(wanted, troubles, strict=True) if not trouble}
        for message, recipient, what in chosen:
            if what != DELIVERED or (message.id, recipient) in published:
                await self._settle(message, recipient, what)
            self.busy.discard((message.id, recipient))

    def _choose(self, count: int) -> list[tuple[Message, int, str]]:
        open_ones = [
            (message, number)
            for message in self.office.messages()
            for number, recipient in enumerate(message.recipients)
            if not recipient.settled and (message.id, number) not in self.busy
        ]
        chosen = self.dice.sample(open_ones, min(count, len(open_ones)))
        self.busy.update((message.id, number) for message, number in chosen)
        return [(message, number, next_step(message, number)) for message, number in chosen]

    async def _settle(self, message: Message, recipient: int, what: str) -> None:
        attempt = message.recipients[recipient].attempts + 1
        self.tell("settling", message.id, recipient, what)
        settlement = await self.office.settle(message, recipient, attempt, what)
        if settlement is not None:
            children = [child.id for child in settlement.children]
            self.tell("settled", message.id, recipient, what, attempt, settlement.finished, children)


def next_step(message: Message, recipient: int) -> str:
    """What the next attempt for a recipient leads to: its final fate, or "" for a deferral."""
    deferrals, fate = destiny(message.id, recipient, may_forward=not message.parent)
    return fate if message.recipients[recipient].attempts >= deferrals else ""


def life(place: Place, work: Work, seed: int, disk: Disk | None, tell: Tell) -> None:
    """One life of an office in this process, from the takeover until the work is done or the disk fails."""

    async def live() -> None:
        office = Office(place, disk)
        tell("opening", place.owner)
        office.open()
        tell("open", place.owner)
        try:
            await Mailroom(office, work, tell, random.Random(seed)).run()
        finally:
            await office.close()

    asyncio.run(live())


def live(place: Place, work: Work, seed: int, tell_at: str, disk: Disk | None = None) -> None:
    """`life` as a process of its own, which tells by lines at a path, one write each."""
    fd = os.open(tell_at, os.O_WRONLY | os.O_CLOEXEC)

    def tell(*said: object) -> None:
        os.write(fd, json.dumps(said, separators=(",", ":")).encode() + b"\n")

    if work.neighbour:
        threading.Thread(target=_disturb, args=(work.neighbour,), daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its events are of no interest
    life(place, work, seed, disk, tell)


def _disturb(path: str) -> None:
    """Somebody else on the same file system: writes and syncs a file of its own until it cannot."""
    with suppress(OSError), Path(path).open("wb", buffering=0) as file:
        while True:
            file.write(b"neighbour" * 100)
            os.fsync(file.fileno())
            file.seek(0)
