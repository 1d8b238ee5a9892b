"""The rim to producers: Enqueue streams and Resolve. Checks every field, gathers bodies, batches receipts."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mail import dsn, ids
from mail.ids import MessageId
from mail.limits import SPOOLED_MAX_OCTETS
from proto import queue_pb2, queue_pb2_grpc
from runtime.faults import Point, point
from runtime.serve import Process
from services.queue.ledger import Incoming
from services.queue.store import BUSY, INVALID, UNKNOWN, Store

# Bodies that one stream may be in the middle of: more is a producer that has lost count. Ours send one at a time.
_PARTIAL_MAX = 16

# Unfinished bodies of all streams together: as much as a whole smtpd holds. More is refused for now.
PARTIAL_MAX_OCTETS = 8 * SPOOLED_MAX_OCTETS


@dataclass(slots=True)
class _Stream:
    """One producer: messages whose body is still coming, and receipts that wait to be sent."""

    partial: dict[str, tuple[queue_pb2.Submission, bytearray]] = field(default_factory=dict)
    receipts: list[queue_pb2.Receipt] = field(default_factory=list)
    logs: list[str] | None = None
    say: asyncio.Event = field(default_factory=asyncio.Event)


class Intake(queue_pb2_grpc.QueueServicer):
    """Answers producers."""

    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._says: dict[int, asyncio.Event] = {}
        self._partial_octets = 0
        store.on_change.append(self._announce)
        queue_pb2_grpc.add_QueueServicer_to_server(self, process.rpc.grpc)

    async def Enqueue(
        self, requests: AsyncIterator[queue_pb2.EnqueueBatch], context: Any
    ) -> AsyncIterator[queue_pb2.EnqueueReply]:
        stream = _Stream()
        self._says[id(stream)] = stream.say
        stream.say.set()
        reader = asyncio.create_task(self._read(stream, requests))
        reader.add_done_callback(lambda _: stream.say.set())
        try:
            while not reader.done():
                await stream.say.wait()
                stream.say.clear()
                reply = self._reply(stream)
                if reply:
                    point(Point.INTAKE_BEFORE_RECEIPT)  # committed, and the producer has to ask
                    yield reply
        finally:
            reader.cancel()
            for message in list(stream.partial):
                self._let_go(stream, message)
            del self._says[id(stream)]

    async def Resolve(self, request: queue_pb2.ResolveRequest, context: Any) -> queue_pb2.ResolveReply:
        message = ids.parse_id(request.id)
        committed = await self._store.resolve(request.log, message) if message else None
        if committed is None:
            return queue_pb2.ResolveReply(answer=queue_pb2.ResolveReply.NOT_OWNER)
        answer = queue_pb2.ResolveReply.COMMITTED if committed else queue_pb2.ResolveReply.REFUSED
        return queue_pb2.ResolveReply(answer=answer)

    def _announce(self) -> None:
        for say in self._says.values():
            say.set()

    def _reply(self, stream: _Stream) -> queue_pb2.EnqueueReply | None:
        """What there is to say on a stream now: which log takes mail, when that changed, and the receipts."""
        logs = self._store.open_logs()
        receipts, stream.receipts = stream.receipts, []
        if logs != stream.logs:
            stream.logs = logs
            return queue_pb2.EnqueueReply(accepting_log=logs[0] if logs else "-", logs=logs, receipts=receipts)
        return queue_pb2.EnqueueReply(receipts=receipts) if receipts else None

    async def _read(self, stream: _Stream, requests: AsyncIterator[queue_pb2.EnqueueBatch]) -> None:
        async for batch in requests:
            for submission in batch.submissions:
                await self._begin(stream, submission)
            for chunk in batch.chunks:
                await self._continue(stream, chunk)

    async def _begin(self, stream: _Stream, submission: queue_pb2.Submission) -> None:
        if not _is_sound(submission):
            self._answer(stream, submission.id, INVALID)
        elif len(submission.body) == submission.size:
            await self._take(stream, submission, submission.body)
        elif len(stream.partial) >= _PARTIAL_MAX or submission.id in stream.partial:
            self._answer(stream, submission.id, BUSY)
        else:
            stream.partial[submission.id] = (submission, bytearray())
            await self._gather(stream, submission.id, submission.body)

    async def _continue(self, stream: _Stream, chunk: queue_pb2.BodyChunk) -> None:
        if chunk.id in stream.partial:  # else it was refused before, or was never announced
            await self._gather(stream, chunk.id, chunk.data)

    async def _gather(self, stream: _Stream, message: str, data: bytes) -> None:
        submission, body = stream.partial[message]
        size = len(body) + len(data)
        if size < submission.size and self._partial_octets + len(data) <= PARTIAL_MAX_OCTETS:
            body += data
            self._partial_octets += len(data)
            return
        self._let_go(stream, message)
        if size < submission.size:
            self._answer(stream, message, BUSY)
        elif size > submission.size:
            self._answer(stream, message, INVALID)
        else:
            body += data
            await self._take(stream, submission, bytes(body))

    def _let_go(self, stream: _Stream, message: str) -> None:
        _, body = stream.partial.pop(message)
        self._partial_octets -= len(body)

    async def _take(self, stream: _Stream, submission: queue_pb2.Submission, body: bytes) -> None:
        incoming = Incoming(
            id=MessageId(submission.id),
            sender=submission.sender,
            recipients=tuple(submission.recipients),
            body=body,
            uid=submission.uid,
            envid=submission.envid,
            ret=submission.ret,
            wishes=_wishes(submission) or (),
        )
        await self._store.accept(submission.log, incoming, partial(self._answer, stream, submission.id))

    def _answer(self, stream: _Stream, message: str, answer: str | None) -> None:
        if answer is None:
            receipt = queue_pb2.Receipt(id=message, status=queue_pb2.Receipt.COMMITTED)
        elif answer == UNKNOWN:
            receipt = queue_pb2.Receipt(id=message, status=queue_pb2.Receipt.UNKNOWN)
        else:
            receipt = queue_pb2.Receipt(id=message, status=queue_pb2.Receipt.REFUSED, text=answer)
        stream.receipts.append(receipt)
        stream.say.set()


def _is_sound(submission: queue_pb2.Submission) -> bool:
    return (
        ids.parse_id(submission.id) is not None
        and len(submission.body) <= submission.size <= SPOOLED_MAX_OCTETS
        and (not submission.envid or dsn.is_envid(submission.envid))
        and dsn.is_ret(submission.ret)
        and _wishes(submission) is not None
    )


def _wishes(submission: queue_pb2.Submission) -> tuple[dsn.Wish, ...] | None:
    """What the sender wishes for each recipient; None when that is not sound."""
    return dsn.wishes_of(submission.notify, submission.orcpt, len(submission.recipients))
