"""Why a recipient waits, as a word for programs and a sentence for people.

Asks the plan and the dispatch; decides nothing. The words never change: scripts go by them.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

from runtime.clock import Clock
from services.queue.dispatch import Dispatch
from services.queue.errand import destination_of
from services.queue.message import Message, Recipient, State
from services.queue.plan import Plan


class Reason(StrEnum):
    """What a recipient waits for."""

    NOTHING = ""  # it is settled
    DELIVERING = "delivering"  # the end of a delivery
    SCHEDULE = "schedule"  # the time of its next attempt
    SLOT = "slot"  # its turn
    WORKER = "worker"  # a worker of its channel


class Reasons:
    """Says of a recipient why it waits, and what its state is called."""

    def __init__(self, plan: Plan, dispatch: Dispatch, clock: Clock) -> None:
        self._plan = plan
        self._dispatch = dispatch
        self._clock = clock

    def word(self, log: str, message: Message, recipient: Recipient) -> Reason:
        """What a recipient waits for."""
        if recipient.settled:
            return Reason.NOTHING
        if recipient.state is State.DELIVERING:
            return Reason.DELIVERING
        if recipient.next_attempt_ms > self._clock.wall_ms():
            return Reason.SCHEDULE
        return Reason.SLOT if self._dispatch.links.has_worker(recipient.route.channel) else Reason.WORKER

    def sentence(self, reason: Reason, recipient: Recipient) -> str:
        """The same for people."""
        channel = recipient.route.channel
        match reason:
            case Reason.NOTHING:
                return ""
            case Reason.DELIVERING:
                return "a delivery is under way"
            case Reason.SCHEDULE:
                return f"due at {_date(recipient.next_attempt_ms)}; last time: {' '.join(recipient.report.split())}"
            case Reason.WORKER:
                return f"no {channel.value} worker is connected"
            case Reason.SLOT:
                destination = destination_of(recipient)
                trouble = self._plan.trouble(channel, destination)
                limit = self._plan.limit_reached(channel, destination)
                if trouble:
                    return f"{destination} cannot be reached since {_date(trouble.since_ms)}"
                if limit:
                    return f"{limit} transactions with {destination} are under way"
                return f"no free {channel.value} slot"
            case _:
                assert_never(reason)


def state_name(message: Message, recipient: Recipient) -> str:
    """What the operator calls the recipient's state."""
    return recipient.state.value


def _date(unix_ms: int) -> str:
    when = datetime.fromtimestamp(unix_ms // 1_000, UTC)
    return f"{when.day} {when:%b %Y %H:%M:%S} GMT"
