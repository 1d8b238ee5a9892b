"""Answers smtpd's question at RCPT: does this address get mail here? With the lookup that the delivery uses.

UNSURE whenever it could not be found out: smtpd then says "later", never "no".
"""

import asyncio

import grpc

from mail import address
from mail.limits import RECIPIENTS_MAX
from mail.routing import Channel
from proto import accounts_pb2, accounts_pb2_grpc
from runtime.accounts import AccountsError
from runtime.children import SpawnError
from runtime.spawn import Status
from services.local.batch import Question
from services.local.config import Rules
from services.local.ownership import Ownership, Person, Unserved
from services.local.pool import ChildGone, Pool

_DELIVERABLE = accounts_pb2.CheckReply.DELIVERABLE
_NOBODY = accounts_pb2.CheckReply.NOBODY
_ELSEWHERE = accounts_pb2.CheckReply.ELSEWHERE
_UNSURE = accounts_pb2.CheckReply.UNSURE

# A person at the other end waits; a mailbox that takes longer to say is UNSURE.
ANSWER_WITHIN_S = 5.0


class AccountsServicer(accounts_pb2_grpc.AccountsServicer):
    """The RPC service Accounts."""

    def __init__(self, rules: Rules, ownership: Ownership, pool: Pool) -> None:
        self._rules = rules
        self._ownership = ownership
        self._pool = pool

    def register(self, server: grpc.aio.Server) -> None:
        """This server answers for accounts from now on."""
        accounts_pb2_grpc.add_AccountsServicer_to_server(self, server)

    async def Check(
        self,
        request: accounts_pb2.CheckRequest,
        context: "grpc.aio.ServicerContext[accounts_pb2.CheckRequest, accounts_pb2.CheckReply]",
    ) -> accounts_pb2.CheckReply:
        """One verdict a recipient, in order."""
        if len(request.recipients) > RECIPIENTS_MAX:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"more than {RECIPIENTS_MAX} recipients")
        verdicts = await asyncio.gather(*(self._verdict(recipient) for recipient in request.recipients))
        return accounts_pb2.CheckReply(verdicts=verdicts)

    async def _verdict(self, recipient: str) -> "accounts_pb2.CheckReply.Verdict.ValueType":
        if not recipient or not address.acceptable(recipient):
            return _UNSURE
        route = self._rules.routing.route(recipient)
        if route.channel is not Channel.LOCAL:
            return _ELSEWHERE
        local, _ = address.split(route.address)
        if not local:
            return _DELIVERABLE  # qmail-lspawn's trash address
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                for person in self._ownership.persons(local):
                    verdict = await self._ask(person)
                    if verdict is not None:
                        return verdict
        except (AccountsError, Unserved, SpawnError, ChildGone, TimeoutError):
            return _UNSURE
        return _UNSURE  # not even alias is there, which defers every delivery too

    async def _ask(self, person: Person) -> "accounts_pb2.CheckReply.Verdict.ValueType | None":
        """None when the account does not own its home: the next best is asked."""
        if not person.dash and self._ownership.owns_home(person.account):
            return _DELIVERABLE
        try:
            answer = await self._pool.ask(person.account, Question(addresses=((person.dash, person.ext),)))
        except SpawnError as error:
            if error.status is not Status.NOT_OWNER:
                raise
            self._ownership.learn(person.account, False)
            return None
        self._ownership.learn(person.account, True)
        found = answer.found[0]
        if found is None:
            return _UNSURE
        return _DELIVERABLE if found else _NOBODY
