"""A whole queue replica in this process, on a real spool, wired as services/queue/__main__.py does it, without a port.

Its workers are links spoken to directly, its clock can be put forward, and it can be left without a word, as a crash
would. A test that wants streams and a process of its own takes tests/harness/queue_house.py.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from mail import ids
from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import Channel
from proto import work_pb2
from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from runtime.events import Events
from runtime.serve import Process
from services.queue.dispatch import Dispatch
from services.queue.fence import Fence
from services.queue.index import Standing
from services.queue.ledger import Incoming, Ledger
from services.queue.links import Link, Links
from services.queue.ownership import Ownership
from services.queue.parcels import heard
from services.queue.plan import Plan
from services.queue.spool import Spool
from services.queue.store import Store
from services.queue.takeover import Taker
from tests.harness.office import RULES

CLUSTER_ID = "0" * 32
WITHIN_S = 10.0
LOCAL, REMOTE = "a@here.example", "b@far.example"


class HandClock(SystemClock):
    """The machine's clock, put forward by hand. Timers of the event loop do not hear of it."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._set_s = 0.0
        super().__init__()

    def forward(self, seconds: float) -> None:
        self._ahead_s += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock by so much."""
        self._set_s += seconds

    def wall_ms(self) -> int:
        return super().wall_ms() + int((self._ahead_s + self._set_s) * 1_000)

    def boot_ms(self) -> int:
        return super().boot_ms() + int(self._ahead_s * 1_000)

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s


class Heard(Events):
    """Events that are kept, to be looked at."""

    def __init__(self, instance: str) -> None:
        super().__init__(instance, SystemClock())
        self.all: list[tuple[str, dict[str, object]]] = []
        self.something = asyncio.Event()

    def _emit(self, event: str, line: str, /, **fields: object) -> None:
        self.all.append((event, fields))
        self.something.set()

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.all if name == event]

    async def wait(self, what: Callable[[], bool]) -> None:
        """Returns when `what` holds; looked at after each event."""
        async with asyncio.timeout(WITHIN_S):
            while not what():
                self.something.clear()
                await self.something.wait()


class _NoPort:
    """A server that nobody can call: the rims register with it as with the real one."""

    def add_generic_rpc_handlers(self, handlers: Any) -> None: ...

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None: ...


@dataclass
class _Rpc:
    grpc: _NoPort = field(default_factory=_NoPort)


class Surroundings(Process):
    """What a service has from its process; `keep`, `stop` and the exit status are those of the real one."""

    def __init__(self, instance: str) -> None:
        self.role = "queue"
        self.instance = instance
        self.clock = HandClock()
        self.chance = SystemChance()
        self.events = Heard(instance)
        self.rpc = _Rpc()  # type: ignore[assignment]
        self.stopping = asyncio.Event()
        self.exit_status = 0
        self.kept: list[asyncio.Task[None]] = []

    def keep(self, work: Any) -> "asyncio.Task[None]":
        task = super().keep(work)
        self.kept.append(task)
        return task


class Replica:
    """One life of one replica. `stream` makes it workers; `accept`, `resolve` and `report` ask it as the rims would."""

    def __init__(self, spool: str, instance: str = "queue-0", redis_url: str = "", disk: Disk | None = None) -> None:
        self.process = Surroundings(instance)
        self.clock: HandClock = self.process.clock  # type: ignore[assignment]
        self.events: Heard = self.process.events  # type: ignore[assignment]
        self.disk = disk or Disk()
        self.spool = Spool(spool, self.disk)
        self.fence = Fence(redis_url, "", CLUSTER_ID, f"{instance}/{id(self)}")
        self.store = Store(self.process, RULES, self.spool.path)
        self.plan = Plan()
        self.links = Links(self.process, "test")
        self.dispatch = Dispatch(self.store, self.plan, self.links, self.process)
        taker = Taker(self.spool, self.disk, instance, self.process.events, segment_octets=64 * 1024)
        self.ownership = Ownership(self.process, self.spool, taker, self.fence)

    async def start(self) -> None:
        """Takes its log, or makes one."""
        os.makedirs(self.spool.path, exist_ok=True)
        self.spool.prepare("mail.example", CLUSTER_ID)
        await self.ownership.start(self.store, self.dispatch)

    def watch(self) -> None:
        """Beats, and looks at others' logs, from now on."""
        self.process.keep(self.ownership.keep(self.store, self.dispatch))

    def tidy(self) -> None:
        """Reclaims, makes spares and removes empty logs from now on."""
        self.process.keep(self.ownership.tidy(self.store))

    async def end(self) -> None:
        """Ends in order, as at SIGTERM."""
        self.store.drain()
        clean = self.process.exit_status == 0 and await self.dispatch.finish(WITHIN_S)
        await self._cancel(task for task in self.process.kept if task not in self.store._tasks)
        await self.store.close(clean)
        await self.ownership.release()

    async def vanish(self) -> None:
        """Ends without a word, as a crash would: the kernel closes what was open, and drops its locks."""
        await self._cancel(self.process.kept)
        for ledger in self.store.ledgers.values():
            ledger.commits.close()
            ledger.log.close()
        self.store.ledgers.clear()
        for lock in self.ownership._locks.values():
            os.close(lock)
        self.ownership._locks.clear()
        await self.fence.close()

    async def _cancel(self, tasks: Iterable["asyncio.Task[None]"]) -> None:
        doomed = list(tasks)
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)

    # -- producers ----------------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The ledger of the log that takes new mail."""
        return next(iter(self.store.ledgers.values()))

    @property
    def log(self) -> str:
        return self.ledger.log.name.log

    def an_id(self, number: int, age_s: float = 0.0) -> MessageId:
        """An id that is born now, another for each number."""
        return ids.make_id(int(self.clock.wall_ms() - age_s * 1_000), number.to_bytes(10, "big"))

    async def accept(self, message: MessageId, *to: str, body: bytes = b"x\n", log: str = "") -> str | None:
        """None when it is committed, else the answer."""
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        incoming = Incoming(message, "from@there.example", to or (LOCAL,), body, uid=7)
        await self.store.accept(log or self.log, incoming, future.set_result)
        async with asyncio.timeout(WITHIN_S):
            return await future

    async def resolve(self, message: MessageId, log: str = "") -> bool | None:
        async with asyncio.timeout(WITHIN_S):
            return await self.store.resolve(log or self.log, message)

    def standing(self, message: MessageId) -> Standing:
        return self.ledger.standing(message)

    # -- workers ------------------------------------------------------------------------------------------------------

    def worker(self, channel: Channel, name: str = "worker", slots: int = 20) -> Link:
        """A worker's stream with so many slots."""
        link = Link(channel, name, slots)
        self.links.all().append(link)
        self.dispatch.credit_changed()
        return link

    def leave(self, link: Link) -> None:
        """The stream of a worker ends."""
        self.links.all().remove(link)
        self.dispatch.link_gone(link)

    async def given(self, link: Link) -> str:
        """The key of the delivery that a worker gets next."""
        async with asyncio.timeout(WITHIN_S):
            while not link.deliveries:
                link.say.clear()
                await link.say.wait()
        return link.deliveries.pop(0)[0].key

    def report(self, link: Link, key: str, kind: Kind = Kind.DELIVERED, **fields: Any) -> None:
        """What a worker says became of the first recipient of a delivery."""
        recipient = int(key.split("/")[3])
        outcome = work_pb2.Outcome(key=key, recipient=recipient, kind=cast(Any, int(kind)), report="x\n", **fields)
        link.out = max(0, link.out - 1)
        self.dispatch.report(link, heard(outcome))

    async def acknowledged(self, link: Link) -> work_pb2.Ack:
        async with asyncio.timeout(WITHIN_S):
            while not link.acks:
                link.say.clear()
                await link.say.wait()
        return link.acks.pop(0)


@asynccontextmanager
async def running(spool: str, instance: str = "queue-0", redis_url: str = "") -> AsyncIterator[Replica]:
    """A replica that has started; without a word gone at the end."""
    replica = Replica(spool, instance, redis_url)
    await replica.start()
    try:
        yield replica
    finally:
        await replica.vanish()
