"""Asks the keeper of accounts (local) whether an address gets mail here, as little as can be.

Knows the RPC and for how long an answer is believed. One call is under way at a time; what is asked meanwhile goes
together in the next, and equal questions share one. Silence, an error, an unknown word are UNSURE: a client is told
451, never 550.
"""

import asyncio
from collections import OrderedDict

import grpc

from proto import accounts_pb2, accounts_pb2_grpc
from runtime import rpc
from runtime.clock import Clock
from runtime.config import Address
from runtime.rpc import Identity
from services.smtpd import limits
from services.smtpd.policy import Verdict

_VERDICTS = {
    accounts_pb2.CheckReply.DELIVERABLE: Verdict.DELIVERABLE,
    accounts_pb2.CheckReply.NOBODY: Verdict.NOBODY,
    accounts_pb2.CheckReply.ELSEWHERE: Verdict.ELSEWHERE,
}
_KEPT_S = {
    Verdict.DELIVERABLE: limits.VERDICT_KEPT_S,
    Verdict.ELSEWHERE: limits.VERDICT_KEPT_S,
    Verdict.NOBODY: limits.NOBODY_KEPT_S,
    Verdict.UNSURE: limits.UNSURE_KEPT_S,
}


class Accounts:
    """What is known of addresses, and how more gets known."""

    def __init__(self, keepers: tuple[Address, ...], identity: Identity, clock: Clock) -> None:
        self._channels = [rpc.channel(keeper, identity) for keeper in keepers]
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Verdict]] = OrderedDict()
        self._asked: dict[str, asyncio.Future[Verdict]] = {}
        self._waiting: list[str] = []
        self._asking: asyncio.Task[None] | None = None

    def known(self, recipient: str) -> Verdict | None:
        """The verdict if it is fresh enough to be believed."""
        found = self._known.get(recipient)
        if found is None or found[0] <= self._clock.monotonic():
            return None
        return found[1]

    async def verdict(self, recipient: str) -> Verdict:
        """The verdict, asked for if need be; UNSURE after CHECK_S at the latest for each keeper and batch."""
        known = self.known(recipient)
        if known is not None:
            return known
        asked = self._asked.get(recipient)
        if asked is None:
            asked = self._asked[recipient] = asyncio.get_running_loop().create_future()
            self._waiting.append(recipient)
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask_all())
                self._asking.add_done_callback(rpc.ended)
        return await asyncio.shield(asked)

    async def close(self) -> None:
        """Ends the channels; who still waits is told UNSURE."""
        if self._asking is not None:
            self._asking.cancel()
        self._answer(dict.fromkeys(self._asked, Verdict.UNSURE))
        for channel in self._channels:
            await channel.close()

    async def _ask_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: limits.QUESTIONS_MAX], self._waiting[limits.QUESTIONS_MAX :]
            self._answer(await self._ask(batch))

    async def _ask(self, batch: list[str]) -> dict[str, Verdict]:
        request = accounts_pb2.CheckRequest(recipients=batch)
        for channel in self._channels:
            stub = accounts_pb2_grpc.AccountsStub(channel)
            try:
                reply = await stub.Check(request, timeout=limits.CHECK_S, wait_for_ready=True)
            except grpc.aio.AioRpcError:
                continue
            if len(reply.verdicts) == len(batch):
                verdicts = [_VERDICTS.get(verdict, Verdict.UNSURE) for verdict in reply.verdicts]
                return dict(zip(batch, verdicts, strict=True))
        return dict.fromkeys(batch, Verdict.UNSURE)

    def _answer(self, verdicts: dict[str, Verdict]) -> None:
        now = self._clock.monotonic()
        for recipient, verdict in verdicts.items():
            self._known[recipient] = (now + _KEPT_S[verdict], verdict)
            self._known.move_to_end(recipient)
            asked = self._asked.pop(recipient, None)
            if asked is not None and not asked.done():
                asked.set_result(verdict)
        while len(self._known) > limits.VERDICTS_MAX:
            self._known.popitem(last=False)
