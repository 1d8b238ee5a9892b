"""The rim to workers: who is there, what each is doing, and what they report.

Workers pull: a stream offers slots, gets deliveries, returns outcomes and is told, after the commit, that they are
recorded. A delivery whose remote worker went away is not given to another before REATTACH_S, unless that worker comes
back and names it: it may be past the final dot.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mail.limits import BODY_CHUNK_OCTETS
from mail.routing import Channel
from proto import work_pb2, work_pb2_grpc
from runtime import wire
from runtime.faults import Point, point
from runtime.rpc import peer_role
from runtime.serve import Process
from runtime.worker import ORPHAN_S
from services.queue.flights import Flight, Flights, parse_key, waiting
from services.queue.ledger import Reported, Settlement
from services.queue.log import DamagedBody
from services.queue.message import Message, State
from services.queue.parcels import delivery_of, reported_by
from services.queue.plan import Job, Plan, jobs_of
from services.queue.store import Store

# How long a new owner, or one whose worker went away, waits for the worker before the delivery is given to another.
REATTACH_S = 30.0
assert REATTACH_S > ORPHAN_S, "an orphaned worker stops before another may start"

# A damaged message is not delivered and not forgotten: it is looked at again after this, for somebody may mend it.
_DAMAGED_AGAIN_MS = 3_600_000

# While workers are busy, what comes due gathers for so long and goes out together: a stream item costs as much as the
# work on several messages. Acknowledgements, for which nobody waits, gather longer unless something goes out.
GATHER_S = 0.003
_ACKS_GATHER_S = 0.02

_BATCH_OCTETS = 1024 * 1024


@dataclass(eq=False, slots=True)
class Link:
    """A worker's stream: its credit, and what waits to be said on it."""

    channel: Channel = Channel.LOCAL
    worker: str = ""
    slots: int = 0
    out: int = 0
    draining: bool = False
    tell_logs: bool = False
    deliveries: list[tuple[work_pb2.Delivery, bytes]] = field(default_factory=list)
    acks: list[work_pb2.Ack] = field(default_factory=list)
    say: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def credit(self) -> int:
        """How many deliveries it takes now."""
        return max(0, self.slots - self.out) if self.worker else 0


class Dispatch(work_pb2_grpc.WorkServicer):
    """Gives due jobs to workers and takes in what they report."""

    def __init__(self, store: Store, plan: Plan, process: Process, cluster: str) -> None:
        self._store = store
        self._plan = plan
        self._process = process
        self._cluster = cluster
        self._flights = Flights()
        self._links: list[Link] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pump_is_due = False
        self._stopped = False
        self._held_back = 0
        store.on_message = self.message_came
        store.on_change.append(self._tell_logs)
        work_pb2_grpc.add_WorkServicer_to_server(self, process.rpc.grpc)

    # -- what there is to do ------------------------------------------------------------------------------------------

    def message_came(self, log: str, message: Message) -> None:
        """Plans the attempts of a message that is committed."""
        self._plan_jobs(jobs_of(log, message))

    def adopt(self, log: str, messages: list[Message], clean: bool) -> None:
        """Plans everything in a log that is ours now; after an unclean end, remote attempts may be under way."""
        held: list[Job] = []
        for message in messages:
            jobs = jobs_of(log, message)
            if not clean:
                held += [job for job in jobs if job.channel is Channel.REMOTE]
                jobs = [job for job in jobs if job.channel is Channel.LOCAL]
            self._plan_jobs(jobs)
        if held:
            self._held_back += 1
            asyncio.get_running_loop().call_later(REATTACH_S, self._let_go, held)

    def _let_go(self, held: list[Job]) -> None:
        self._held_back -= 1
        self._plan_jobs(held)

    def try_everything_now(self) -> None:
        """SIGALRM: every message is due."""
        self._plan.make_all_due()
        self._pump_soon()

    async def finish(self, timeout_s: float) -> bool:
        """Gives nothing out any more and waits for what is out; says whether all of it came back in time."""
        self._stopped = True
        self._status()
        try:
            await asyncio.wait_for(self._flights.empty.wait(), timeout_s)
        except TimeoutError:
            return False
        # What is held back may still be with a worker of an earlier owner: the next one has to wait for it too.
        return not self._held_back

    @property
    def under_way(self) -> int:
        return sum(self._flights.busy.values())

    @property
    def links(self) -> list[Link]:
        return self._links

    def has_worker(self, channel: Channel) -> bool:
        return any(link.channel is channel and link.worker for link in self._links)

    def _plan_jobs(self, jobs: list[Job]) -> None:
        now_ms = self._process.clock.wall_ms()
        for job in jobs:
            self._plan.put(job, now_ms)
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            free, slots = sum(link.credit for link in self._links), sum(link.slots for link in self._links)
            asyncio.get_running_loop().call_later(0 if free * 2 >= slots else GATHER_S, self._pump)

    def _pump(self) -> None:
        """Starts as much as is due and as workers have slots for."""
        self._pump_is_due = False
        if self._stopped:
            return
        now_ms = self._process.clock.wall_ms()
        started = False
        for channel in Channel:
            while jobs := self._plan.take(channel, self._credit(channel), now_ms):
                for job in jobs:
                    started = self._start(self._freest(channel), job) or started
        if started:
            self._status()
        self._set_timer(now_ms)

    def _credit(self, channel: Channel) -> int:
        return sum(link.credit for link in self._links if link.channel is channel and not link.draining)

    def _freest(self, channel: Channel) -> Link:
        links = [link for link in self._links if link.channel is channel and not link.draining]
        return max(links, key=lambda link: link.credit)

    def _set_timer(self, now_ms: int) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due_ms = self._plan.next_due_ms()
        if due_ms is not None:
            # Looked at again every minute at least, because the wall clock may jump under a long wait.
            delay_s = min(60.0, max(0, due_ms - now_ms) / 1_000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._pump)

    # -- out ----------------------------------------------------------------------------------------------------------

    def _start(self, link: Link, job: Job) -> bool:
        """Sends a job to a worker, unless it has become empty meanwhile; says whether it did."""
        ledger = self._store.ledgers.get(job.log)
        message = ledger.index.messages.get(job.id) if ledger else None
        recipients = waiting(message, job) if message else ()
        if ledger is None or message is None or not recipients:
            self._plan.done(job)
            return False
        try:
            body = ledger.body(message)
        except (DamagedBody, OSError) as error:
            self._process.events.alert(f"msg {job.id} is not delivered: {error}")
            self._plan.done(job)
            job.due_ms = self._process.clock.wall_ms() + _DAMAGED_AGAIN_MS
            self._plan.put(job, self._process.clock.wall_ms())
            return False
        job.recipients = recipients
        flight = self._flights.begin(job, link, planned=True)
        for index in recipients:
            message.recipients[index].state = State.DELIVERING
            self._process.events.starting_delivery(
                flight.numbers[index], job.id, job.channel.value, message.recipients[index].route.address
            )
        link.out += 1
        link.deliveries.append((delivery_of(flight, message, body), body))
        link.say.set()
        return True

    async def Pull(
        self, requests: AsyncIterator[work_pb2.WorkerMessage], context: Any
    ) -> AsyncIterator[work_pb2.QueueMessage]:
        link = Link()
        role = peer_role(context)
        reader = asyncio.create_task(self._read(link, role, requests))
        reader.add_done_callback(lambda _: link.say.set())
        self._links.append(link)
        try:
            yield self._hello()
            while not reader.done():
                await link.say.wait()
                link.say.clear()
                for message in self._to_say(link):
                    yield message
        finally:
            reader.cancel()
            self._links.remove(link)
            self._link_gone(link)

    def _hello(self) -> work_pb2.QueueMessage:
        hello = work_pb2.QueueHello(
            replica=self._process.instance, logs=list(self._store.ledgers), cluster=self._cluster
        )
        return work_pb2.QueueMessage(hello=hello)

    def _tell_logs(self) -> None:
        for link in self._links:
            link.tell_logs = True
            link.say.set()

    def _to_say(self, link: Link) -> list[work_pb2.QueueMessage]:
        """Everything that waits to be said to a worker, in messages of bearable size."""
        messages = [work_pb2.QueueMessage()]
        if link.tell_logs:
            link.tell_logs = False
            messages[0] = self._hello()
        if link.acks:
            point(Point.DISPATCH_BEFORE_ACK)  # recorded, and the worker will report again
            messages[0].acks.extend(link.acks)
            link.acks = []
        octets = 0
        for delivery, body in link.deliveries:
            if octets > _BATCH_OCTETS:
                messages.append(work_pb2.QueueMessage())
                octets = 0
            messages[-1].deliveries.append(delivery)
            octets += len(delivery.body)
            for start in range(BODY_CHUNK_OCTETS, len(body), BODY_CHUNK_OCTETS):
                piece = body[start : start + BODY_CHUNK_OCTETS]
                chunk = work_pb2.DeliveryChunk(key=delivery.key, data=piece)
                messages.append(work_pb2.QueueMessage(chunks=[chunk]))
                octets = _BATCH_OCTETS + 1
        if link.deliveries:
            point(Point.DISPATCH_BEFORE_DELIVERY)  # started here, known to no worker
            link.deliveries = []
        return messages

    # -- in -----------------------------------------------------------------------------------------------------------

    async def _read(self, link: Link, role: str, requests: AsyncIterator[work_pb2.WorkerMessage]) -> None:
        async for message in requests:
            if message.HasField("hello"):
                if message.hello.channel != role:
                    return  # a worker of one channel speaks for no other
                self._greet(link, message.hello)
            link.draining = message.draining
            link.slots = message.slots or link.slots
            link.out = max(0, link.out - message.ended)
            for outcome in message.outcomes:
                self._report(link, outcome)
            if message.slots:
                self._status()
            if message.slots or message.ended:
                self._pump_soon()

    def _greet(self, link: Link, hello: work_pb2.WorkerHello) -> None:
        if not link.worker:
            link.channel = Channel(hello.channel)
            link.worker = hello.worker
            self._process.events.worker(hello.channel, hello.worker)
        for key in hello.holding:
            flight = self._flights.find(key) or self._flights.recall(key, self._store)
            if flight:
                flight.link = link

    def _report(self, link: Link, outcome: work_pb2.Outcome) -> None:
        log, message, attempt, _ = parse_key(outcome.key)
        ledger = self._store.ledgers.get(log)
        if ledger is None or message is None:
            link.acks.append(work_pb2.Ack(key=outcome.key, recipient=outcome.recipient, not_owner=True))
            link.say.set()
            return
        reported = reported_by(message, attempt, outcome)
        if outcome.possible_duplicate:
            self._process.events.possible_duplicate("W3", message)
        flight = self._flights.find(outcome.key)
        if flight and flight.report(outcome.recipient):
            self._leave(flight)
        then = partial(self._settled, link, outcome.key, log, reported)
        ledger.settle(reported, self._process.clock.wall_ms(), then)

    def _settled(self, link: Link, key: str, log: str, reported: Reported, settlement: Settlement | None) -> None:
        """A report is recorded: the worker may forget it, the log is told, and what it led to begins."""
        if settlement is None:
            return  # unknown: the worker keeps it, and reports it to the next owner
        link.acks.append(work_pb2.Ack(key=key, recipient=reported.recipient))
        if len(link.acks) == 1:
            asyncio.get_running_loop().call_later(_ACKS_GATHER_S, link.say.set)
        flight = self._flights.find(key)
        number = flight.numbers.get(reported.recipient, 0) if flight else 0
        if flight and flight.settle(reported.recipient):
            self._land(flight)
        if settlement.message and settlement.settled:
            became = wire.outcome_of(settlement.settled.kind, settlement.settled.report)
            self._process.events.delivery(number, reported.id, became)
            self._status()
            self._go_on(log, settlement, settlement.message, flight, reported)

    def _go_on(
        self, log: str, settlement: Settlement, message: Message, flight: Flight | None, reported: Reported
    ) -> None:
        for child in settlement.children:
            if child.id == settlement.bounced_to:
                self._process.events.bounce_msg(message.id, child.id)
            else:
                self._process.events.forwarded(message.id, child.id)
        if settlement.discarded:
            self._process.events.triple_bounce(message.id)
        if settlement.finished:
            self._process.events.end_msg(message.id)
        elif flight is None:
            self._plan_jobs(jobs_of(log, message, [reported.recipient]))
        elif not flight.left:
            self._plan_jobs(jobs_of(log, message, flight.job.recipients))
        for child in settlement.children:
            self._store.announce(child)
            self.message_came(log, child)

    def _leave(self, flight: Flight) -> None:
        """The attempt is over at its destination, which has room for the next, whenever it will be recorded."""
        if flight.planned:
            flight.planned = False
            self._plan.done(flight.job)
            self._pump_soon()

    def _land(self, flight: Flight) -> None:
        self._leave(flight)
        self._flights.end(flight)

    def _link_gone(self, link: Link) -> None:
        """A worker's stream has ended: what it was doing goes to another, at once or when it cannot be past the dot."""
        flights = self._flights.of(link)
        self._process.events.worker_gone(link.channel.value, link.worker, len(flights))
        for flight in flights:
            flight.link = None
            if flight.job.channel is Channel.LOCAL:
                self._take_back(flight)
            else:
                flight.losses += 1
                asyncio.get_running_loop().call_later(
                    REATTACH_S, self._take_back_unless_attached, flight, flight.losses
                )

    def _take_back_unless_attached(self, flight: Flight, losses: int) -> None:
        if flight.link is None and flight.losses == losses and self._flights.find(flight.job.key) is flight:
            self._process.events.possible_duplicate("W3", flight.job.id)
            self._take_back(flight)

    def _take_back(self, flight: Flight) -> None:
        ledger = self._store.ledgers.get(flight.job.log)
        message = ledger.index.messages.get(flight.job.id) if ledger else None
        self._land(flight)
        if message is None:
            return
        for index in flight.left:
            if message.recipients[index].state is State.DELIVERING:
                message.recipients[index].state = State.WAITING
        self._plan_jobs(jobs_of(flight.job.log, message, flight.job.recipients))

    # -- the status line ----------------------------------------------------------------------------------------------

    def _status(self) -> None:
        slots = {channel: sum(link.slots for link in self._links if link.channel is channel) for channel in Channel}
        busy = self._flights.busy
        self._process.events.status(
            (busy[Channel.LOCAL], slots[Channel.LOCAL]), (busy[Channel.REMOTE], slots[Channel.REMOTE]), self._stopped
        )
