"""What a report on a delivery leads to, as records: the outcome, the forwards, or a deferral where there is no room.

Between what a worker says and what the ledger commits. Reads no disk and knows no commit: it is given what it needs.
"""

from dataclasses import dataclass, field, replace

from mail import header, ids, verp
from mail.ids import MessageId
from mail.outcome import Kind
from services.queue import notices, records, retry
from services.queue.message import Message
from services.queue.rules import Rules
from services.queue.timekeeper import LogTime

_TOO_OLD = "I'm not going to try again; this message has been in the queue too long.\n"
_CRAMPED = "The disk of the queue is nearly full; what this delivery causes has to wait. (#4.3.1)\n"


@dataclass(frozen=True, slots=True)
class Forward:
    """A message that a delivery caused."""

    sender: str
    recipients: tuple[str, ...]
    header: str
    instruction: int


@dataclass(frozen=True, slots=True)
class Reported:
    """What a worker says became of one recipient at one attempt."""

    id: MessageId
    recipient: int
    attempt: int
    kind: int
    report: str
    done: tuple[int, ...] = ()
    forwards: tuple[Forward, ...] = ()
    relayed: bool = False  # taken by a server that does not report deliveries
    began_ms: int = 0  # when the attempt began, by the log's time; 0: now


@dataclass(slots=True)
class Settlement:
    """What a report led to, told once it is committed."""

    message: Message | None = None
    settled: records.Settled | None = None
    children: list[Message] = field(default_factory=list)
    bounced_to: MessageId | None = None
    notices: dict[MessageId, str] = field(default_factory=dict)  # what tells of no failure, and of what it tells
    discarded: bool = False
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """What is so when a report comes: the rules, the log's time, and whether the disk is nearly full."""

    rules: Rules
    time: LogTime
    now_ms: int
    cramped: bool


def is_news(message: Message, reported: Reported) -> bool:
    """Whether a report changes anything: not of a settled recipient, and no deferral of an attempt long over."""
    if not 0 <= reported.recipient < len(message.recipients):
        return False
    recipient = message.recipients[reported.recipient]
    return not recipient.settled and (reported.kind != Kind.DEFERRED or reported.attempt > recipient.attempts)


def postponed(reported: Reported) -> Reported:
    """The same without what needs room: the forwards are made, and the failure is told, at the next attempt."""
    wanted = {forward.instruction for forward in reported.forwards}
    return replace(
        reported,
        kind=Kind.DEFERRED,
        report=_CRAMPED,
        done=tuple(one for one in reported.done if one not in wanted),
        forwards=(),
    )


def decide(message: Message, reported: Reported, now: Moment) -> records.Settled:
    """The record of one recipient's outcome; the deferral of an attempt that began when the message was too old is a
    failure (qmail-send(8)).
    """
    kind, report = reported.kind, reported.report
    recipient = message.recipients[reported.recipient]
    born_ms = now.time.timeline.born_ms(message.arrived_ms, now.now_ms)
    if kind == Kind.DEFERRED:
        began_ms = reported.began_ms or now.now_ms
        too_old = retry.is_too_old(born_ms, began_ms, now.rules.lifetime_s, now.rules.scale)
        if too_old and not now.cramped and now.time.timeline.may_expire(now.now_ms):
            kind, report = Kind.FAILED, report + _TOO_OLD
    elif kind not in (Kind.DELIVERED, Kind.FAILED):
        kind = Kind.DEFERRED
    next_ms = retry.next_attempt_ms(born_ms, now.now_ms, recipient.route.channel, now.rules.scale)
    return records.Settled(
        id=message.id,
        recipient=reported.recipient,
        kind=kind,
        attempts=reported.attempt,
        next_attempt_ms=next_ms if kind == Kind.DEFERRED else 0,
        report=report,
        done=reported.done,
        relayed=reported.relayed and kind == Kind.DELIVERED,
    )


def child_of(parent: Message, reported: Reported, forward: Forward, body: bytes, now: Moment) -> records.Accepted:
    """The forward: the original message, whose part in the log is `body`, under a Delivered-To line; a large body is
    shared, not copied.
    """
    child = ids.child_id(parent.id, reported.recipient, forward.instruction, "\n".join(forward.recipients))
    trace = header.received_from_local(child, "by forward", now.time.date_s(now.now_ms)) + forward.header
    inline = trace.encode() + body
    recipient = parent.recipients[reported.recipient]
    same_sender = forward.sender == verp.sender_for(parent.sender, recipient.route.address)
    return records.Accepted(
        id=child,
        arrived_ms=now.now_ms,
        sender=forward.sender,
        recipients=forward.recipients,
        routes=tuple(map(now.rules.routing.route, forward.recipients)),
        size=parent.size + len(inline) - len(body),
        uid=parent.uid,
        parent=parent.id,
        large=parent.large,
        wishes=notices.wishes_of_forward(recipient, same_sender, len(forward.recipients)),
        body=inline,
    )
