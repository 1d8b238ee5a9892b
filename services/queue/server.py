"""The rim to the operator: what is queued, and why it waits."""

from collections.abc import AsyncIterator
from typing import Any

from mail import address, ids
from mail.routing import Channel
from proto import admin_pb2, admin_pb2_grpc
from runtime.serve import Process
from services.queue.dispatch import Dispatch
from services.queue.message import Message, Recipient, State
from services.queue.plan import Plan
from services.queue.store import Store

_MESSAGES_PER_REPLY = 500


class Admin(admin_pb2_grpc.AdminServicer):
    """Answers the operator's command."""

    def __init__(self, store: Store, plan: Plan, dispatch: Dispatch, process: Process) -> None:
        self._store = store
        self._plan = plan
        self._dispatch = dispatch
        self._process = process
        admin_pb2_grpc.add_AdminServicer_to_server(self, process.rpc.grpc)

    async def List(self, request: admin_pb2.ListRequest, context: Any) -> AsyncIterator[admin_pb2.ListReply]:
        wanted = ids.parse_id(request.id)
        for log, ledger in list(self._store.ledgers.items()):
            if request.id:
                messages = [ledger.index.messages[wanted]] if wanted in ledger.index.messages else []
            else:
                messages = list(ledger.index.messages.values())
            for start in range(0, len(messages), _MESSAGES_PER_REPLY):
                part = messages[start : start + _MESSAGES_PER_REPLY]
                yield admin_pb2.ListReply(messages=[self._message(log, message) for message in part])

    async def Stats(self, request: admin_pb2.StatsRequest, context: Any) -> admin_pb2.StatsReply:
        ledgers = self._store.ledgers
        return admin_pb2.StatsReply(
            messages=sum(len(ledger.index.messages) for ledger in ledgers.values()),
            delivering=self._dispatch.under_way,
            logs=list(ledgers),
            workers=[link.worker for link in self._dispatch.links],
        )

    def _message(self, log: str, message: Message) -> admin_pb2.QueuedMessage:
        return admin_pb2.QueuedMessage(
            id=message.id,
            log=log,
            sender=message.sender,
            size=message.size,
            arrived_ms=message.arrived_ms,
            recipients=[
                admin_pb2.QueuedRecipient(
                    address=recipient.route.address,
                    channel=recipient.route.channel.value,
                    state=recipient.state.value,
                    attempts=recipient.attempts,
                    next_attempt_ms=0 if recipient.settled else recipient.next_attempt_ms,
                    why=self._why(recipient),
                )
                for recipient in message.recipients
            ],
        )

    def _why(self, recipient: Recipient) -> str:
        """Why a recipient that is not settled has not been delivered, in words for a person."""
        if recipient.settled:
            return ""
        if recipient.state is State.DELIVERING:
            return "a delivery is under way"
        if recipient.next_attempt_ms > self._process.clock.wall_ms():
            return f"to be tried again; last time: {recipient.report.strip()}"
        channel = recipient.route.channel
        if not self._dispatch.has_worker(channel):
            return f"no {channel.value} worker is connected"
        local, domain = address.split(recipient.route.address)
        return self._plan.why(channel, (local if channel is Channel.LOCAL else domain).lower())
