"""The producer's side of Enqueue: hand messages to the queue in batches and learn honestly what became of them.

One stream to every replica. A receipt is committed, refused, or unknown; what is unknown, and everything in flight when
a stream breaks, is offered again to whoever owns that log now, who knows the id if it is there, and when that does not
help asked with Resolve. A message is never handed to a second log: that would be a duplicate as soon as the first one
turns out to be committed.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import grpc

from mail.dsn import Wish
from mail.ids import MessageId
from mail.limits import BODY_CHUNK_OCTETS
from proto import queue_pb2, queue_pb2_grpc
from runtime import peers, rpc
from runtime.config import Address
from runtime.serve import Process

# For how long the next owner of a log is waited for to offer it again what the last one left unanswered. An owner that
# was killed is back within a second or two; after this the answer has to be found out, and may be a refusal.
_OFFER_AGAIN_S = 15.0

# The client waits at its final dot while the owner of a log is replaced; reliability.md calls what is left W1.
RESOLVE_S = 60.0
_RESOLVE_CALL_S = 5.0
_RESOLVE_PAUSE_S = 0.25

# A queue that restarts is back within a second; a client is told 451 only after this.
_WAIT_FOR_STREAM_S = 5.0
_CONNECT_S = 5.0
_RETRY_S = 0.2

# One stream item: many small messages or a piece of a large one, well below gRPC's 4 MiB.
_BATCH_OCTETS = 1024 * 1024

UNREACHABLE = "451 4.3.2 queue not reachable, please try again"
UNRESOLVED = "451 4.3.0 could not learn whether the message was queued"
NOT_QUEUED = "451 4.3.0 message was not queued, please try again"


@dataclass(frozen=True, slots=True)
class Submission:
    """A message with its envelope. `body` has LF line ends and our Received line on top.

    `wishes` has one for each recipient, or none at all; `envid` and `ret` are "" when not given (mail/dsn.py).
    """

    id: MessageId
    sender: str
    recipients: tuple[str, ...]
    body: bytes
    uid: int
    envid: str = ""
    ret: str = ""
    wishes: tuple[Wish, ...] = ()


@dataclass(eq=False, slots=True)
class _Offer:
    """A message on its way to the replica that had its log."""

    log: str
    answer: "asyncio.Future[queue_pb2.Receipt | None]"

    def end(self, receipt: queue_pb2.Receipt | None) -> None:
        if not self.answer.done():
            self.answer.set_result(receipt)


@dataclass(eq=False, slots=True)
class _Stream:
    """A live stream to one replica."""

    address: Address
    log: str = ""
    logs: dict[str, int] = field(default_factory=dict)  # and in which order they were announced to us, by anybody
    waiting: list[tuple[Submission, str]] = field(default_factory=list)
    in_flight: dict[MessageId, "_Offer"] = field(default_factory=dict)
    say: asyncio.Event = field(default_factory=asyncio.Event)


class Producer:
    """Hands messages to whichever queue replica takes mail."""

    def __init__(self, queues: tuple[Address, ...], process: Process) -> None:
        self._queues = queues
        self._process = process
        self._streams: list[_Stream] = []
        self._announcements = 0
        self._changed = asyncio.Event()
        self._turn = 0

    async def run(self) -> None:
        """Keeps a stream to every replica until cancelled."""
        await peers.follow(self._queues, self._keep)

    async def available(self) -> bool:
        """Whether some replica takes mail now; while none does, waits a moment for one that is being started."""
        return bool(await self._open_streams())

    async def submit(self, submission: Submission) -> str | None:
        """None when the message is committed: say 250. Otherwise the whole SMTP reply to give."""
        stream = await self._choose()
        if stream is None:
            return UNREACHABLE
        log = stream.log
        receipt = await self._offer(stream, log, submission)
        if receipt and receipt.status == queue_pb2.Receipt.REFUSED:
            return receipt.text or NOT_QUEUED  # at the first offer nothing can have been written
        deadline = self._process.clock.monotonic() + _OFFER_AGAIN_S
        while receipt is None and (owner := await self._owner(log, deadline)):
            receipt = await self._offer(owner, log, submission)
        if receipt and receipt.status == queue_pb2.Receipt.COMMITTED:
            return None
        return await self._resolve(log, submission.id)

    async def _offer(self, stream: _Stream, log: str, submission: Submission) -> queue_pb2.Receipt | None:
        """What the replica answers; None when the stream broke before it did, or when it does not know."""
        offer = _Offer(log, asyncio.get_running_loop().create_future())
        stream.in_flight[submission.id] = offer
        stream.waiting.append((submission, log))
        stream.say.set()
        receipt = await offer.answer
        return None if receipt and receipt.status == queue_pb2.Receipt.UNKNOWN else receipt

    async def _owner(self, log: str, deadline: float) -> _Stream | None:
        """The stream to whoever has the log now. To it, and to nobody else, a message may be offered again."""
        while True:
            owner = self._holder(log)
            if owner or not await self._change(deadline):
                return owner

    def _holder(self, log: str) -> _Stream | None:
        """The replica that was the last to say that it has the log: an earlier one may be stuck."""
        claiming = [stream for stream in self._streams if log in stream.logs]
        return max(claiming, key=lambda stream: stream.logs[log], default=None)

    async def _change(self, deadline: float) -> bool:
        """Waits until a stream opens or says something new; False at the deadline."""
        left = deadline - self._process.clock.monotonic()
        if left <= 0:
            return False
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), left)
        return True

    async def _choose(self) -> _Stream | None:
        """The next stream, in turns, that takes mail."""
        open_streams = await self._open_streams()
        self._turn += 1
        return open_streams[self._turn % len(open_streams)] if open_streams else None

    async def _open_streams(self) -> list[_Stream]:
        """Every stream that takes mail; waits a moment for one to appear."""
        deadline = self._process.clock.monotonic() + _WAIT_FOR_STREAM_S
        while True:
            open_streams = [stream for stream in self._streams if stream.log and self._holder(stream.log) is stream]
            if open_streams or not await self._change(deadline):
                return open_streams

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
                    await self._converse(address, queue_pb2_grpc.QueueStub(channel).Enqueue())
            await asyncio.sleep(_RETRY_S)

    async def _converse(
        self, address: Address, call: "grpc.aio.StreamStreamCall[queue_pb2.EnqueueBatch, queue_pb2.EnqueueReply]"
    ) -> None:
        stream = _Stream(address)
        self._streams.append(stream)
        writer = asyncio.create_task(self._speak(call, stream))
        writer.add_done_callback(rpc.ended)
        try:
            async for reply in call:
                self._hear(stream, reply)
        finally:
            writer.cancel()
            self._streams.remove(stream)
            for offer in stream.in_flight.values():
                offer.end(None)

    async def _speak(
        self, call: "grpc.aio.StreamStreamCall[queue_pb2.EnqueueBatch, queue_pb2.EnqueueReply]", stream: _Stream
    ) -> None:
        while True:
            await stream.say.wait()
            stream.say.clear()
            while stream.waiting:
                waiting, stream.waiting = stream.waiting, []
                for batch in _batches(waiting):
                    await call.write(batch)

    def _hear(self, stream: _Stream, reply: queue_pb2.EnqueueReply) -> None:
        if reply.accepting_log:
            stream.log = "" if reply.accepting_log == "-" else reply.accepting_log
            self._learn_logs(stream, reply.logs)
            self._changed.set()
        for receipt in reply.receipts:
            offer = stream.in_flight.pop(MessageId(receipt.id), None)
            if offer:
                offer.end(receipt)

    def _learn_logs(self, stream: _Stream, logs: Iterable[str]) -> None:
        """Who has taken a log over gets what its former owner, who may only be asleep, has not answered."""
        self._announcements += 1
        stream.logs = {log: stream.logs.get(log, self._announcements) for log in logs}
        for other in self._streams:
            for offer in other.in_flight.values():
                if other is not stream and stream.logs.get(offer.log) == self._announcements:
                    offer.end(None)

    # -- what is unknown ----------------------------------------------------------------------------------------------

    async def _resolve(self, log: str, message: MessageId) -> str | None:
        """Asks whoever owns the log whether the message was committed, as `submit` answers."""
        deadline = self._process.clock.monotonic() + RESOLVE_S
        while self._process.clock.monotonic() < deadline:
            for address in await peers.resolve(self._queues):
                answer = await self._ask(address, log, message)
                if answer == queue_pb2.ResolveReply.COMMITTED:
                    return None
                if answer == queue_pb2.ResolveReply.REFUSED:
                    return NOT_QUEUED
            await asyncio.sleep(_RESOLVE_PAUSE_S)
        self._process.events.possible_duplicate("W1", message)
        return UNRESOLVED

    async def _ask(self, address: Address, log: str, message: MessageId) -> int:
        async with rpc.channel(address, self._process.identity) as channel:
            request = queue_pb2.ResolveRequest(log=log, id=message)
            try:
                reply = await queue_pb2_grpc.QueueStub(channel).Resolve(request, timeout=_RESOLVE_CALL_S)
            except grpc.aio.AioRpcError:
                return queue_pb2.ResolveReply.NOT_OWNER
            return int(reply.answer)


def _batches(waiting: list[tuple[Submission, str]]) -> list[queue_pb2.EnqueueBatch]:
    """Submissions as stream items of bearable size; a large body follows its submission in chunks, in order."""
    batches = [queue_pb2.EnqueueBatch()]
    octets = 0
    for submission, log in waiting:
        first = submission.body[:BODY_CHUNK_OCTETS]
        if octets + len(first) > _BATCH_OCTETS:
            batches.append(queue_pb2.EnqueueBatch())
            octets = 0
        octets += len(first)
        batches[-1].submissions.append(
            queue_pb2.Submission(
                id=submission.id,
                log=log,
                sender=submission.sender,
                recipients=submission.recipients,
                body=first,
                size=len(submission.body),
                uid=submission.uid,
                envid=submission.envid,
                ret=submission.ret,
                notify=[wish.notify for wish in submission.wishes],
                orcpt=[wish.orcpt for wish in submission.wishes],
            )
        )
        for start in range(BODY_CHUNK_OCTETS, len(submission.body), BODY_CHUNK_OCTETS):
            piece = submission.body[start : start + BODY_CHUNK_OCTETS]
            batches.append(queue_pb2.EnqueueBatch(chunks=[queue_pb2.BodyChunk(id=submission.id, data=piece)]))
            octets = _BATCH_OCTETS
    return batches
