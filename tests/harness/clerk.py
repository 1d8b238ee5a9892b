"""A day's work of a queue replica in one small process: take over, accept, settle, reclaim, remove, release.

The real Spool, Taker, Store, Ledger and Commits on a spool that may be killed or refused at any call; no network. Every
promise is told to the journal before and after. `survey` is the next owner, who says what it finds.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from mail import ids
from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import RoutingTable
from runtime.clock import SystemChance, SystemClock
from runtime.config import EXIT_IO
from runtime.durable import Disk
from runtime.events import Events
from runtime.serve import Process
from services.queue.bounce import BounceRules
from services.queue.index import Index, Standing
from services.queue.ledger import Incoming, Ledger
from services.queue.log import INLINE_MAX_OCTETS, DamagedBody, LostLog
from services.queue.message import Message
from services.queue.names import LogName
from services.queue.reclaim import reclaim
from services.queue.rules import Rules
from services.queue.settlement import Forward, Reported, Settlement
from services.queue.spool import Spool, try_lock
from services.queue.store import Store
from services.queue.takeover import Taker
from tests.harness.brood import Gate, Journal

HOST = "here.example"
SENDER = "from@there.example"
SEGMENT_OCTETS = 32 * 1024
_RULES = Rules(
    routing=RoutingTable(frozenset({HOST}), {}, frozenset(), HOST),
    bounce=BounceRules("MAILER-DAEMON", HOST, f"postmaster@{HOST}"),
    lifetime_s=604_800,
    scale=1.0,
)
_BOUNCE_INSTRUCTION = 1_000_000
LARGE_FROM = 900  # numbers from here on are of large messages

# What becomes of a message on the day: a word of the journal, and what a worker reports.
DELIVERED, DEFERRED, FORWARDED, BOUNCED = "delivered", "deferred", "forwarded", "bounced"


def an_id(born_ms: int, number: int) -> MessageId:
    return ids.make_id(born_ms, number.to_bytes(10, "big"))


def forward_of(parent: MessageId) -> MessageId:
    return ids.child_id(parent, 0, 0, f"friend@{HOST}")


def bounce_of(parent: MessageId) -> MessageId:
    return ids.child_id(parent, 0, _BOUNCE_INSTRUCTION, "bounce")


def body_of(number: int) -> bytes:
    """Another one for each number; above a MiB for the large ones."""
    line = f"{number:06} ".encode() * 10 + b"\n"
    octets = INLINE_MAX_OCTETS + 1_000 if number >= LARGE_FROM else 3_000
    return f"Subject: {number}\n\n".encode() + line * (octets // len(line))


class _Surroundings(Process):
    """What a store needs of its process: no ports, no signals."""

    def __init__(self, instance: str, journal: Journal) -> None:
        self._journal = journal
        self.role = "queue"
        self.instance = instance
        self.clock = SystemClock()
        self.chance = SystemChance()
        self.events = Events(instance, self.clock)
        self.stopping = asyncio.Event()
        self.exit_status = 0

    def stop(self, status: int = 0) -> None:
        self._journal.say("stopping", status)
        super().stop(status)


class Replica:
    """One owner at work on every log of a spool."""

    def __init__(self, journal: Journal, spool: str, owner: str, born_ms: int) -> None:
        self.journal = journal
        self.born_ms = born_ms
        self.process = _Surroundings(owner, journal)
        self.spool = Spool(spool, Disk())
        self.taker = Taker(self.spool, Disk(), owner, self.process.events, SEGMENT_OCTETS)
        self.store = Store(self.process, _RULES, spool)
        self.locks: dict[str, int] = {}
        self._known: list[asyncio.Future[Any]] = []

    # -- logs ---------------------------------------------------------------------------------------------------------

    def open_spool(self) -> None:
        self.spool.prepare("mail.example", "0" * 32)
        self.spool.sweep(self.process.instance)

    def create(self, log: str) -> Ledger:
        taken = self.taker.create(log, 0)
        assert taken.lock is not None
        self.locks[log] = taken.lock
        return self.store.adopt(taken, Index())

    def take(self, name: LogName) -> Ledger:
        lock = try_lock(self.spool.log_path(name))
        if lock is None:
            raise OSError(errno.ENOLCK, f"{name} is still locked")
        index = Index()
        self.locks[name.log] = lock
        taken = self.taker.take(name, 0, index.learn)
        taken.lock = lock
        self.journal.say("took", name.log, taken.log.name.token)
        return self.store.adopt(taken, index)

    def take_all(self) -> None:
        for name in self.spool.logs()[0]:
            self.take(name)
        if not self.store.ledgers:
            self.create("2a1b2c3d")

    def remove(self, log: str) -> None:
        """As ownership does with an adopted log that is empty."""
        ledger = self.store.ledgers[log]
        assert ledger.index.is_empty
        self.store.drop(log)
        self.spool.remove_log(ledger.log.name)
        os.close(self.locks.pop(log))
        self.journal.say("removed", log)

    async def close(self, clean: bool) -> None:
        await self.store.close(clean)
        for lock in self.locks.values():
            os.close(lock)
        self.locks.clear()

    # -- messages -----------------------------------------------------------------------------------------------------

    async def accept(self, log: str, number: int) -> str:
        """Offers a message; the journal hears of it before, and of the answer."""
        incoming = Incoming(
            an_id(self.born_ms, number), SENDER, (f"a@{HOST}", f"b@{HOST}"), body_of(number), os.getuid()
        )
        future = self._future()
        self.journal.say("offered", number)
        await self.store.accept(log, incoming, future.set_result)
        answer = await future
        said = "committed" if answer is None else "unknown" if answer == "unknown" else "refused"
        self.journal.say(said, number, answer)
        return said

    async def resolve(self, log: str, number: int) -> bool | None:
        self.journal.say("asked", number)
        committed = await self.store.resolve(log, an_id(self.born_ms, number))
        self.journal.say("resolved", number, committed)
        return committed

    async def settle(self, ledger: Ledger, became: str, *numbers: int) -> None:
        """A worker reports the second recipient of each message, and then the first ones."""
        for recipient in (1, 0):
            await asyncio.gather(*(self._report(ledger, number, recipient, became) for number in numbers))

    async def _report(self, ledger: Ledger, number: int, recipient: int, became: str) -> None:
        """The journal hears of the report, and of its acknowledgement."""
        self.journal.say("reporting", number, recipient, became)
        future = self._future()
        reported = _reported(an_id(self.born_ms, number), recipient, became)
        ledger.settle(reported, self.process.clock.wall_ms(), future.set_result)
        settlement: Settlement | None = await future
        if settlement is not None:
            settled = settlement.settled
            put_off = settled is not None and settled.kind == Kind.DEFERRED  # also when the disk would not be read
            self.journal.say(
                "reported", number, recipient, DEFERRED if put_off else became, settled.report if settled else ""
            )

    async def finish(self, ledger: Ledger, message: Message) -> None:
        """Delivers everybody who is left."""
        futures = []
        for index, recipient in enumerate(message.recipients):
            if not recipient.settled:
                reported = Reported(message.id, index, recipient.attempts + 1, Kind.DELIVERED, "")
                futures.append(self._future())
                ledger.settle(reported, self.process.clock.wall_ms(), futures[-1].set_result)
        assert None not in await asyncio.gather(*futures)

    def _future(self) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return future


def _reported(message: MessageId, recipient: int, became: str) -> Reported:
    if became == DEFERRED:
        return Reported(message, recipient, 1, Kind.DEFERRED, f"later {recipient}\n")
    if became == BOUNCED and recipient == 0:
        return Reported(message, recipient, 1, Kind.FAILED, "no such mailbox\n")
    forward = Forward(SENDER, (f"friend@{HOST}",), f"Delivered-To: a@{HOST}\n", 0)
    forwards = (forward,) if became == FORWARDED and recipient == 0 else ()
    return Reported(message, recipient, 1, Kind.DELIVERED, "", forwards=forwards)


# -- the acts ---------------------------------------------------------------------------------------------------------


def found(journal: Journal, gate: Gate, spool: str, born_ms: int) -> int:
    """Makes a spool with two logs, as dead owners leave them: one with mail of every kind, one with nothing."""

    async def act(replica: Replica) -> None:
        gate("make")
        replica.open_spool()
        ledger = replica.create("0a1b2c3d")
        for number in range(100, 112):
            await replica.accept("0a1b2c3d", number)
        await replica.accept("0a1b2c3d", LARGE_FROM)
        await replica.settle(ledger, DEFERRED, 100)
        await replica.settle(ledger, DELIVERED, 101, 102, 103, 104, 105)
        await replica.resolve("0a1b2c3d", 199)
        replica.create("1a1b2c3d")
        os._exit(0)  # as a process dies: nothing is released

    return asyncio.run(_lived(Replica(journal, spool, "queue-0", born_ms), act))


def retake(journal: Journal, gate: Gate, spool: str, born_ms: int) -> int:
    """Takes everything and dies."""

    async def act(replica: Replica) -> None:
        gate("take")
        replica.open_spool()
        replica.take_all()
        os._exit(0)

    return asyncio.run(_lived(Replica(journal, spool, "queue-0", born_ms), act))


def work(journal: Journal, gate: Gate, spool: str, born_ms: int) -> int:
    """The day. 0 when nothing went wrong."""

    async def act(replica: Replica) -> None:
        gate("take")
        replica.open_spool()
        replica.take_all()
        log, neighbour = list(replica.store.ledgers)
        ledger = replica.store.ledgers[log]
        journal.say("thread", await ledger.commits.in_order(threading.get_native_id))
        gate("shift")
        await _shift(replica, log, ledger)
        gate("leave")
        if neighbour in replica.store.ledgers:
            replica.remove(neighbour)
        replica.store.drain()

    descriptors = len(os.listdir("/proc/self/fd"))
    status = asyncio.run(_lived(Replica(journal, spool, "queue-0", born_ms), act))
    if status == 0:
        journal.say("descriptors", len(os.listdir("/proc/self/fd")) - descriptors)
    return status


async def _lived(replica: Replica, act: Callable[[Replica], Awaitable[None]]) -> int:
    """An act up to its orderly end; the exit status that the service would have."""
    try:
        await act(replica)
        await replica.close(clean=replica.process.exit_status == 0)
    except (OSError, LostLog, DamagedBody) as error:
        replica.journal.say("raised", repr(error))
        replica.process.stop(EXIT_IO)
    return replica.process.exit_status


async def _shift(replica: Replica, log: str, ledger: Ledger) -> None:
    await replica.store.make_spares()
    await asyncio.gather(*(replica.accept(log, number) for number in (200, 201, 202)))
    await replica.accept(log, LARGE_FROM + 1)
    await replica.resolve(log, 299)
    await replica.accept(log, 299)
    await replica.settle(ledger, DEFERRED, 200)
    await replica.settle(ledger, FORWARDED, 106)
    await replica.settle(ledger, BOUNCED, 201)
    for number in range(203, 209):
        await replica.accept(log, number)
    await replica.settle(ledger, DELIVERED, 107, 108, *range(203, 209), LARGE_FROM)
    while replica.process.exit_status == 0 and await reclaim(ledger, replica.process.events):
        replica.journal.say("reclaimed")
    await replica.store.beat()
    await replica.settle(ledger, FORWARDED, LARGE_FROM + 1)
    await replica.accept(log, 209)


def survey(journal: Journal, gate: Gate, spool: str, born_ms: int, numbers: list[int]) -> int:
    """The next owner: takes everything, says what it holds, answers for every number, and ends in order."""

    async def act(replica: Replica) -> None:
        replica.open_spool()
        replica.take_all()
        known: set[MessageId] = set()
        for number in numbers:
            message = an_id(born_ms, number)
            for kind, one in (("", message), ("forward", forward_of(message)), ("bounce", bounce_of(message))):
                journal.say("found", number, kind, *_found(replica, one, number))
                known.add(one)
        for ledger in replica.store.ledgers.values():
            journal.say("strangers", *(one.id for one in _messages(ledger) if one.id not in known))
        log = next(iter(replica.store.ledgers))
        await asyncio.gather(*(replica.resolve(log, number) for number in numbers))
        await asyncio.gather(*(replica.accept(log, number) for number in numbers))

    return asyncio.run(_lived(Replica(journal, spool, "queue-1", born_ms), act))


def clear(journal: Journal, gate: Gate, spool: str, born_ms: int) -> int:
    """The last owner: delivers whatever there is, and leaves nothing but memory."""

    async def act(replica: Replica) -> None:
        replica.open_spool()
        replica.take_all()
        for ledger in replica.store.ledgers.values():
            for message in _messages(ledger):
                assert ledger.body(message)
            await asyncio.gather(*(replica.finish(ledger, message) for message in _messages(ledger)))
            await ledger.commits.in_order(lambda: None)  # what is removed later is removed by now
            journal.say("left", len(_messages(ledger)), ledger.log.large_names())

    return asyncio.run(_lived(Replica(journal, spool, "queue-0", born_ms), act))


# -- looking ----------------------------------------------------------------------------------------------------------


def _messages(ledger: Ledger) -> list[Message]:
    return [message for one in ledger.index.ids() if (message := ledger.index.get(one))]


def _found(replica: Replica, message: MessageId, number: int) -> tuple[Any, ...]:
    """Standing, the checksum of the body with which it ends, and how far each recipient is."""
    for ledger in replica.store.ledgers.values():
        if held := ledger.index.get(message):
            body = ledger.body(held)
            whole = body.endswith(body_of(number)[-2_000:]) or message == bounce_of(an_id(replica.born_ms, number))
            states = [
                (one.state.value, one.attempts, ledger.report(held, place)) for place, one in enumerate(held.recipients)
            ]
            return Standing.LIVE.value, whole, states
        if (standing := ledger.index.standing(message)) is not Standing.UNKNOWN:
            return standing.value, True, []
    return Standing.UNKNOWN.value, True, []
