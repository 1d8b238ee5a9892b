"""The rim to workers: a stream to each, its credit, what waits to be said on it, and what comes back.

Workers pull: a stream offers slots, gets deliveries, returns outcomes and is told, after the commit, that they are
recorded. What is started for whom, and what a report leads to, decides dispatch.py.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from mail.limits import BODY_CHUNK_OCTETS
from mail.routing import Channel
from proto import work_pb2, work_pb2_grpc
from runtime.faults import Point, point
from runtime.rpc import peer_role
from runtime.serve import Process
from runtime.worker import BEAT_S
from services.queue.parcels import Heard, heard

_BATCH_OCTETS = 1024 * 1024

# Acknowledgements, for which nobody waits, gather for so long unless something else goes out.
_ACKS_GATHER_S = 0.02


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
        return max(0, self.slots - self.out) if self.worker and not self.draining else 0

    def send(self, delivery: work_pb2.Delivery, body: bytes) -> None:
        self.out += 1
        self.deliveries.append((delivery, body))
        self.say.set()

    def acknowledge(self, key: str, recipient: int) -> None:
        self.acks.append(work_pb2.Ack(key=key, recipient=recipient))
        if len(self.acks) == 1:
            asyncio.get_running_loop().call_later(_ACKS_GATHER_S, self.say.set)

    def not_owner(self, key: str, recipient: int) -> None:
        self.acks.append(work_pb2.Ack(key=key, recipient=recipient, not_owner=True))
        self.say.set()


class Hearer(Protocol):
    """Who is told what workers say."""

    def held(self, link: Link, key: str, recipients: list[int]) -> None: ...

    def report(self, link: Link, heard: Heard) -> None: ...

    def credit_changed(self) -> None: ...

    def slots_changed(self) -> None: ...

    def link_gone(self, link: Link) -> None: ...


class Links(work_pb2_grpc.WorkServicer):
    """Every worker that is there. `logs` are those that this replica owns, `cluster` is the name of the spool's."""

    def __init__(self, process: Process, cluster: str) -> None:
        self._process = process
        self._cluster = cluster
        self._links: list[Link] = []
        self._hearer: Hearer | None = None
        self.logs: list[str] = []
        work_pb2_grpc.add_WorkServicer_to_server(self, process.rpc.grpc)

    def heard_by(self, hearer: Hearer) -> None:
        self._hearer = hearer

    # -- what there is ------------------------------------------------------------------------------------------------

    def all(self) -> list[Link]:
        return self._links

    def credit(self, channel: Channel) -> int:
        """How many deliveries of a channel may be started now."""
        return sum(link.credit for link in self._links if link.channel is channel)

    def slots(self, channel: Channel) -> int:
        return sum(link.slots for link in self._links if link.channel is channel)

    def freest(self, channel: Channel) -> Link:
        """The worker with the most credit; ask `credit` first."""
        return max((link for link in self._links if link.channel is channel), key=lambda link: link.credit)

    def has_worker(self, channel: Channel) -> bool:
        return any(link.channel is channel and link.worker for link in self._links)

    def tell_logs(self, logs: list[str]) -> None:
        """Tells every worker which logs are owned here now."""
        self.logs = logs
        for link in self._links:
            link.tell_logs = True
            link.say.set()

    async def beat(self) -> None:
        """Says something to every worker every BEAT_S, so that none takes us for out of reach, until cancelled."""
        while True:
            await asyncio.sleep(BEAT_S)
            for link in self._links:
                link.say.set()

    # -- a stream -----------------------------------------------------------------------------------------------------

    async def Pull(
        self, requests: AsyncIterator[work_pb2.WorkerMessage], context: Any
    ) -> AsyncIterator[work_pb2.QueueMessage]:
        assert self._hearer is not None, "wired in __main__"
        link = Link()
        reader = asyncio.create_task(self._read(self._hearer, link, peer_role(context), requests))
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
            self._hearer.link_gone(link)

    async def _read(
        self, hearer: Hearer, link: Link, role: str, requests: AsyncIterator[work_pb2.WorkerMessage]
    ) -> None:
        async for message in requests:
            if message.HasField("hello"):
                if message.hello.channel != role:
                    return  # a worker of one channel speaks for no other
                self._greet(hearer, link, message.hello)
            link.draining = message.draining
            link.slots = message.slots or link.slots
            link.out = max(0, link.out - message.ended)
            for outcome in message.outcomes:
                hearer.report(link, heard(outcome))
            if message.slots:
                hearer.slots_changed()
            if message.slots or message.ended:
                hearer.credit_changed()

    def _greet(self, hearer: Hearer, link: Link, hello: work_pb2.WorkerHello) -> None:
        if not link.worker:
            link.channel = Channel(hello.channel)
            link.worker = hello.worker
            self._process.events.worker(hello.channel, hello.worker)
        for held in hello.held:
            hearer.held(link, held.key, list(held.recipients))

    def _hello(self) -> work_pb2.QueueMessage:
        hello = work_pb2.QueueHello(replica=self._process.instance, logs=self.logs, cluster=self._cluster)
        return work_pb2.QueueMessage(hello=hello)

    def _to_say(self, link: Link) -> list[work_pb2.QueueMessage]:
        """What waits to be said to a worker, in messages of bearable size; an empty one says that we live."""
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
