"""What an operator may do with queued messages: try them now, hold them, let go of them, end them.

Each is a record in the log before anybody is told that it is done, so it outlives this process and its segment. What a
worker is at work on is left alone: a delivery that has begun ends as it ends. Only RETRY with force takes a delivery
from a worker that is away, and says so: window W7.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from runtime.serve import Process
from services.queue import records
from services.queue.commit import tell
from services.queue.dispatch import Dispatch
from services.queue.ledger import Ledger
from services.queue.message import Message, State, settled_of
from services.queue.names import NOWHERE, Position
from services.queue.reason import date

# Who gives an order is a name, perhaps with another behind it.
BY_MAX_CHARACTERS = 64

# Between so many messages others have their turn.
_AT_ONCE = 50


class Action(Enum):
    """What is to be done."""

    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    REMOVE = "remove"


class Result(Enum):
    """What became of an order for one message."""

    UNKNOWN = "unknown"
    DONE = "done"
    ALREADY = "already"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Order:
    """Something to be done, and who says so. `force`: RETRY also takes what a worker that is away may be at work on."""

    action: Action
    by: str
    force: bool = False


Answer = tuple[Result, str]
_DONE: Answer = (Result.DONE, "")
_UNKNOWN: Answer = (Result.UNKNOWN, "whether it is done is not known: ask again")


class Orders:
    """Carries out what operators say."""

    def __init__(self, dispatch: Dispatch, process: Process) -> None:
        self._dispatch = dispatch
        self._process = process

    async def give(self, order: Order, kept: list[tuple[Ledger, Message]]) -> list[tuple[Message, Answer]]:
        """Gives the order for messages that are kept here; answers for those that still are, once it is committed."""
        carried_out: list[tuple[Message, asyncio.Future[Answer]]] = []
        for count, (ledger, known) in enumerate(kept, 1):
            message = ledger.index.get(known.id)
            if message and not message.settled:  # one that is settled has its end on the way to the disk
                carried_out.append((message, self._carry_out(order, ledger, message)))
            if count % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return [(message, await answer) for message, answer in carried_out]

    def _carry_out(self, order: Order, ledger: Ledger, message: Message) -> "asyncio.Future[Answer]":
        match order.action:
            case Action.RETRY:
                return self._retry(order, ledger, message)
            case Action.HOLD:
                return self._hold(order, ledger, message)
            case Action.RELEASE:
                return self._let_go(order, ledger, message)
            case Action.REMOVE:
                return self._remove(order, ledger, message)

    # -- hold and release ---------------------------------------------------------------------------------------------

    def _hold(self, order: Order, ledger: Ledger, message: Message) -> "asyncio.Future[Answer]":
        if message.held:
            return _told(Result.ALREADY, f"it is held by {message.held.by} since {date(message.held.since_ms)}")
        said = records.Hold(message.id, True, order.by, self._process.clock.wall_ms())

        def then() -> Answer:
            self._process.events.held_msg(message.id, order.by)
            under_way = sum(recipient.state is State.DELIVERING for recipient in message.recipients)
            return Result.DONE, f"{under_way} deliveries of it are under way and go on" if under_way else ""

        return self._commit(ledger, message, [said], then)

    def _let_go(self, order: Order, ledger: Ledger, message: Message) -> "asyncio.Future[Answer]":
        if not message.held:
            return _told(Result.ALREADY, "nobody holds it")
        said = records.Hold(message.id, False, order.by, self._process.clock.wall_ms())

        def then() -> Answer:
            self._process.events.released_msg(message.id, order.by)
            self._dispatch.resume(ledger, message)
            return _DONE

        return self._commit(ledger, message, [said], then)

    # -- remove -------------------------------------------------------------------------------------------------------

    def _remove(self, order: Order, ledger: Ledger, message: Message) -> "asyncio.Future[Answer]":
        """Ends a message of which nothing is under way: one that is may be delivered, and is not said to be gone."""
        log = ledger.log.name.log
        for index, recipient in enumerate(message.recipients):
            is_away = self._dispatch.is_away(log, message, index)
            if is_away or self._dispatch.may_have_begun(log, message, index):
                return _told(Result.REFUSED, "a worker that is away may be at work on it: wait half a minute")
            if recipient.state is State.DELIVERING:
                return _told(Result.REFUSED, "it is being delivered: hold it, and remove it when that is over")
        left = [recipient for recipient in message.recipients if not recipient.settled]
        for recipient in left:  # from here on nothing of it is started, and no report changes anything
            recipient.state = State.REMOVED

        def then() -> Answer:
            self._process.events.removed_msg(message.id, order.by, len(left))
            self._process.events.end_msg(message.id)
            return _DONE

        removed = records.Removed(message.id, order.by, self._process.clock.wall_ms())
        return self._commit(ledger, message, [removed], then)

    # -- retry --------------------------------------------------------------------------------------------------------

    def _retry(self, order: Order, ledger: Ledger, message: Message) -> "asyncio.Future[Answer]":
        """Makes what waits due. That is recorded too: the next owner has to know what may have been tried, and when."""
        if message.held:
            return _told(Result.REFUSED, f"it is held by {message.held.by}: release it first")
        log, now_ms = ledger.log.name.log, ledger.time.now_ms()
        meant: list[int] = []
        away: list[int] = []
        for index, recipient in enumerate(message.recipients):
            if self._dispatch.is_away(log, message, index):
                away.append(index)
            elif recipient.state is State.WAITING:
                meant.append(index)
        if not meant and not away:
            return _told(Result.ALREADY, "it is being delivered")
        if not meant and not order.force:
            return _told(Result.REFUSED, "a worker that is away may be at work on it: wait, or --force a second copy")
        said: list[records.Said] = [
            _made_due(ledger, message, index, now_ms)
            for index in meant
            if message.recipients[index].next_attempt_ms > now_ms
        ]

        def then() -> Answer:
            self._process.events.retried_msg(message.id, order.by)
            if away and order.force:
                self._process.events.possible_duplicate("W7", message.id)
            self._dispatch.urge(message, [*meant, *away] if order.force else meant, lost=order.force)
            left = len(away) if not order.force else 0
            return Result.DONE, f"{left} recipients are left to a worker that is away" if left else ""

        return self._commit(ledger, message, said, then)

    # -- how ----------------------------------------------------------------------------------------------------------

    def _commit(
        self, ledger: Ledger, message: Message, said: list[records.Said], then: Callable[[], Answer]
    ) -> "asyncio.Future[Answer]":
        """Commits what is said, and when that is done does what follows from it."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def committed(positions: list[Position] | None) -> None:
            message.changing -= 1
            answer = _UNKNOWN
            if positions is not None:
                for one, position in zip(said, positions, strict=True):
                    _take_place(ledger, message, one, position)
                answer = then()
            tell(future, answer)

        message.changing += 1
        for one in said:
            if not isinstance(one, records.Removed):  # known at once, so that what is decided next is decided on it
                ledger.index.learn(one, NOWHERE)
        ledger.commits.add(said, committed)
        return future


def _take_place(ledger: Ledger, message: Message, said: records.Said, position: Position) -> None:
    """A record is committed: what was learned before can be read there, and an end takes effect."""
    if isinstance(said, records.Settled):
        ledger.index.committed(said, position)
    elif isinstance(said, records.Removed):
        ledger.index.learn(said, position)
        ledger.drop_large(message)


def _made_due(ledger: Ledger, message: Message, index: int, now_ms: int) -> records.Settled:
    """What is known of a recipient, with another time for its next attempt."""
    recipient = message.recipients[index]
    known = settled_of(message.id, index, recipient, ledger.report(message, index))
    return replace(known, next_attempt_ms=now_ms)


def _told(result: Result, text: str) -> "asyncio.Future[Answer]":
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    future.set_result((result, text))
    return future
