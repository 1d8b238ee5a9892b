"""Asks the queue replicas, and tells them what to do: proto/admin.proto, with the cli's key.

The only module of the command that knows gRPC's messages. A replica that does not answer is named, never left out:
a backlog that was only half seen is not an answer.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import grpc

from cli import escape
from cli.queued import Queued, QueuedRecipient
from cli.refusal import Refusal
from cli.selection import Selection
from proto import admin_pb2, admin_pb2_grpc
from runtime.config import Address
from runtime.rpc import Identity, channel

# A replica that is busy answers within this.
_ANSWER_S = 10.0
# A listing that finds nothing for a while gives a sign of life each second (services/queue/survey.py).
_SILENCE_S = 20.0
# For what looks at every message, or waits for the disk, before it answers.
_WORK_S = 120.0
# So many ids go with one order: a moment of the queue's time, in which it does nothing else.
CHANGED_MAX = 250


class Action(Enum):
    """What can be done with queued messages."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done, who says so, and which of the ids it is still true of."""

    action: Action
    by: str
    still: Selection = field(default_factory=Selection)
    force: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of an order for one message: done, already, refused or unknown."""

    id: str
    result: str
    text: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker's stream to a replica."""

    name: str
    channel: str
    slots: int
    busy: int
    draining: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the messages that match: how many, how large, the oldest one; recipients by channel, state and so on."""

    messages: int
    octets: int
    oldest: str
    oldest_arrived: float | None
    channels: dict[str, int]
    states: dict[str, int]
    reasons: dict[str, int]
    destinations: dict[str, int]


@dataclass(frozen=True, slots=True)
class Stats:
    """What one replica says of itself; `counts` only when asked for."""

    replica: str
    messages: int
    delivering: int
    logs: tuple[str, ...]
    volume: tuple[str, ...]
    workers: tuple[Worker, ...]
    counts: Counts | None = None


class Unanswered(Exception):
    """Something is not known: a replica did not answer, or nobody answers for a log."""


class Replica:
    """One queue replica, over a channel that is kept."""

    def __init__(self, address: Address, to_server: grpc.aio.Channel) -> None:
        self.address = address
        self._stub = admin_pb2_grpc.AdminStub(to_server)

    async def stats(self) -> Stats:
        """How much it holds; Unanswered when it does not say."""
        return await self._stats(admin_pb2.StatsRequest(), _ANSWER_S)

    async def counted(self, selection: Selection) -> Stats:
        """The same with the counts of the messages that match, every one of which is looked at."""
        return await self._stats(admin_pb2.StatsRequest(selection=_selection(selection), counted=True), _WORK_S)

    async def messages(self, selection: Selection, whole: bool = False) -> AsyncGenerator[Queued, None]:
        """The messages it holds that match, in the order of their ids; Unanswered when it falls silent."""
        request = admin_pb2.ListRequest(selection=_selection(selection), whole=whole)
        call = self._stub.List(request)
        replies = aiter(call)
        try:
            while (reply := await asyncio.wait_for(anext(replies, None), _SILENCE_S)) is not None:
                for queued in reply.messages:
                    yield _message(queued, whole)
        except grpc.aio.AioRpcError as error:
            raise self._unanswered(_why(error)) from error
        except TimeoutError as error:
            raise self._unanswered(f"nothing for {_SILENCE_S:g} s") from error
        finally:
            call.cancel()

    async def body(self, message: str) -> AsyncIterator[bytes]:
        """The whole message, in pieces; nothing when it is not kept there. Refusal when it is damaged."""
        call = self._stub.Body(admin_pb2.BodyRequest(id=message), timeout=_WORK_S)
        try:
            async for reply in call:
                yield reply.data
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DATA_LOSS:
                raise Refusal(_why(error)) from error
            raise self._unanswered(_why(error)) from error
        finally:
            call.cancel()

    async def change(self, order: Order, ids: list[str]) -> list[Changed]:
        """Does it to those of the ids, at most CHANGED_MAX, that are kept there; Unanswered leaves it open."""
        request = admin_pb2.ChangeRequest(
            action=_ACTIONS[order.action], ids=ids, selection=_selection(order.still), by=order.by, force=order.force
        )
        try:
            reply = await self._stub.Change(request, timeout=_WORK_S)
        except grpc.aio.AioRpcError as error:
            raise self._unanswered(_why(error)) from error
        return [Changed(one.id, _RESULTS.get(one.result, "unknown"), one.text) for one in reply.changes]

    def _unanswered(self, why: str) -> Unanswered:
        return Unanswered(f"the queue at {self.address} does not answer: {why}")

    async def _stats(self, request: admin_pb2.StatsRequest, within_s: float) -> Stats:
        try:
            reply = await self._stub.Stats(request, timeout=within_s)
        except grpc.aio.AioRpcError as error:
            raise self._unanswered(_why(error)) from error
        return Stats(
            replica=reply.replica,
            messages=reply.messages,
            delivering=reply.delivering,
            logs=tuple(reply.logs),
            volume=tuple(reply.volume),
            workers=tuple(Worker(one.worker, one.channel, one.slots, one.busy, one.draining) for one in reply.slots),
            counts=_counts(reply) if request.counted else None,
        )


@asynccontextmanager
async def replicas(addresses: list[Address], identity: Identity) -> AsyncIterator[list[Replica]]:
    """A channel to each replica, closed at the end."""
    channels = [(address, channel(address, identity)) for address in addresses]
    try:
        yield [Replica(address, to_server) for address, to_server in channels]
    finally:
        await asyncio.gather(*(to_server.close() for _, to_server in channels))


_ACTIONS = {
    Action.RETRY: admin_pb2.ChangeRequest.RETRY,
    Action.HOLD: admin_pb2.ChangeRequest.HOLD,
    Action.RELEASE: admin_pb2.ChangeRequest.RELEASE,
    Action.REMOVE: admin_pb2.ChangeRequest.REMOVE,
}
_RESULTS = {
    admin_pb2.Change.DONE: "done",
    admin_pb2.Change.ALREADY: "already",
    admin_pb2.Change.REFUSED: "refused",
}


def _selection(selection: Selection) -> admin_pb2.Selection:
    return admin_pb2.Selection(
        ids=selection.ids,
        sender=selection.sender,
        recipient=selection.recipient,
        domain=selection.domain,
        older_ms=selection.older_s * 1_000,
        younger_ms=selection.younger_s * 1_000,
        states=selection.states,
    )


def _message(queued: admin_pb2.QueuedMessage, whole: bool) -> Queued:
    found = Queued(
        id=queued.id,
        log=queued.log,
        sender=queued.sender,
        size=queued.size,
        arrived=_seconds(queued.arrived_ms),
        recipients=[_recipient(recipient, whole) for recipient in queued.recipients],
        held_by=queued.held_by or None,
        held_since=_seconds(queued.held_since_ms),
    )
    if whole:
        found |= {"uid": queued.uid, "envid": queued.envid, "parent": queued.parent or None}
    return found


def _recipient(recipient: admin_pb2.QueuedRecipient, whole: bool) -> QueuedRecipient:
    found = QueuedRecipient(
        address=recipient.address,
        channel=recipient.channel,
        state=recipient.state,
        attempts=recipient.attempts,
        next_attempt=_seconds(recipient.next_attempt_ms),
        why=recipient.why,
        reason=recipient.reason,
    )
    if whole:
        found |= {"report": recipient.report, "given": recipient.given}
    return found


def _counts(reply: admin_pb2.StatsReply) -> Counts:
    return Counts(
        messages=reply.selected,
        octets=reply.octets,
        oldest=reply.oldest,
        oldest_arrived=_seconds(reply.oldest_ms),
        channels={one.name: one.count for one in reply.channels},
        states={one.name: one.count for one in reply.states},
        reasons={one.name: one.count for one in reply.reasons},
        destinations={one.name: one.count for one in reply.destinations},
    )


def _seconds(milliseconds: int) -> float | None:
    """Unix time in seconds; None for never."""
    return milliseconds / 1_000 if milliseconds else None


def _why(error: grpc.aio.AioRpcError) -> str:
    details = (error.details() or "").split("\n", 1)[0]
    return f"{error.code().name.lower().replace('_', ' ')}: {escape.plain(details[:200])}"
