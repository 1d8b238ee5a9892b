"""Why a recipient waits, as a word for programs and a sentence for people.

Asks the plan and the dispatch; decides nothing. The words never change: scripts go by them.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from runtime.clock import Clock
from services.queue.dispatch import REATTACH_S, Dispatch
from services.queue.errand import destination_of
from services.queue.ledger import Ledger
from services.queue.message import Message, State


class Reason(StrEnum):
    """What a recipient waits for."""

    NOTHING = ""  # it is settled
    HELD = "held"  # an operator who releases it
    REATTACH = "reattach"  # a worker that is away and may be at work on it
    DELIVERING = "delivering"  # the end of a delivery
    DAMAGED = "damaged"  # somebody who mends it
    SCHEDULE = "schedule"  # the time of its next attempt
    BACK_OFF = "back-off"  # the time when its destination, which cannot be reached, is tried again
    WORKER = "worker"  # a worker of its channel
    LIMIT = "limit"  # the end of another attempt at its destination
    SLOT = "slot"  # its turn


class Reasons:
    """Says of a recipient why it waits."""

    def __init__(self, dispatch: Dispatch, clock: Clock) -> None:
        self._plan = dispatch.plan
        self._dispatch = dispatch
        self._clock = clock

    def word(self, ledger: Ledger, message: Message, index: int) -> Reason:
        """What a recipient waits for."""
        recipient = message.recipients[index]
        if recipient.settled:
            return Reason.NOTHING
        is_away = self._dispatch.is_away(ledger.log.name.log, message, index)
        if recipient.state is State.DELIVERING:
            return Reason.REATTACH if is_away else Reason.DELIVERING
        if message.held:
            return Reason.HELD
        if is_away:
            return Reason.REATTACH
        if self._dispatch.is_damaged(message.id):
            return Reason.DAMAGED
        if recipient.next_attempt_ms > ledger.time.now_ms():
            return Reason.SCHEDULE
        channel, destination = recipient.route.channel, destination_of(recipient)
        if self._plan.trouble(channel, destination):
            return Reason.BACK_OFF
        if not self._dispatch.links.has_worker(channel):
            return Reason.WORKER
        return Reason.LIMIT if self._plan.limit_reached(channel, destination) else Reason.SLOT

    def sentence(self, reason: Reason, ledger: Ledger, message: Message, index: int) -> str:
        """The same for people."""
        recipient = message.recipients[index]
        channel, destination = recipient.route.channel, destination_of(recipient)
        match reason:
            case Reason.NOTHING:
                return ""
            case Reason.HELD:
                return f"held by {message.held.by} since {date(message.held.since_ms)}" if message.held else ""
            case Reason.REATTACH:
                return f"a worker that is away may be at work on it, and has {REATTACH_S:g} s to come back"
            case Reason.DELIVERING:
                return "a delivery is under way"
            case Reason.DAMAGED:
                return "the message does not read: look for the event alert that says why"
            case Reason.SCHEDULE:
                last = " ".join(ledger.report(message, index).split())
                due = f"due at {date(ledger.time.wall_ms(recipient.next_attempt_ms))}"
                return f"{due}; last time: {last}" if last else due
            case Reason.BACK_OFF:
                return self._back_off(message, index)
            case Reason.WORKER:
                return f"no {channel.value} worker is connected"
            case Reason.LIMIT:
                return f"{self._plan.limit_reached(channel, destination)} transactions with {destination} are under way"
            case Reason.SLOT:
                return f"no free {channel.value} slot"
            case _:
                assert_never(reason)

    def _back_off(self, message: Message, index: int) -> str:
        recipient = message.recipients[index]
        destination = destination_of(recipient)
        trouble = self._plan.trouble(recipient.route.channel, destination)
        if trouble is None:
            return "due"
        wall_ahead_ms = self._clock.wall_ms() - self._clock.steady_ms()
        since = f"{destination} cannot be reached since {date(trouble.since_ms + wall_ahead_ms)}"
        if not trouble.alone:
            return f"{since}; one attempt at a time is made"
        return f"{since} and is tried again at {date(trouble.until_ms + wall_ahead_ms)}"


def state_name(message: Message, index: int) -> str:
    """What the operator calls the state of a recipient."""
    recipient = message.recipients[index]
    return "held" if message.held and recipient.state is State.WAITING else recipient.state.value


def date(unix_ms: int) -> str:
    """A time for people."""
    when = datetime.fromtimestamp(unix_ms // 1_000, UTC)
    return f"{when.day} {when:%b %Y %H:%M:%S} GMT"
