"""Who is told what of a message, and when (RFC 3461); the notices as records for the frame of what causes them.

Decides from the state of a message alone, which is durable, so that whoever settles the same thing again, after a crash
or as the next owner, makes the same notice under the same id. Words and form are bounce.py and report.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mail import dsn, ids
from mail.address import split
from mail.dsn import NO_WISH, Wish
from mail.ids import MessageId
from mail.routing import Channel
from services.queue import bounce, records
from services.queue.bounce import Bounce
from services.queue.message import Message, Recipient, State
from services.queue.report import Action, Fate, Original
from services.queue.rules import Rules

# Who asks for it with NOTIFY=DELAY is warned after this, also where control/delaywarning is missing (sendmail's four
# hours); others only where it is there.
DELAY_ASKED_S = 4 * 3_600

# The places of the notices among the instructions of a message: no .qmail file has so many.
_FAILURE, _SUCCESS, _DELAY = 1_000_000, 1_000_001, 1_000_002


def failed(message: Message) -> list[int]:
    """The recipients of whose failure somebody is told when the message ends. NOTIFY that names no FAILURE: nobody."""
    return [
        index
        for index, recipient in enumerate(message.recipients)
        if recipient.state is State.FAILED and recipient.wish.allows(dsn.FAILURE)
    ]


def arrived(message: Message, index: int, was_first: bool) -> list[int]:
    """The recipients of whose arrival the sender is told now that an attempt for `index` is over, its first or not.

    Those at one destination are told together, once each of them has been tried; later ones as they arrive. A server
    that reports deliveries itself has taken that over (5.2.1); one that does not was handed the message, and that is
    what the sender hears (5.2.2).
    """
    if not message.asks_success or not bounce.has_ear(message.sender):
        return []
    if not was_first:
        return [index] if _has_arrived(message.recipients[index]) else []
    here = _destination(message.recipients[index])
    if any(not one.attempts and _destination(one) == here for one in message.recipients):
        return []
    return [at for at, one in enumerate(message.recipients) if _has_arrived(one) and _destination(one) == here]


def delayed(message: Message, age_s: float, after_s: int) -> list[int]:
    """The recipients of whose delay the sender is told, once, now that one was deferred; `after_s` 0: if they asked."""
    if age_s < (after_s or DELAY_ASKED_S) or not bounce.has_ear(message.sender):
        return []
    return [
        index
        for index, recipient in enumerate(message.recipients)
        if recipient.attempts
        and not recipient.settled
        and not recipient.warned
        and recipient.wish.allows(dsn.DELAY)
        and (after_s or recipient.wish.notify)
    ]


def wishes_of_forward(recipient: Recipient, same_sender: bool, recipients: int) -> tuple[Wish, ...]:
    """What a forward inherits: nothing, as RFC 3461 5.2.7.3 (a) lets us choose, but that nobody wants to hear of it."""
    if same_sender and recipient.wish.notify == dsn.NEVER:
        return (Wish(dsn.NEVER),) * recipients
    return ()


@dataclass(frozen=True, slots=True)
class Notices:
    """Composes notices by the rules of now, `now_ms` by the time of the log.

    `report` finds a recipient's last report, `content` the beginning of the message and a little more than a notice may
    carry, or b"" when it cannot be read; `date_s` says which unix time an instant of the log's time is.
    """

    rules: Rules
    report: Callable[[Message, int], str]
    content: Callable[[Message], bytes]
    date_s: Callable[[int], int]
    now_ms: int

    def failure(self, message: Message, indices: list[int]) -> records.Accepted | None:
        """The bounce; None when the message was a double bounce, of which nobody is told."""
        fates = [self._fate(message, index, Action.FAILED) for index in indices]
        made = (failure_id(message.id), self.date_s(self.now_ms))
        composed = bounce.compose_failure(self.rules.bounce, self._original(message), fates, made)
        return self._record(message, made[0], composed, NO_WISH) if composed else None

    def success(self, message: Message, indices: list[int]) -> records.Accepted:
        """The notice that recipients were reached."""
        fates = [self._fate(message, index, _reached(message.recipients[index])) for index in indices]
        made = (ids.child_id(message.id, indices[0], _SUCCESS, "success"), self.date_s(self.now_ms))
        composed = bounce.compose_success(self.rules.bounce, self._original(message), fates, made)
        return self._record(message, made[0], composed, Wish(dsn.NEVER))

    def delay(self, message: Message, indices: list[int], born_ms: int) -> records.Accepted:
        """The warning that recipients have not been reached yet; `born_ms` is when the message's lifetime began."""
        fates = [self._fate(message, index, Action.DELAYED) for index in indices]
        made = (ids.child_id(message.id, indices[0], _DELAY, "delay"), self.date_s(self.now_ms))
        until_s = self.date_s(born_ms + int(1_000 * self.rules.scale * self.rules.lifetime_s))
        composed = bounce.compose_delay(self.rules.bounce, self._original(message), fates, made, until_s)
        return self._record(message, made[0], composed, Wish(dsn.NEVER))

    def _fate(self, message: Message, index: int, action: Action) -> Fate:
        recipient = message.recipients[index]
        shown = self.rules.routing.without_prepend(recipient.route.address)
        # What a local delivery did is the recipient's business (RFC 3461 5.2.7.4).
        report = "" if action is Action.DELIVERED else self.report(message, index)
        return Fate(shown, action, report, recipient.wish.orcpt)

    def _original(self, message: Message) -> Original:
        return Original(
            sender=message.sender,
            content=self.content(message),
            arrived_s=self.date_s(message.arrived_ms),
            size=message.size,
            ret=message.ret,
            envid=message.envid,
        )

    def _record(self, message: Message, notice: MessageId, composed: Bounce, wish: Wish) -> records.Accepted:
        """A bounce that fails is a double bounce, as with qmail; of another notice that fails nobody wants to hear."""
        return records.Accepted(
            id=notice,
            arrived_ms=self.now_ms,
            sender=composed.sender,
            recipients=(composed.recipient,),
            routes=(self.rules.routing.route(composed.recipient),),
            size=len(composed.body),
            parent=message.id,
            wishes=(wish,) if wish != NO_WISH else (),
            body=composed.body,
        )


def failure_id(message: MessageId) -> MessageId:
    """The id of the bounce that a message may cause."""
    return ids.child_id(message, 0, _FAILURE, "bounce")


def _has_arrived(recipient: Recipient) -> bool:
    if recipient.state is not State.DELIVERED or not recipient.wish.notify & dsn.SUCCESS:
        return False
    return recipient.route.channel is Channel.LOCAL or recipient.relayed


def _reached(recipient: Recipient) -> Action:
    return Action.DELIVERED if recipient.route.channel is Channel.LOCAL else Action.RELAYED


def _destination(recipient: Recipient) -> tuple[Channel, str]:
    route = recipient.route
    return route.channel, split(route.address)[1].lower() if route.channel is Channel.REMOTE else ""
