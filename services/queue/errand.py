"""An errand is one attempt to come: recipients of one message that go together to one destination. Pure.

While it waits it is a ticket, one number: the message's id, the first of its recipients, which attempt it is. A ticket
that time has overtaken finds no recipient waiting for just that attempt, and leads to nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

from mail import address, ids, verp
from mail.ids import MessageId
from mail.routing import Channel
from services.queue.message import Message, Recipient, State

# Recipients that go together: RFC 5321 4.5.3.1.8 promises that a server takes 100 in a transaction, and local gets as
# many at once.
TRANSACTION_RECIPIENTS_MAX = 100
# Where local recipients of one message go together: no address has this local part.
MAILBOXES = "@"

Ticket = NewType("Ticket", int)

# A ticket from its low end: the attempt, the recipient, the id. Counts above these limits share the last number, which
# only means that such a ticket is not seen to be overtaken.
_ATTEMPT_BITS = 10
_RECIPIENT_BITS = 10
_ATTEMPT_MAX = (1 << _ATTEMPT_BITS) - 1
TICKET_BITS = ids.OCTETS * 8 + _RECIPIENT_BITS + _ATTEMPT_BITS


@dataclass(frozen=True, slots=True)
class Errand:
    """One attempt to come; `due_ms` is unix milliseconds."""

    ticket: Ticket
    channel: Channel
    destination: str
    due_ms: int


@dataclass(slots=True)
class Job:
    """An attempt that begins: `recipients` are positions in the envelope.

    `key` names it, and is the same after a restart: outcomes and acknowledgements go by it.
    """

    key: str
    log: str
    id: MessageId
    channel: Channel
    destination: str
    recipients: tuple[int, ...]
    attempt: int


def ticket_of(message: MessageId, recipient: int, attempt: int) -> Ticket:
    number = int.from_bytes(ids.to_octets(message), "big") << _RECIPIENT_BITS | recipient
    return Ticket(number << _ATTEMPT_BITS | min(attempt, _ATTEMPT_MAX))


def message_of(ticket: Ticket) -> MessageId:
    return ids.from_octets((ticket >> _RECIPIENT_BITS + _ATTEMPT_BITS).to_bytes(ids.OCTETS, "big"))


def born_ms(ticket: Ticket) -> int:
    """When the message's id was made, unix milliseconds."""
    return int(ticket >> TICKET_BITS - 48)


def errands_of(message: Message, among: Iterable[int] | None = None) -> list[Errand]:
    """The attempts that recipients of a message need: remote ones together by domain and attempt, local ones together
    the first time and singly after that.

    `among` names the recipients meant, all by default; those that do not wait need none, nor does a held message.
    """
    if message.held:
        return []
    groups: dict[tuple[Channel, str, int, int], list[int]] = {}
    for index in range(len(message.recipients)) if among is None else sorted(among):
        if message.recipients[index].state is State.WAITING:
            groups.setdefault(_group(message, index), []).append(index)
    errands: list[Errand] = []
    for (channel, destination, attempts, _), indices in groups.items():
        for start in range(0, len(indices), TRANSACTION_RECIPIENTS_MAX):
            together = indices[start : start + TRANSACTION_RECIPIENTS_MAX]
            due_ms = max(message.recipients[index].next_attempt_ms for index in together)
            ticket = ticket_of(message.id, together[0], attempts + 1)
            errands.append(Errand(ticket, channel, destination, due_ms))
    return errands


def begin(log: str, message: Message, ticket: Ticket) -> Job | None:
    """The attempt that a ticket stands for, as the message is now; None when it leads to nothing any more."""
    first = ticket >> _ATTEMPT_BITS & (1 << _RECIPIENT_BITS) - 1
    if message.held or first >= len(message.recipients):
        return None
    recipient = message.recipients[first]
    attempt = recipient.attempts + 1
    if recipient.state is not State.WAITING or min(attempt, _ATTEMPT_MAX) != ticket & _ATTEMPT_MAX:
        return None
    group = _group(message, first)
    together = [
        index
        for index in range(first, len(message.recipients))
        if message.recipients[index].state is State.WAITING and _group(message, index) == group
    ]
    return _job(log, message, tuple(together[:TRANSACTION_RECIPIENTS_MAX]), attempt)


def recall(log: str, message: Message, key: str, attempt: int, recipients: Iterable[int]) -> Job | None:
    """The attempt that a worker says it is at, with those recipients that still wait for it; None when none does."""
    waiting = tuple(
        index
        for index in sorted(set(recipients))
        if 0 <= index < len(message.recipients)
        and message.recipients[index].state is State.WAITING
        and message.recipients[index].attempts + 1 == attempt
    )
    if not waiting:
        return None
    job = _job(log, message, waiting, attempt)
    job.key = key
    return job


def _job(log: str, message: Message, recipients: tuple[int, ...], attempt: int) -> Job:
    channel, destination, *_ = _group(message, recipients[0])
    key = f"{log}/{message.id}/{attempt}/{recipients[0]}"
    return Job(key, log, message.id, channel, destination, recipients, attempt)


def destination_of(recipient: Recipient) -> str:
    """What an attempt for the recipient goes to: a user's mailbox by its local part, or a domain."""
    local, domain = address.split(recipient.route.address)
    return (local if recipient.route.channel is Channel.LOCAL else domain).lower()


def _group(message: Message, index: int) -> tuple[Channel, str, int, int]:
    """Recipients of the same group travel together."""
    recipient = message.recipients[index]
    channel = recipient.route.channel
    alone = message.sender.endswith(verp.MARK)  # such a sender differs by recipient
    destination = destination_of(recipient)
    if channel is Channel.LOCAL and not alone:
        alone = recipient.attempts > 0 or len(message.recipients) == 1  # what failed once waits for its own mailbox
        destination = destination if alone else MAILBOXES
    return channel, destination, recipient.attempts, index if alone else -1
