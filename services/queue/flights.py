"""What is being delivered now: a flight for each attempt that a worker has; its link is the worker's stream."""

import asyncio
from dataclasses import dataclass

from mail.address import split
from mail.ids import MessageId, parse_id
from mail.routing import Channel
from services.queue.message import Message, State
from services.queue.plan import Job, jobs_of
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

    def recall(self, key: str, store: Store) -> Flight | None:
        """A delivery that a worker began under an earlier owner of the log: it goes on, and is not started again."""
        log, message_id, attempt, first = parse_key(key)
        ledger = store.ledgers.get(log)
        message = ledger.index.messages.get(message_id) if ledger and message_id else None
        if message is None:
            return None
        for job in jobs_of(log, message, range(first, len(message.recipients))):
            recipients = waiting(message, job)
            if job.attempt == attempt and recipients and _same_destination(message, first, recipients[0]):
                job.key, job.recipients = key, recipients
                for index in recipients:
                    message.recipients[index].state = State.DELIVERING
                return self.begin(job, None, planned=False)
        return None

    def of(self, link: object) -> list[Flight]:
        return [flight for flight in self._by_key.values() if flight.link is link]


def waiting(message: Message, job: Job) -> tuple[int, ...]:
    """The recipients of a job that still wait for just this attempt."""
    return tuple(
        index
        for index in job.recipients
        if message.recipients[index].state is State.WAITING and message.recipients[index].attempts + 1 == job.attempt
    )


def _same_destination(message: Message, one: int, other: int) -> bool:
    """Whether two recipients travel together; a local one travels alone."""
    if one >= len(message.recipients) or one == other:
        return one == other
    routes = message.recipients[one].route, message.recipients[other].route
    domains = [split(route.address)[1].lower() for route in routes]
    return all(route.channel is Channel.REMOTE for route in routes) and domains[0] == domains[1]


def parse_key(key: str) -> tuple[str, MessageId | None, int, int]:
    """Log, message, attempt and first recipient of a delivery's name; no message when it is none of ours."""
    parts = key.split("/")
    if len(parts) != 4 or not all(part.isdecimal() and len(part) <= _DIGITS_MAX for part in parts[2:]):
        return "", None, 0, 0
    return parts[0], parse_id(parts[1]), int(parts[2]), int(parts[3])
