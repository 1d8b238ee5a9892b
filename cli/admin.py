"""Asks the queue replicas what they hold: Admin.List and Admin.Stats, with the cli's key.

The only module of the command that knows gRPC's messages. A replica that does not answer is named, never left out:
a backlog that was only half seen is not an answer.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from cli.refusal import EXIT_TEMPORARY, Refusal
from proto import admin_pb2, admin_pb2_grpc
from runtime.config import Address
from runtime.rpc import Identity, channel

# A replica that is busy answers within this; a listing may take as long per batch of messages.
_STATS_S = 5.0
_LIST_S = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stats:
    """What one replica says of itself."""

    messages: int
    delivering: int
    logs: tuple[str, ...]
    workers: tuple[str, ...]


class Unanswered(Exception):
    """A replica did not answer."""

    def __init__(self, address: Address, why: str) -> None:
        super().__init__(f"the queue at {address} does not answer: {why}")


class Replica:
    """One queue replica, over a channel that is kept."""

    def __init__(self, address: Address, to_server: grpc.aio.Channel) -> None:
        self.address = address
        self._stub = admin_pb2_grpc.AdminStub(to_server)

    async def stats(self) -> Stats:
        """How much it holds; Unanswered when it does not say."""
        try:
            reply = await self._stub.Stats(admin_pb2.StatsRequest(), timeout=_STATS_S)
        except grpc.aio.AioRpcError as error:
            raise Unanswered(self.address, _why(error)) from error
        return Stats(reply.messages, reply.delivering, tuple(reply.logs), tuple(reply.workers))

    async def messages(self, message: str = "") -> list[dict[str, Any]]:
        """Every message it holds, or the one with that id, as `queue list --json` writes them."""
        found: list[dict[str, Any]] = []
        try:
            async for reply in self._stub.List(admin_pb2.ListRequest(id=message), timeout=_LIST_S):
                found.extend(_message(queued) for queued in reply.messages)
        except grpc.aio.AioRpcError as error:
            raise Unanswered(self.address, _why(error)) from error
        return found


@asynccontextmanager
async def replicas(addresses: list[Address], identity: Identity) -> AsyncIterator[list[Replica]]:
    """A channel to each replica, closed at the end."""
    channels = [(address, channel(address, identity)) for address in addresses]
    try:
        yield [Replica(address, to_server) for address, to_server in channels]
    finally:
        await asyncio.gather(*(to_server.close() for _, to_server in channels))


async def ask_all(addresses: list[Address], identity: Identity, ask: Callable[[Replica], Any]) -> list[Any]:
    """What every replica answers, in order; Refusal (75) when one does not."""
    try:
        async with replicas(addresses, identity) as them:
            return list(await asyncio.gather(*(ask(replica) for replica in them)))
    except Unanswered as error:
        raise Refusal(f"{error}: is it running? try `seapost status`", EXIT_TEMPORARY) from error


def _message(queued: admin_pb2.QueuedMessage) -> dict[str, Any]:
    return {
        "id": queued.id,
        "log": queued.log,
        "sender": queued.sender,
        "size": queued.size,
        "arrived": _seconds(queued.arrived_ms),
        "recipients": [
            {
                "address": recipient.address,
                "channel": recipient.channel,
                "state": recipient.state,
                "attempts": recipient.attempts,
                "next_attempt": _seconds(recipient.next_attempt_ms),
                "why": recipient.why,
            }
            for recipient in queued.recipients
        ],
    }


def _seconds(milliseconds: int) -> float | None:
    """Unix time in seconds; None for never."""
    return milliseconds / 1_000 if milliseconds else None


def _why(error: grpc.aio.AioRpcError) -> str:
    details = (error.details() or "").split("\n", 1)[0]
    return f"{error.code().name.lower().replace('_', ' ')}: {details[:200]}"
