"""A message that is not finished, in memory, and what changes it; at rest it is octets (rest.py)."""

from dataclasses import dataclass, field
from enum import Enum

from mail.dsn import NO_WISH, SUCCESS, Wish
from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import Route
from services.queue import records
from services.queue.names import NOWHERE, Position


class State(Enum):
    WAITING = "waiting"
    DELIVERING = "delivering"
    DELIVERED = "done"
    FAILED = "failed"
    REMOVED = "removed"  # by an operator; the message ends with the commit that says so


@dataclass(slots=True)
class Recipient:
    """One recipient of a message, and how far it is. Its last report is in `report`, or else in the log at `told`."""

    address: str
    route: Route
    state: State = State.WAITING
    attempts: int = 0
    next_attempt_ms: int = 0
    report: str = ""
    done: tuple[int, ...] = ()
    told: Position = NOWHERE
    wish: Wish = NO_WISH
    relayed: bool = False  # taken by a server that does not report deliveries
    warned: bool = False  # the sender was told of the delay

    @property
    def settled(self) -> bool:
        return self.state in (State.DELIVERED, State.FAILED, State.REMOVED)


@dataclass(slots=True)
class Message:
    """A message that is not finished. Its body is at `position`, and in large/ when `large` is set.

    `changing` counts what is on its way to the disk: until that is there the message does not rest. `held` says who
    holds it: nothing of it is started.
    """

    id: MessageId
    sender: str
    arrived_ms: int
    size: int
    uid: int
    envid: str
    parent: str
    large: str
    body_crc: int
    position: Position
    recipients: list[Recipient] = field(default_factory=list)
    changing: int = 0
    ret: str = ""
    asks_success: bool = field(default=False, compare=False)  # whether the wish of any recipient does
    held: records.Hold | None = None

    @property
    def settled(self) -> bool:
        return all(recipient.settled for recipient in self.recipients)

    @property
    def may_rest(self) -> bool:
        """Whether nobody is at work on it."""
        return not self.changing and all(recipient.state is not State.DELIVERING for recipient in self.recipients)


# The outcomes that settle a recipient; every other one leaves it waiting.
STATES: dict[int, State] = {Kind.DELIVERED: State.DELIVERED, Kind.FAILED: State.FAILED}
KINDS = {state: kind for kind, state in STATES.items()}


def message_of(said: records.Accepted, position: Position) -> Message:
    """The message that a record says was taken."""
    wishes = said.wishes or (NO_WISH,) * len(said.recipients)
    return Message(
        id=said.id,
        sender=said.sender,
        arrived_ms=said.arrived_ms,
        size=said.size,
        uid=said.uid,
        envid=said.envid,
        parent=said.parent,
        large=said.large,
        body_crc=said.body_crc,
        position=position,
        ret=said.ret,
        asks_success=any(wish.notify & SUCCESS for wish in said.wishes),
        recipients=[
            Recipient(address, route, wish=wish)
            for address, route, wish in zip(said.recipients, said.routes, wishes, strict=True)
        ],
    )


def settle(message: Message, said: records.Settled, position: Position) -> None:
    """Applies what became of one recipient."""
    if max(said.recipient, *said.warned, 0) >= len(message.recipients):
        return
    recipient = message.recipients[said.recipient]
    recipient.attempts = said.attempts
    recipient.next_attempt_ms = said.next_attempt_ms
    recipient.report = said.report
    recipient.done = said.done
    recipient.told = position
    recipient.relayed = said.relayed
    for warned in said.warned:
        message.recipients[warned].warned = True
    recipient.state = STATES.get(said.kind, State.WAITING)


def snapshot_of(message: Message, body: bytes = b"") -> records.Snapshot:
    """The record that says all of it; its reports are those that are in memory."""
    settled = tuple(
        settled_of(message.id, index, recipient, recipient.report)
        for index, recipient in enumerate(message.recipients)
        if recipient.attempts
    )
    return records.Snapshot(_accepted_of(message, message.id, body), settled, message.held)


def _accepted_of(message: Message, name: MessageId, body: bytes) -> records.Accepted:
    wishes = tuple(recipient.wish for recipient in message.recipients)
    return records.Accepted(
        id=name,
        arrived_ms=message.arrived_ms,
        sender=message.sender,
        recipients=tuple(recipient.address for recipient in message.recipients),
        routes=tuple(recipient.route for recipient in message.recipients),
        size=message.size,
        uid=message.uid,
        envid=message.envid,
        parent=message.parent,
        large=message.large,
        ret=message.ret,
        wishes=wishes if any(wish is not NO_WISH and wish != NO_WISH for wish in wishes) else (),
        body=body,
        body_crc=message.body_crc,
    )


def settled_of(name: MessageId, index: int, recipient: Recipient, report: str) -> records.Settled:
    """The record that says all that is known of a recipient."""
    return records.Settled(
        id=name,
        recipient=index,
        kind=KINDS.get(recipient.state, Kind.DEFERRED),
        attempts=recipient.attempts,
        next_attempt_ms=recipient.next_attempt_ms,
        report=report,
        done=recipient.done,
        relayed=recipient.relayed,
        warned=(index,) if recipient.warned else (),
    )
