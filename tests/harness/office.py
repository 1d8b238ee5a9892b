"""A queue and a Maildir without a network: the real spool, takeover, store, ledger and publishing, asked directly.

What becomes of a recipient follows from its message's id (`destiny`), so that every life of the office, after however
many crashes, does the same with it, and whoever reckons afterwards knows what should be where.
"""

import asyncio
import os
import zlib
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

from mail.ids import MessageId
from mail.maildir import delivery_name
from mail.outcome import Kind
from mail.routing import RoutingTable
from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from runtime.events import Events
from runtime.serve import Process
from services.local.publish import Copy, Publisher
from services.queue.bounce import BounceRules
from services.queue.index import Index
from services.queue.ledger import Incoming, Ledger
from services.queue.log import DamagedBody
from services.queue.message import Message
from services.queue.reclaim import reclaim
from services.queue.rules import Rules
from services.queue.scrub import Scrub
from services.queue.settlement import Forward, Reported, Settlement
from services.queue.spool import Spool
from services.queue.store import Store
from services.queue.takeover import Taken, Taker

LOG = "0a1b2c3d"
CLUSTER = "test"
CLUSTER_ID = "0" * 32
RULES = Rules(
    routing=RoutingTable(frozenset({"here.example"}), {}, frozenset(), "here.example"),
    bounce=BounceRules("MAILER-DAEMON", "here.example", "postmaster@here.example"),
    lifetime_s=604_800,
    scale=1.0,
)
DELIVERED, FAILED, FORWARDED = "delivered", "failed", "forwarded"
_FORWARDED_TO = ("friend@here.example",)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an office works, and who it says it is."""

    spool: str
    maildir: str
    owner: str = "queue-0"
    segment_octets: int = 64 * 1024


class Heard(Events):
    """Events that are also kept, to be looked at."""

    def __init__(self) -> None:
        super().__init__("office", SystemClock())
        self.alerts: list[str] = []
        self.warnings: list[str] = []

    def _emit(self, event: str, line: str, /, **fields: object) -> None:
        kept = {"alert": self.alerts, "warning": self.warnings}.get(event)
        if kept is not None:
            kept.append(str(fields["text"]))


@dataclass
class _Surroundings:
    """What a store has from its process."""

    events: Heard
    clock: SystemClock = field(default_factory=SystemClock)
    instance: str = "queue-0"
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)

    def keep(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.append(task)
        return task

    def stop(self, status: int = 0) -> None:
        self.ended.append(status)


def destiny(message: MessageId, recipient: int, may_forward: bool) -> tuple[int, str]:
    """How often a recipient is deferred, and what becomes of it then."""
    chance = zlib.crc32(f"{message}/{recipient}".encode())
    deferrals = (0, 0, 0, 0, 1, 2)[chance % 6]
    lot = chance // 6 % 100
    if lot < 12:
        return deferrals, FAILED
    return deferrals, FORWARDED if lot < 20 and may_forward else DELIVERED


class Office:
    """One life: takes the log, or makes it, and does what it is told. `events` is what it said."""

    def __init__(self, place: Place, disk: Disk | None = None) -> None:
        self.place = place
        self.events = Heard()
        self._lock: int | None = None
        self._disk = disk or Disk()
        self._surroundings = _Surroundings(self.events)
        self._publisher = Publisher(self._disk, SystemClock(), SystemChance())

    def open(self) -> Taken:
        """Takes the one log there is, else makes one; returns with the store ready."""
        self.spool = Spool(self.place.spool, self._disk)
        self.spool.prepare("mail.example", CLUSTER_ID)
        self.spool.sweep(self.place.owner)
        taker = Taker(self.spool, self._disk, self.place.owner, self.events, self.place.segment_octets)
        self.index = Index()
        names, _ = self.spool.logs()
        taken = taker.take(names[0], 0, self.index.learn) if names else taker.create(LOG, 0)
        self._lock = taken.lock
        self.store = Store(cast(Process, self._surroundings), RULES, self.place.spool)
        self.ledger: Ledger = self.store.adopt(taken, self.index)
        return taken

    @property
    def failed(self) -> bool:
        """Whether the disk failed or the log was lost, so that nothing more can be told."""
        return bool(self._surroundings.ended)

    def messages(self) -> list[Message]:
        """Every message that is not finished."""
        return [found for message in self.index.ids() if (found := self.index.look_at(message))]

    def message(self, message: MessageId) -> Message | None:
        return self.index.look_at(message)

    async def accept(self, incoming: Incoming) -> str | None:
        """None when it is committed, else the answer."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        await self.store.accept(LOG, incoming, future.set_result)
        return await future

    async def resolve(self, message: MessageId) -> bool | None:
        return await self.store.resolve(LOG, message)

    def publish(self, chosen: Sequence[tuple[Message, int]]) -> list[str]:
        """Puts these recipients' copies into the Maildir; of each the trouble, "" for none."""
        try:
            copies = [
                Copy(copy_name(message, recipient), b"", memoryview(self.ledger.body(message)))
                for message, recipient in chosen
            ]
        except DamagedBody as error:
            return [str(error)] * len(chosen)
        self._publisher.publish(self.place.maildir, copies, make=True)
        return [copy.trouble for copy in copies]

    async def settle(self, message: Message, recipient: int, attempt: int, what: str) -> Settlement | None:
        """Reports an outcome, or DEFERRED for ""; None when that is not known to be committed."""
        future: asyncio.Future[Settlement | None] = asyncio.get_running_loop().create_future()
        kind = {FAILED: Kind.FAILED, "": Kind.DEFERRED}.get(what, Kind.DELIVERED)
        forwards = (Forward("", _FORWARDED_TO, "Delivered-To: x\n", 0),) if what == FORWARDED else ()
        reported = Reported(message.id, recipient, attempt, kind, f"{what or 'later'}\n", forwards=forwards)
        self.ledger.settle(reported, SystemClock().wall_ms(), future.set_result)
        return await future

    async def tidy(self) -> bool:
        """Reclaims, and makes a spare segment; says whether something was reclaimed."""
        await self.store.make_spares()
        await self.store.beat()
        return await reclaim(self.ledger, self.events)

    async def scrub(self) -> None:
        """Reads and checks everything that is kept."""
        scrub = Scrub(self.spool, self.events, SystemClock(), SystemChance())
        scrub.octets_a_second = 1 << 40
        await scrub.scrub(self.ledger.log, self.index)

    async def close(self) -> None:
        """Ends without a word in the log, as a crash would."""
        for task in self._surroundings.tasks:
            task.cancel()
        await asyncio.gather(*self._surroundings.tasks, return_exceptions=True)
        self.ledger.commits.close()
        with suppress(OSError):  # of a disk that is gone
            self.ledger.log.close()
        if self._lock is not None:
            os.close(self._lock)


def copy_name(message: Message, recipient: int) -> str:
    """What the copy for a recipient is called in the Maildir."""
    return delivery_name(message.arrived_ms // 1_000, message.id, recipient, 0, CLUSTER)
