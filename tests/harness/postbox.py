"""What a queue replica says to producers, played by the test: it keeps what it is offered and answers as it is told."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from proto import queue_pb2, queue_pb2_grpc

TIMEOUT_S = 30.0


@dataclass
class Posted:
    """A message as the queue got it."""

    id: str
    sender: str
    recipients: list[str]
    body: bytes
    uid: int


@dataclass
class Postbox(queue_pb2_grpc.QueueServicer):
    """One replica that owns one log. `refusals` are given out first; while `silent` nothing is answered."""

    log: str
    refusals: list[str] = field(default_factory=list)
    silent: bool = False
    posted: list[Posted] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: list[tuple[asyncio.Queue[queue_pb2.EnqueueReply], str]] = field(default_factory=list)

    async def Enqueue(self, requests: Any, context: Any) -> AsyncIterator[queue_pb2.EnqueueReply]:
        says: asyncio.Queue[queue_pb2.EnqueueReply] = asyncio.Queue()
        reading = asyncio.create_task(self._read(requests, says))
        yield queue_pb2.EnqueueReply(accepting_log=self.log, logs=[self.log])
        try:
            while True:
                yield await says.get()
        finally:
            reading.cancel()

    async def _read(self, requests: Any, says: asyncio.Queue[queue_pb2.EnqueueReply]) -> None:
        partial: dict[str, tuple[queue_pb2.Submission, bytearray]] = {}
        async for batch in requests:
            for submission in batch.submissions:
                partial[submission.id] = (submission, bytearray(submission.body))
            for chunk in batch.chunks:
                partial[chunk.id][1].extend(chunk.data)
            for submission, body in list(partial.values()):
                if len(body) == submission.size:
                    del partial[submission.id]
                    self._take(submission, bytes(body), says)

    def _take(self, one: queue_pb2.Submission, body: bytes, says: asyncio.Queue[queue_pb2.EnqueueReply]) -> None:
        if self.silent:
            self._waiting.append((says, one.id))
        elif self.refusals:
            receipt = queue_pb2.Receipt(id=one.id, status=queue_pb2.Receipt.REFUSED, text=self.refusals.pop(0))
            says.put_nowait(queue_pb2.EnqueueReply(receipts=[receipt]))
        else:
            self.posted.append(Posted(one.id, one.sender, list(one.recipients), body, one.uid))
            says.put_nowait(_committed(one.id))
        self.came.set()

    def answer(self) -> None:
        """Commits what was met with silence."""
        self.silent = False
        for says, message in self._waiting:
            says.put_nowait(_committed(message))
        self._waiting.clear()

    async def Resolve(self, request: queue_pb2.ResolveRequest, context: Any) -> queue_pb2.ResolveReply:
        known = any(one.id == request.id for one in self.posted)
        answer = queue_pb2.ResolveReply.COMMITTED if known else queue_pb2.ResolveReply.REFUSED
        return queue_pb2.ResolveReply(answer=answer)


def _committed(message: str) -> queue_pb2.EnqueueReply:
    receipt = queue_pb2.Receipt(id=message, status=queue_pb2.Receipt.COMMITTED)
    return queue_pb2.EnqueueReply(receipts=[receipt])
