"""What to start next. Pure: tickets in, tickets out, with the time given.

Errands wait until they are due; due ones are started in fair turns between destinations, within each destination's own
concurrency, so that ten thousand messages to one slow host cost the others nothing. A destination that cannot be
reached is left alone for a while, and then tried with one errand before the others follow.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field

from mail.routing import Channel
from services.queue.errand import TICKET_BITS, Errand, Ticket, born_ms

# Transactions with one remote domain at a time: half of concurrencyremote's default, so that two slow domains
# together still leave it room; a domain that answers loses nothing, because a connection takes many messages.
REMOTE_DESTINATION_MAX = 10

# A destination that cannot be reached is left alone for a minute, then twice as long each time, up to an hour: qmail's
# tcpto leaves an address alone for an hour after its second timeout.
BACK_OFF_S = 60
BACK_OFF_MAX_S = 3_600

_NAME_BITS = 32

# What comes due together is put into line in such portions, so that a million do not stop everything else for seconds.
_WOKEN_AT_ONCE = 2_000


@dataclass(slots=True)
class Trouble:
    """A destination that cannot be reached; unix milliseconds. Left `alone` it is until then; after that one errand at
    a time may try it.
    """

    since_ms: int
    until_ms: int
    length_ms: int
    alone: bool = True


class _Names:
    """A number for each destination that something waits for, given back when nothing does."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._users: dict[int, int] = {}
        self._last = 0

    def take(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            self._last = (self._last + 1) % (1 << _NAME_BITS)
            number = self._numbers[name] = self._last
            self._names[number] = name
        self._users[number] = self._users.get(number, 0) + 1
        return number

    def give_back(self, number: int) -> str:
        name = self._names[number]
        self._users[number] -= 1
        if not self._users[number]:
            del self._users[number], self._names[number], self._numbers[name]
        return name


@dataclass(slots=True)
class _Lane:
    """One channel: what waits for its time (one number for due time, ticket and destination), what is due by
    destination, whose turn it is, how many run, and who cannot be reached.
    """

    waiting: list[int] = field(default_factory=list)
    called: list[int] = field(default_factory=list)  # what waited when everything was to be tried now
    names: _Names = field(default_factory=_Names)
    due: dict[str, deque[Ticket]] = field(default_factory=dict)
    turns: deque[str] = field(default_factory=deque)
    in_turn: set[str] = field(default_factory=set)
    running: dict[str, int] = field(default_factory=dict)
    trouble: dict[str, Trouble] = field(default_factory=dict)
    reopening: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0


class Plan:
    """Everything that is to be attempted, of every log that this replica owns. `scale` is TIME_SCALE."""

    def __init__(self, destination_max: dict[Channel, int] | None = None, scale: float = 1.0) -> None:
        self._lanes = {channel: _Lane() for channel in Channel}
        self._limits = {Channel.REMOTE: REMOTE_DESTINATION_MAX} if destination_max is None else destination_max
        self._scale = scale

    def __len__(self) -> int:
        """How many errands wait or are due."""
        return sum(lane.count for lane in self._lanes.values())

    def put(self, errand: Errand, now_ms: int) -> None:
        """Takes an errand in."""
        lane = self._lanes[errand.channel]
        lane.count += 1
        if errand.due_ms > now_ms:
            number = errand.due_ms << TICKET_BITS | errand.ticket
            heapq.heappush(lane.waiting, number << _NAME_BITS | lane.names.take(errand.destination))
        else:
            self._make_due(errand.channel, errand.destination, errand.ticket)

    def urge(self, errand: Errand) -> None:
        """An operator wants it now: it goes before the others of its destination, which is tried with it though it is
        left alone."""
        lane = self._lanes[errand.channel]
        lane.count += 1
        lane.due.setdefault(errand.destination, deque()).appendleft(errand.ticket)
        if trouble := lane.trouble.get(errand.destination):
            trouble.alone = False
        self._open(errand.channel, errand.destination)

    def take(self, channel: Channel, count: int, now_ms: int) -> list[tuple[str, Ticket]]:
        """At most `count` errands to start now, with their destinations; each counts as running until `done`."""
        lane = self._lanes[channel]
        for _ in range(_WOKEN_AT_ONCE):
            if lane.called:
                self._wake(channel, heapq.heappop(lane.called))
            elif lane.waiting and _due_ms(lane.waiting[0]) <= now_ms:
                self._wake(channel, heapq.heappop(lane.waiting))
            else:
                break
        while lane.reopening and lane.reopening[0][0] <= now_ms:
            self._reopen(channel, *heapq.heappop(lane.reopening))
        taken: list[tuple[str, Ticket]] = []
        while lane.turns and len(taken) < count:
            destination = lane.turns.popleft()
            lane.in_turn.discard(destination)
            taken.append((destination, lane.due[destination].popleft()))
            lane.running[destination] = lane.running.get(destination, 0) + 1
            self._take_turn(channel, destination)
        lane.count -= len(taken)
        return taken

    def done(self, channel: Channel, destination: str) -> None:
        """An attempt there has ended, however it did."""
        lane = self._lanes[channel]
        left = lane.running.get(destination, 0) - 1
        if left > 0:
            lane.running[destination] = left
        else:
            lane.running.pop(destination, None)
        self._open(channel, destination)

    def unreachable(self, channel: Channel, destination: str, now_ms: int) -> bool:
        """A destination could not be reached: it is left alone. Says whether that is news: attempts that began
        together fail together, and count once."""
        lane = self._lanes[channel]
        trouble = lane.trouble.get(destination)
        if trouble and now_ms < trouble.until_ms:
            trouble.alone = True
            self._close(lane, destination)
            return False
        length_ms = int(BACK_OFF_S * 1_000 * self._scale)
        if trouble:
            length_ms = min(trouble.length_ms * 2, int(BACK_OFF_MAX_S * 1_000 * self._scale))
        until_ms = now_ms + length_ms
        lane.trouble[destination] = Trouble(trouble.since_ms if trouble else now_ms, until_ms, length_ms)
        heapq.heappush(lane.reopening, (until_ms, destination))
        self._close(lane, destination)
        return True

    def reached(self, channel: Channel, destination: str) -> None:
        """A destination answered: whatever waits for it may go."""
        if self._lanes[channel].trouble.pop(destination, None):
            self._open(channel, destination)

    def give_up(self, channel: Channel, destination: str, born_before_ms: int) -> list[Ticket]:
        """Takes out what is due for a destination and was born before: a dead host must not keep what is too old."""
        lane = self._lanes[channel]
        queue = lane.due.get(destination, deque())
        old = [ticket for ticket in queue if born_ms(ticket) < born_before_ms]
        if old:
            gone = set(old)
            lane.due[destination] = deque(ticket for ticket in queue if ticket not in gone)
            lane.count -= len(old)
            if not lane.due[destination]:
                del lane.due[destination]
                self._close(lane, destination)
        return old

    def next_due_ms(self) -> int | None:
        """When there is something to look at again; None when nothing waits for a time."""
        if any(lane.called for lane in self._lanes.values()):
            return 0
        times = [_due_ms(lane.waiting[0]) for lane in self._lanes.values() if lane.waiting]
        times += [lane.reopening[0][0] for lane in self._lanes.values() if lane.reopening]
        return min(times, default=None)

    def make_all_due(self) -> None:
        """SIGALRM: everything is tried now, whatever could not be reached before."""
        for channel, lane in self._lanes.items():
            lane.called, lane.waiting = lane.called + lane.waiting if lane.called else lane.waiting, []
            heapq.heapify(lane.called)
            troubled, lane.trouble = lane.trouble, {}
            lane.reopening.clear()
            for destination in troubled:
                self._open(channel, destination)

    def trouble(self, channel: Channel, destination: str) -> Trouble | None:
        """Since when and until when a destination is left alone; None when it is not."""
        return self._lanes[channel].trouble.get(destination)

    def limit_reached(self, channel: Channel, destination: str) -> int:
        """The limit of attempts at one destination when it is reached; 0 when it is not."""
        limit = self._limits.get(channel, 0)
        return limit if limit and self._lanes[channel].running.get(destination, 0) >= limit else 0

    def _wake(self, channel: Channel, number: int) -> None:
        destination = self._lanes[channel].names.give_back(number & (1 << _NAME_BITS) - 1)
        self._make_due(channel, destination, Ticket(number >> _NAME_BITS & (1 << TICKET_BITS) - 1))

    def _make_due(self, channel: Channel, destination: str, ticket: Ticket) -> None:
        lane = self._lanes[channel]
        queue = lane.due.get(destination)
        if queue is None:
            queue = lane.due[destination] = deque()
        queue.append(ticket)
        self._open(channel, destination)

    def _take_turn(self, channel: Channel, destination: str) -> None:
        """After one of its errands was taken: to the end of the line, out of it when closed or empty."""
        lane = self._lanes[channel]
        if not lane.due[destination]:
            del lane.due[destination]
        self._open(channel, destination)

    def _reopen(self, channel: Channel, until_ms: int, destination: str) -> None:
        """The time of a destination is over: one errand may try it."""
        lane = self._lanes[channel]
        trouble = lane.trouble.get(destination)
        if trouble is None or trouble.until_ms != until_ms:
            return
        trouble.alone = False
        if destination in lane.due:
            self._open(channel, destination)
        elif destination not in lane.running:
            del lane.trouble[destination]  # nobody wants to go there any more

    def _open(self, channel: Channel, destination: str) -> None:
        """Puts a destination at the end of the line, when something is due there and may start."""
        lane = self._lanes[channel]
        if destination in lane.due and destination not in lane.in_turn and not self._is_closed(channel, destination):
            lane.turns.append(destination)
            lane.in_turn.add(destination)

    def _close(self, lane: _Lane, destination: str) -> None:
        """Takes a destination out of the line."""
        if destination in lane.in_turn:
            lane.turns.remove(destination)
            lane.in_turn.discard(destination)

    def _is_closed(self, channel: Channel, destination: str) -> bool:
        """Whether nothing more may start there now: as many as may be are under way, or it is left alone."""
        lane = self._lanes[channel]
        trouble = lane.trouble.get(destination)
        if trouble:
            return trouble.alone or destination in lane.running
        return bool(self.limit_reached(channel, destination))


def _due_ms(number: int) -> int:
    return number >> TICKET_BITS + _NAME_BITS
