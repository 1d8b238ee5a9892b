"""What to start next. Pure: jobs in, jobs out, with the time given.

A job is one attempt: a message and those of its recipients that go together. Jobs wait until they are due; due ones are
started in fair turns between destinations, within each destination's own concurrency, so that ten thousand messages to
one slow host cost the others nothing.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from mail import address, verp
from mail.ids import MessageId
from mail.routing import Channel
from services.queue.message import Message, Recipient

# Transactions with one remote domain at a time: half of concurrencyremote's default, so that two slow domains
# together still leave it room; a domain that answers loses nothing, because a connection takes many messages.
REMOTE_DESTINATION_MAX = 10

# Recipients in one remote transaction: RFC 5321 4.5.3.1.8 promises that a server takes 100.
TRANSACTION_RECIPIENTS_MAX = 100


@dataclass(slots=True)
class Job:
    """One attempt to come: recipients (positions in the envelope) of one message at one destination.

    `key` names the attempt, and is the same after a restart: outcomes and acknowledgements go by it.
    """

    key: str
    log: str
    id: MessageId
    channel: Channel
    destination: str
    recipients: tuple[int, ...]
    attempt: int
    due_ms: int


def jobs_of(log: str, message: Message, among: Iterable[int] | None = None, not_before_ms: int = 0) -> list[Job]:
    """The attempts that recipients of a message need: local ones singly, remote ones together by domain and attempt.

    `among` names the recipients meant, all by default; those that are settled need none.
    """
    groups: dict[tuple[Channel, str, int, int], list[int]] = {}
    for index in range(len(message.recipients)) if among is None else sorted(among):
        recipient = message.recipients[index]
        if not recipient.settled:
            together = not message.sender.endswith(verp.MARK)  # such a sender is another one for each recipient
            groups.setdefault(_group(index, recipient, together), []).append(index)
    jobs: list[Job] = []
    for (channel, destination, attempts, _), indices in groups.items():
        for start in range(0, len(indices), TRANSACTION_RECIPIENTS_MAX):
            recipients = tuple(indices[start : start + TRANSACTION_RECIPIENTS_MAX])
            due_ms = max(not_before_ms, *(message.recipients[index].next_attempt_ms for index in recipients))
            key = f"{log}/{message.id}/{attempts + 1}/{recipients[0]}"
            jobs.append(Job(key, log, message.id, channel, destination, recipients, attempts + 1, due_ms))
    return jobs


def _group(index: int, recipient: Recipient, together: bool) -> tuple[Channel, str, int, int]:
    if recipient.route.channel is Channel.LOCAL:
        return Channel.LOCAL, address.split(recipient.route.address)[0].lower(), recipient.attempts, index
    return (
        Channel.REMOTE,
        address.split(recipient.route.address)[1].lower(),
        recipient.attempts,
        -1 if together else index,
    )


@dataclass(slots=True)
class _Lane:
    """One channel: what waits for its time, what is due by destination, whose turn it is."""

    waiting: list[tuple[int, int, Job]] = field(default_factory=list)
    due: dict[str, deque[Job]] = field(default_factory=dict)
    turns: deque[str] = field(default_factory=deque)
    running: dict[str, int] = field(default_factory=dict)


class Plan:
    """Everything that is to be attempted, of every log that this replica owns."""

    def __init__(self, destination_max: dict[Channel, int] | None = None) -> None:
        self._lanes = {channel: _Lane() for channel in Channel}
        self._limits = {Channel.REMOTE: REMOTE_DESTINATION_MAX} if destination_max is None else destination_max
        self._order = 0

    def put(self, job: Job, now_ms: int) -> None:
        """Takes a job in."""
        lane = self._lanes[job.channel]
        if job.due_ms > now_ms:
            self._order += 1
            heapq.heappush(lane.waiting, (job.due_ms, self._order, job))
        else:
            self._make_due(lane, job)

    def take(self, channel: Channel, count: int, now_ms: int) -> list[Job]:
        """At most `count` jobs to start now; each counts as running until `done`."""
        lane = self._lanes[channel]
        while lane.waiting and lane.waiting[0][0] <= now_ms:
            self._make_due(lane, heapq.heappop(lane.waiting)[2])
        taken: list[Job] = []
        while lane.turns and len(taken) < count:
            destination = lane.turns.popleft()
            queue = lane.due[destination]
            taken.append(queue.popleft())
            lane.running[destination] = lane.running.get(destination, 0) + 1
            self._take_turn(channel, destination)
        return taken

    def done(self, job: Job) -> None:
        """The attempt has ended, however it did."""
        lane = self._lanes[job.channel]
        left = lane.running.get(job.destination, 0) - 1
        was_full = self._is_full(job.channel, job.destination)
        if left > 0:
            lane.running[job.destination] = left
        else:
            lane.running.pop(job.destination, None)
        if was_full and lane.due.get(job.destination):
            lane.turns.append(job.destination)

    def next_due_ms(self) -> int | None:
        """When the earliest of the waiting jobs is due; None when none waits."""
        times = [lane.waiting[0][0] for lane in self._lanes.values() if lane.waiting]
        return min(times, default=None)

    def make_all_due(self) -> None:
        """SIGALRM: everything is tried now."""
        for lane in self._lanes.values():
            for _, _, job in sorted(lane.waiting, key=lambda entry: entry[:2]):
                self._make_due(lane, job)
            lane.waiting.clear()

    def why(self, channel: Channel, destination: str) -> str:
        """Why a due job of this destination has not started."""
        if self._is_full(channel, destination):
            return f"{self._limits[channel]} transactions with {destination} are under way"
        return f"no free {channel.value} slot"

    def _make_due(self, lane: _Lane, job: Job) -> None:
        queue = lane.due.get(job.destination)
        if queue is None:
            queue = lane.due[job.destination] = deque()
        queue.append(job)
        if len(queue) == 1 and not self._is_full(job.channel, job.destination):
            lane.turns.append(job.destination)

    def _take_turn(self, channel: Channel, destination: str) -> None:
        """After one of its jobs was taken: to the end of the line, out of it when full or empty."""
        lane = self._lanes[channel]
        if not lane.due[destination]:
            del lane.due[destination]
        elif not self._is_full(channel, destination):
            lane.turns.append(destination)

    def _is_full(self, channel: Channel, destination: str) -> bool:
        limit = self._limits.get(channel)
        return limit is not None and self._lanes[channel].running.get(destination, 0) >= limit
