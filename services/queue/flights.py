"""What is being delivered now: a flight for each attempt that a worker has; its link is the worker's stream."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from mail.ids import MessageId, parse_id
from mail.routing import Channel
from services.queue import errand
from services.queue.errand import Job
from services.queue.message import State
from services.queue.store import Store


@dataclass(eq=False, slots=True)
class Flight:
    """An attempt under way. `numbers` are qmail's delivery numbers; `unreported` the recipients of which the worker has
    not said what became, `left` those of which it is not recorded. `planned`: it still counts at its destination.
    """

    job: Job
    link: object | None
    planned: bool
    numbers: dict[int, int]
    unreported: set[int]
    left: set[int]
    losses: int = 0
    began_ms: int = 0  # by the log's time; 0 when it began under an earlier owner

    def report(self, recipient: int) -> bool:
        """Notes that the worker is done with a recipient; says whether the attempt at the destination ended with it."""
        self.unreported.discard(recipient)
        return self.planned and not self.unreported

    def settle(self, recipient: int) -> bool:
        """Notes that a recipient is settled; says whether it was the last."""
        if recipient not in self.left:
            return False
        self.left.discard(recipient)
        return not self.left


# Attempts and recipients are small numbers; a longer one in a key is none of ours.
_DIGITS_MAX = 6


class Flights:
    """Every attempt under way, by its key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Flight] = {}
        self._last_number = 0
        self.busy = dict.fromkeys(Channel, 0)
        self.empty = asyncio.Event()
        self.empty.set()

    def begin(self, job: Job, link: object | None, planned: bool) -> Flight:
        """A new attempt; each of its recipients gets the next delivery number."""
        numbers = {index: self._last_number + 1 + place for place, index in enumerate(job.recipients)}
        self._last_number += len(numbers)
        flight = Flight(job, link, planned, numbers, set(job.recipients), set(job.recipients))
        self._by_key[job.key] = flight
        self.busy[job.channel] += 1
        self.empty.clear()
        return flight

    def end(self, flight: Flight) -> None:
        if self._by_key.pop(flight.job.key, None):
            self.busy[flight.job.channel] -= 1
        if not self._by_key:
            self.empty.set()

    def find(self, key: str) -> Flight | None:
        return self._by_key.get(key)

    def recall(self, key: str, recipients: Iterable[int], store: Store) -> Flight | None:
        """A delivery that a worker began under an earlier owner of the log: it goes on, and is not started again."""
        log, message_id, attempt, _ = parse_key(key)
        ledger = store.ledgers.get(log)
        message = ledger.index.get(message_id) if ledger and message_id else None
        job = errand.recall(log, message, key, attempt, recipients) if message else None
        if message is None or job is None:
            return None
        for index in job.recipients:
            message.recipients[index].state = State.DELIVERING
        return self.begin(job, None, planned=False)

    def lost(self, message: MessageId) -> list[Flight]:
        """The attempts for a message of which the worker is away, and may come back."""
        return [one for one in self._by_key.values() if one.job.id == message and one.link is None and one.losses]

    def of(self, link: object) -> list[Flight]:
        return [flight for flight in self._by_key.values() if flight.link is link]


def parse_key(key: str) -> tuple[str, MessageId | None, int, int]:
    """Log, message, attempt and first recipient of a delivery's name; no message when it is none of ours."""
    parts = key.split("/")
    if len(parts) != 4 or not all(part.isdecimal() and len(part) <= _DIGITS_MAX for part in parts[2:]):
        return "", None, 0, 0
    return parts[0], parse_id(parts[1]), int(parts[2]), int(parts[3])
