"""The rim to the operator (proto/admin.proto): what is queued, why it waits, and what is to be done with it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from mail import ids
from mail.ids import MessageId
from mail.limits import BODY_CHUNK_OCTETS
from proto import admin_pb2, admin_pb2_grpc
from runtime.serve import Process
from services.queue.census import Census
from services.queue.dispatch import Dispatch
from services.queue.log import DamagedBody
from services.queue.message import Message, Recipient
from services.queue.plan import Plan
from services.queue.reason import Reasons, state_name
from services.queue.selection import Selection, pattern
from services.queue.store import Store
from services.queue.survey import Survey

# A question may name so many messages.
_IDS_MAX = 10_000


class Admin(admin_pb2_grpc.AdminServicer):
    """Answers the operator's command."""

    def __init__(self, store: Store, plan: Plan, dispatch: Dispatch, process: Process) -> None:
        self._store = store
        self._dispatch = dispatch
        self._process = process
        self._survey = Survey(store, process.clock)
        self._reasons = Reasons(plan, dispatch, process.clock)
        admin_pb2_grpc.add_AdminServicer_to_server(self, process.rpc.grpc)

    async def List(self, request: admin_pb2.ListRequest, context: Any) -> AsyncIterator[admin_pb2.ListReply]:
        selection = await _selection(request.selection, context)
        async for kept in self._survey.walk(selection):
            messages = [self._message(log, message, request.whole) for log, message in kept]
            yield admin_pb2.ListReply(messages=messages)

    async def Body(self, request: admin_pb2.BodyRequest, context: Any) -> AsyncIterator[admin_pb2.BodyReply]:
        wanted = ids.parse_id(request.id)
        ledger = self._survey.whereabouts(wanted) if wanted else None
        message = self._survey.find(ledger.log.name.log, wanted) if ledger and wanted else None
        if ledger is None or message is None:
            return
        try:
            body = ledger.body(message)
        except (DamagedBody, OSError) as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"msg {message.id} does not read: {error}")
            return
        for start in range(0, len(body), BODY_CHUNK_OCTETS):
            yield admin_pb2.BodyReply(data=body[start : start + BODY_CHUNK_OCTETS])

    async def Change(self, request: admin_pb2.ChangeRequest, context: Any) -> admin_pb2.ChangeReply:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not yet")
        raise AssertionError

    async def Stats(self, request: admin_pb2.StatsRequest, context: Any) -> admin_pb2.StatsReply:
        ledgers = self._store.ledgers
        reply = admin_pb2.StatsReply(
            messages=sum(len(ledger.index) for ledger in ledgers.values()),
            delivering=self._dispatch.under_way,
            logs=list(ledgers),
            workers=[link.worker for link in self._dispatch.links.all()],
            replica=self._process.instance,
            slots=[
                admin_pb2.WorkerSlots(
                    worker=link.worker,
                    channel=link.channel.value,
                    slots=link.slots,
                    busy=link.out,
                    draining=link.draining,
                )
                for link in self._dispatch.links.all()
                if link.worker
            ],
        )
        if request.counted:
            await self._count(reply, await _selection(request.selection, context))
        return reply

    async def _count(self, reply: admin_pb2.StatsReply, selection: Selection) -> None:
        census = Census()
        async for kept in self._survey.walk(selection):
            for log, message in kept:
                states = [state_name(message, recipient) for recipient in message.recipients]
                reasons = [self._reasons.word(log, message, recipient) for recipient in message.recipients]
                census.count(message, states, reasons)
        reply.selected = census.messages
        reply.octets = census.octets
        if census.oldest:
            reply.oldest = census.oldest.id
            reply.oldest_ms = census.oldest.arrived_ms
        reply.channels.extend(_counts(census.channels))
        reply.states.extend(_counts(census.states))
        reply.reasons.extend(_counts(census.reasons))
        reply.destinations.extend(_counts(census.destinations()))

    def _message(self, log: str, message: Message, whole: bool) -> admin_pb2.QueuedMessage:
        shown = admin_pb2.QueuedMessage(
            id=message.id,
            log=log,
            sender=message.sender,
            size=message.size,
            arrived_ms=message.arrived_ms,
            recipients=[self._recipient(log, message, recipient, whole) for recipient in message.recipients],
        )
        if whole:
            shown.uid = message.uid
            shown.envid = message.envid
            shown.parent = message.parent
        return shown

    def _recipient(self, log: str, message: Message, recipient: Recipient, whole: bool) -> admin_pb2.QueuedRecipient:
        reason = self._reasons.word(log, message, recipient)
        shown = admin_pb2.QueuedRecipient(
            address=recipient.route.address,
            channel=recipient.route.channel.value,
            state=state_name(message, recipient),
            attempts=recipient.attempts,
            next_attempt_ms=0 if recipient.settled else recipient.next_attempt_ms,
            why=self._reasons.sentence(reason, recipient),
            reason=reason,
        )
        if whole:
            shown.report = recipient.report
            shown.given = recipient.address
        return shown


async def _selection(wanted: admin_pb2.Selection, context: Any) -> Selection:
    return Selection(
        ids=tuple(await _ids(wanted.ids, _IDS_MAX, context)),
        sender=pattern(wanted.sender) if wanted.HasField("sender") else None,
        recipient=pattern(wanted.recipient) if wanted.recipient else None,
        domain=pattern(wanted.domain) if wanted.domain else None,
        older_ms=wanted.older_ms,
        younger_ms=wanted.younger_ms,
        states=frozenset(wanted.states),
    )


async def _ids(texts: Any, most: int, context: Any) -> list[MessageId]:
    """The ids, each checked; ends the call when one is none, or when there are too many."""
    found = [message for text in texts if (message := ids.parse_id(text))]
    if len(found) != len(texts) or len(found) > most:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"not ids, or more than {most} of them")
    return found


def _counts(figures: Mapping[str, int]) -> list[admin_pb2.Count]:
    return [admin_pb2.Count(name=name, count=count) for name, count in figures.items()]
