"""The worker's side of the Pull stream, for local and remote: take deliveries, return outcomes until acknowledged.

One stream to every queue replica. Knows credit, acknowledgements and who owns which log; knows nothing of how mail is
delivered. What a worker holds it names again on every new stream, so that a new owner does not start it twice.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import grpc

from mail.routing import Channel
from proto import work_pb2, work_pb2_grpc
from runtime import faults, peers, rpc, wire
from runtime.config import Address
from runtime.parcels import Delivery, ForwardMail, Result, Target
from runtime.serve import Process
from runtime.silence import Silence

__all__ = ["BEAT_S", "ORPHAN_S", "Delivery", "ForwardMail", "Result", "Target", "Worker"]

# Without a word from the log's owner for this long a worker starts nothing and stops before the final dot. Shorter
# than the queue's REATTACH_S, asserted there: a new owner waits longer than an orphan may go on.
ORPHAN_S = 20.0

# A replica that has nothing to say says so this often (services/queue/dispatch.py).
BEAT_S = 5.0
assert BEAT_S * 3 < ORPHAN_S, "a busy replica is not taken for one that is out of reach"

# How long one attempt to reach a replica may fail before its name is looked up again.
_CONNECT_S = 5.0
_RETRY_S = 0.2

# Outcomes in one stream item: far below gRPC's 4 MiB with reports of 3,000 octets and forwards.
_OUTCOMES_PER_ITEM = 256


@dataclass(slots=True)
class _Held:
    """A delivery that was started, until its last outcome is acknowledged."""

    delivery: Delivery
    unsettled: set[int]
    stream: "_Stream"
    begun_at: float  # monotonic seconds
    unacknowledged: dict[int, work_pb2.Outcome] = field(default_factory=dict)


@dataclass(slots=True)
class _Stream:
    """A live stream to one replica, and what waits to be said on it."""

    heard_at: float  # monotonic seconds
    logs: dict[str, int] = field(default_factory=dict)  # and in which order logs were announced to us, by anybody
    cluster: str = ""
    partial: dict[str, tuple[work_pb2.Delivery, list[bytes], int]] = field(default_factory=dict)
    doubtful: dict[str, tuple[work_pb2.Delivery, bytes]] = field(default_factory=dict)  # see `_is_former`
    outcomes: list[work_pb2.Outcome] = field(default_factory=list)
    slots: int = 0  # how many deliveries may be out on it, when that has to be said
    ended: int = 0
    tell_holding: bool = True
    say: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_news(self) -> bool:
        return bool(self.tell_holding or self.outcomes or self.slots or self.ended)


class Worker:
    """Takes deliveries of one channel from every queue replica and returns what became of them."""

    def __init__(self, channel: Channel, queues: tuple[Address, ...], slots: int, process: Process) -> None:
        self._channel = channel
        self._queues = queues
        self._slots = slots
        self._more_slots = 0
        self._process = process
        self._name = f"{process.instance}/{os.getpid()}"
        self._take: Callable[[list[Delivery]], None] = lambda deliveries: None
        self._recorded: Callable[[Delivery], None] = lambda delivery: None
        self._streams: list[_Stream] = []
        self._held: dict[str, _Held] = {}
        self._silence = Silence(ORPHAN_S)
        self._announcements = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(
        self, take: Callable[[list[Delivery]], None], recorded: Callable[[Delivery], None] = lambda delivery: None
    ) -> None:
        """Keeps a stream to every replica until cancelled; `take` gets deliveries, `recorded` those of which the queue
        has recorded every outcome. Neither may block."""
        self._take, self._recorded = take, recorded
        await peers.follow(self._queues, self._keep)

    def settle(self, delivery: Delivery, results: Iterable[Result]) -> None:
        """Returns what became of targets, once for each. Kept, and said again if need be, until acknowledged."""
        held = self._held[delivery.key]
        stream = self._owner(delivery.log)
        for result in results:
            outcome = wire.outcome_message(delivery, result)
            held.unsettled.discard(result.target)
            held.unacknowledged[result.target] = outcome
            if stream:
                stream.outcomes.append(outcome)
                stream.say.set()
        if not held.unsettled:
            held.stream.ended += 1
            held.stream.say.set()

    def offer_more(self, slots: int) -> None:
        """So many slots are offered beyond the usual ones from now on."""
        self._more_slots = slots
        self._share_slots()

    def holds(self, key: str) -> bool:
        """Whether an outcome of this delivery has not been acknowledged yet."""
        return key in self._held

    def may_proceed(self, delivery: Delivery) -> bool:
        """False when the log's owner has been out of reach so long that another may have started this delivery."""
        held, now = self._held.get(delivery.key), self._process.clock.monotonic()
        begun_at = held.begun_at if held else now
        return self._silence.is_bearable(delivery.log, self._heard_at(delivery.log), begun_at, now)

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing more; returns when all that was taken is settled and acknowledged, or at the timeout."""
        self._draining = True
        for stream in self._streams:
            stream.say.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout_s)

    # -- one replica --------------------------------------------------------------------------------------------------

    async def _keep(self, address: Address) -> None:
        """Streams to one replica, again and again, until it cannot be reached."""
        while True:
            async with rpc.channel(address, self._process.identity) as channel:
                try:
                    await asyncio.wait_for(channel.channel_ready(), _CONNECT_S)
                except TimeoutError:
                    return
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self._converse(work_pb2_grpc.WorkStub(channel).Pull())
            await asyncio.sleep(_RETRY_S)

    async def _converse(self, call: "grpc.aio.StreamStreamCall[work_pb2.WorkerMessage, work_pb2.QueueMessage]") -> None:
        stream = self._open()
        writer = asyncio.create_task(self._speak(call, stream))
        writer.add_done_callback(rpc.ended)
        try:
            async for message in call:
                self._hear(stream, message)
        finally:
            writer.cancel()
            self._close(stream)

    def _open(self) -> _Stream:
        stream = _Stream(self._process.clock.monotonic())
        self._streams.append(stream)
        self._share_slots()
        return stream

    def _share_slots(self) -> None:
        """Each stream has an equal part of our slots, at least one."""
        streams, slots = len(self._streams), self._slots + self._more_slots
        for place, stream in enumerate(self._streams):
            stream.slots = max(1, slots // streams + (place < slots % streams))
            stream.say.set()

    def _close(self, stream: _Stream) -> None:
        self._streams.remove(stream)
        self._share_slots()
        self._lost(stream.logs, stream.heard_at)
        for key in (*stream.partial, *stream.doubtful):
            self._forget(key)
        self._reconsider()

    async def _speak(
        self, call: "grpc.aio.StreamStreamCall[work_pb2.WorkerMessage, work_pb2.QueueMessage]", stream: _Stream
    ) -> None:
        told_draining = self._draining
        stream.say.set()
        while True:
            await stream.say.wait()
            stream.say.clear()
            while stream.has_news or told_draining != self._draining:
                outcomes = stream.outcomes[:_OUTCOMES_PER_ITEM]
                del stream.outcomes[:_OUTCOMES_PER_ITEM]
                slots, stream.slots = stream.slots, 0
                ended, stream.ended = stream.ended, 0
                told_draining = self._draining
                faults.point(faults.Point.WORKER_BEFORE_OUTCOME)
                message = work_pb2.WorkerMessage(slots=slots, ended=ended, outcomes=outcomes, draining=told_draining)
                if stream.tell_holding:
                    stream.tell_holding = False
                    message.hello.CopyFrom(self._hello())
                await call.write(message)

    def _hello(self) -> work_pb2.WorkerHello:
        return work_pb2.WorkerHello(channel=self._channel.value, worker=self._name, held=self._all_held())

    def _all_held(self) -> list[work_pb2.Held]:
        """What no owner has acknowledged yet, and for which of its recipients."""
        return [
            work_pb2.Held(key=key, recipients=held.unsettled | held.unacknowledged.keys())
            for key, held in self._held.items()
        ]

    # -- what the queue says ------------------------------------------------------------------------------------------

    def _hear(self, stream: _Stream, message: work_pb2.QueueMessage) -> None:
        before, stream.heard_at = stream.heard_at, self._process.clock.monotonic()
        self._silence.end((log for log in stream.logs if self._owner(log) is stream), before, stream.heard_at)
        if message.HasField("hello"):
            self._learn_logs(stream, message.hello)
        whole = [found for delivery in message.deliveries if (found := self._begin(stream, delivery))]
        whole.extend(found for chunk in message.chunks if (found := self._continue(stream, chunk)))
        if whole:
            self._take(whole)
        for ack in message.acks:
            self._acknowledge(ack)

    def _learn_logs(self, stream: _Stream, hello: work_pb2.QueueHello) -> None:
        lost = stream.logs.keys() - set(hello.logs)
        new = set(hello.logs) - stream.logs.keys()
        for log in new:
            self._silence.end((log,), self._heard_at(log), stream.heard_at)
        self._announcements += 1
        stream.logs = {log: stream.logs.get(log, self._announcements) for log in hello.logs}
        stream.cluster = hello.cluster
        self._lost(lost, stream.heard_at)
        if any(held.delivery.log in new for held in self._held.values()):
            stream.tell_holding = True  # whoever takes a log over learns what goes on in it
        self._report_again(new)
        self._reconsider()
        stream.say.set()

    def _lost(self, logs: Collection[str], since: float) -> None:
        """A stream speaks for these logs no more; what it was told and has not acknowledged is told to their owner."""
        self._silence.begin(logs, since)
        self._report_again(logs)

    def _report_again(self, logs: Collection[str]) -> None:
        for held in self._held.values():
            if held.delivery.log in logs and (owner := self._owner(held.delivery.log)):
                owner.outcomes.extend(held.unacknowledged.values())
                owner.say.set()

    def _begin(self, stream: _Stream, wire_delivery: work_pb2.Delivery) -> Delivery | None:
        self._idle.clear()
        missing = wire_delivery.size - len(wire_delivery.body)
        if missing > 0:
            stream.partial[wire_delivery.key] = (wire_delivery, [wire_delivery.body], missing)
            return None
        return self._hold(stream, wire_delivery, wire_delivery.body)

    def _continue(self, stream: _Stream, chunk: work_pb2.DeliveryChunk) -> Delivery | None:
        if chunk.key not in stream.partial:
            return None
        wire_delivery, parts, missing = stream.partial[chunk.key]
        parts.append(chunk.data)
        missing -= len(chunk.data)
        if missing > 0:
            stream.partial[chunk.key] = (wire_delivery, parts, missing)
            return None
        del stream.partial[chunk.key]
        return self._hold(stream, wire_delivery, b"".join(parts))

    def _hold(self, stream: _Stream, said: work_pb2.Delivery, body: bytes) -> Delivery | None:
        if said.key in self._held:
            stream.ended += 1  # it is under way already: the outcome will answer both
            stream.say.set()
            return None
        if self._is_former(stream, said.log):
            stream.doubtful[said.key] = (said, body)
            return None
        delivery = wire.delivery_of(said, body, stream.cluster)
        self._held[said.key] = _Held(delivery, {target.index for target in delivery.targets}, stream, stream.heard_at)
        return delivery

    def _is_former(self, stream: _Stream, log: str) -> bool:
        """Whether another replica has announced the log since this one did: then this one may have slept, and give out
        what the other has given out before. It begins only if it turns out to be the owner after all.
        """
        owner = self._owner(log)
        return owner is not None and owner is not stream

    def _reconsider(self) -> None:
        """Begins what came from a replica that is the only one left to announce the log."""
        for stream in [] if self._draining else list(self._streams):
            for key, (said, body) in list(stream.doubtful.items()):
                if not self._is_former(stream, said.log):
                    del stream.doubtful[key]
                    if found := self._hold(stream, said, body):
                        self._take([found])

    def _acknowledge(self, ack: work_pb2.Ack) -> None:
        held = self._held.get(ack.key)
        if held is None or ack.not_owner:
            return
        held.unacknowledged.pop(ack.recipient, None)
        if not held.unsettled and not held.unacknowledged:
            self._forget(ack.key)
            self._recorded(held.delivery)

    def _forget(self, key: str) -> None:
        self._held.pop(key, None)
        if not self._held:
            self._idle.set()

    def _heard_at(self, log: str) -> float | None:
        owner = self._owner(log)
        return owner.heard_at if owner else None

    def _owner(self, log: str) -> _Stream | None:
        """The stream to the replica that was the last to say that it has the log: an earlier one may be stuck."""
        claiming = [stream for stream in self._streams if log in stream.logs]
        return max(claiming, key=lambda stream: stream.logs[log], default=None)
