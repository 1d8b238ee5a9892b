"""The rim to the operator (proto/admin.proto): what is queued, why it waits, and what is to be done with it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from mail import ids
from mail.ids import MessageId
from mail.limits import ADDRESS_MAX_OCTETS, BODY_CHUNK_OCTETS, MIB, RECIPIENTS_MAX
from proto import admin_pb2, admin_pb2_grpc
from runtime.serve import Process
from services.queue.census import Census
from services.queue.dispatch import Dispatch
from services.queue.ledger import Ledger
from services.queue.links import Link
from services.queue.log import DamagedBody
from services.queue.message import Message, Recipient
from services.queue.orders import BY_MAX_CHARACTERS, Action, Order, Orders, Result
from services.queue.reason import Reasons, state_name
from services.queue.selection import Selection, pattern
from services.queue.spool import Spool
from services.queue.store import Store
from services.queue.survey import Survey

# A question may name so many messages, and an order so many: a frame's worth of records, and a moment's work.
_IDS_MAX = 10_000
# A reply is sent when it has so many octets; one message of a thousand recipients may have more.
_REPLY_OCTETS = 512 * 1024
# The reports on the recipients of one message, and the reasons why they wait, are cut to so much together.
_TEXTS_OCTETS = 512 * 1024
assert _TEXTS_OCTETS * 2 + RECIPIENTS_MAX * (2 * ADDRESS_MAX_OCTETS + 256) < 4 * MIB, "it fits a gRPC message"
_CHANGED_MAX = 1_000

_ACTIONS = {
    admin_pb2.ChangeRequest.RETRY: Action.RETRY,
    admin_pb2.ChangeRequest.HOLD: Action.HOLD,
    admin_pb2.ChangeRequest.RELEASE: Action.RELEASE,
    admin_pb2.ChangeRequest.REMOVE: Action.REMOVE,
}
_RESULTS = {
    Result.UNKNOWN: admin_pb2.Change.UNKNOWN,
    Result.DONE: admin_pb2.Change.DONE,
    Result.ALREADY: admin_pb2.Change.ALREADY,
    Result.REFUSED: admin_pb2.Change.REFUSED,
}


class Admin(admin_pb2_grpc.AdminServicer):
    """Answers the operator's command."""

    def __init__(self, store: Store, dispatch: Dispatch, spool: Spool, process: Process) -> None:
        self._store = store
        self._dispatch = dispatch
        self._spool = spool
        self._process = process
        self._survey = Survey(store, process.clock)
        self._reasons = Reasons(dispatch, process.clock)
        self._orders = Orders(dispatch, process)
        admin_pb2_grpc.add_AdminServicer_to_server(self, process.rpc.grpc)

    async def List(self, request: admin_pb2.ListRequest, context: Any) -> AsyncIterator[admin_pb2.ListReply]:
        selection = await _selection(request.selection, context)
        async for kept in self._survey.walk(selection):
            reply, octets = admin_pb2.ListReply(), 0
            for ledger, message in kept:
                shown = self._message(ledger, message, request.whole)
                octets += shown.ByteSize()
                if reply.messages and octets > _REPLY_OCTETS:
                    yield reply
                    reply, octets = admin_pb2.ListReply(), shown.ByteSize()
                reply.messages.append(shown)
            yield reply

    async def Body(self, request: admin_pb2.BodyRequest, context: Any) -> AsyncIterator[admin_pb2.BodyReply]:
        [wanted] = await _ids([request.id], 1, context)
        found = self._survey.find(wanted)
        if found is None:
            return
        ledger, message = found
        try:
            body = ledger.body(message)
        except (DamagedBody, OSError) as error:
            await context.abort(grpc.StatusCode.DATA_LOSS, f"msg {message.id} does not read: {error}")
            return
        for start in range(0, len(body), BODY_CHUNK_OCTETS):
            yield admin_pb2.BodyReply(data=body[start : start + BODY_CHUNK_OCTETS])

    async def Change(self, request: admin_pb2.ChangeRequest, context: Any) -> admin_pb2.ChangeReply:
        if self._store.draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the queue is closing")
        action = _ACTIONS.get(request.action)
        if action is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such action")
            raise AssertionError
        selection = await _selection(request.selection, context)
        wanted = await _ids(request.ids, _CHANGED_MAX, context)
        order = Order(action, request.by[:BY_MAX_CHARACTERS], request.force)
        answers = await self._orders.give(order, await self._survey.matching(selection, wanted))
        changes = [
            admin_pb2.Change(id=message.id, result=_RESULTS[result], text=text) for message, (result, text) in answers
        ]
        return admin_pb2.ChangeReply(changes=changes)

    async def Stats(self, request: admin_pb2.StatsRequest, context: Any) -> admin_pb2.StatsReply:
        ledgers, links = self._store.ledgers, self._dispatch.links.all()
        reply = admin_pb2.StatsReply(
            messages=sum(len(ledger.index) for ledger in ledgers.values()),
            delivering=self._dispatch.under_way,
            logs=list(ledgers),
            volume=[name.log for name in self._spool.logs()[0]],
            workers=[link.worker for link in links],
            replica=self._process.instance,
            slots=[_slots(link) for link in links if link.worker],
        )
        if request.counted:
            await self._count(reply, await _selection(request.selection, context))
        return reply

    async def _count(self, reply: admin_pb2.StatsReply, selection: Selection) -> None:
        census = Census()
        async for kept in self._survey.walk(selection):
            for ledger, message in kept:
                places = range(len(message.recipients))
                states = [state_name(message, index) for index in places]
                census.count(message, states, [self._reasons.word(ledger, message, index) for index in places])
        reply.selected = census.messages
        reply.octets = census.octets
        if census.oldest:
            reply.oldest = census.oldest.id
            reply.oldest_ms = census.oldest.arrived_ms
        reply.channels.extend(_counts(census.channels))
        reply.states.extend(_counts(census.states))
        reply.reasons.extend(_counts(census.reasons))
        reply.destinations.extend(_counts(census.destinations()))

    def _message(self, ledger: Ledger, message: Message, whole: bool) -> admin_pb2.QueuedMessage:
        shown = admin_pb2.QueuedMessage(
            id=message.id,
            log=ledger.log.name.log,
            sender=message.sender,
            size=message.size,
            arrived_ms=message.arrived_ms,
            recipients=[self._recipient(ledger, message, index, whole) for index in range(len(message.recipients))],
        )
        if message.held:
            shown.held_by = message.held.by
            shown.held_since_ms = message.held.since_ms
        if whole:
            shown.uid = message.uid
            shown.envid = message.envid
            shown.parent = message.parent
        return shown

    def _recipient(self, ledger: Ledger, message: Message, index: int, whole: bool) -> admin_pb2.QueuedRecipient:
        recipient = message.recipients[index]
        reason = self._reasons.word(ledger, message, index)
        room = _TEXTS_OCTETS // len(message.recipients)
        shown = admin_pb2.QueuedRecipient(
            address=recipient.route.address,
            channel=recipient.route.channel.value,
            state=state_name(message, index),
            attempts=recipient.attempts,
            next_attempt_ms=_next_attempt_ms(ledger, recipient),
            why=_cut(self._reasons.sentence(reason, ledger, message, index), room),
            reason=reason,
        )
        if whole:
            shown.report = _cut(ledger.report(message, index), room)
            shown.given = recipient.address
        return shown


def _cut(text: str, octets: int) -> str:
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= octets else raw[:octets].decode("utf-8", "ignore") + "…"


def _next_attempt_ms(ledger: Ledger, recipient: Recipient) -> int:
    """By the wall clock; 0 when there is none, or none was made."""
    is_set = recipient.next_attempt_ms and not recipient.settled
    return ledger.time.wall_ms(recipient.next_attempt_ms) if is_set else 0


def _slots(link: Link) -> admin_pb2.WorkerSlots:
    return admin_pb2.WorkerSlots(
        worker=link.worker, channel=link.channel.value, slots=link.slots, busy=link.out, draining=link.draining
    )


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
