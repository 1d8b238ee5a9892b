"""What one log holds, in memory: the messages that are not finished, and the ids that are remembered.

Built by `learn` from the log's records in their order, at the scan and after every commit alike: there is one way in
which a record changes the state. Knows no disk and no time but what records say.
"""

from collections import Counter, deque
from enum import Enum

from mail.ids import MessageId, born_ms
from mail.outcome import Kind
from services.queue import records
from services.queue.message import Message, Recipient, State
from services.queue.names import Position, SegmentName

# Enqueue refuses ids older than ID_OLDEST_S and further ahead than ID_AHEAD_S; every id is remembered for longer than
# both together, so a producer that asks again is answered and its message is not taken twice.
ID_OLDEST_S = 3_600
ID_AHEAD_S = 300
ID_MEMORY_S = 4_200
# However small TIME_SCALE is: a producer may ask for as long as it offers again and resolves, which is not scaled.
ID_MEMORY_MIN_S = 120
assert ID_MEMORY_S > ID_OLDEST_S + ID_AHEAD_S, "an id that is still taken is still remembered"


class Standing(Enum):
    """What is known of an id."""

    UNKNOWN = "unknown"
    LIVE = "live"
    FINISHED = "finished"
    REFUSED = "refused"


class Index:
    """The state of one log."""

    def __init__(self) -> None:
        self.messages: dict[MessageId, Message] = {}
        self.large_users: Counter[str] = Counter()  # messages that need each file of large/
        self.live_octets: Counter[SegmentName] = Counter()  # of bodies that are still needed, by segment
        self._memory: dict[MessageId, tuple[Standing, SegmentName]] = {}
        self._memory_order: deque[MessageId] = deque()

    def standing(self, message: MessageId) -> Standing:
        if message in self.messages:
            return Standing.LIVE
        return self._memory[message][0] if message in self._memory else Standing.UNKNOWN

    def learn(self, said: records.Said, position: Position) -> None:
        """Applies one committed record."""
        match said:
            case records.Accepted():
                self._add(said, position)
            case records.Settled():
                self._settle(said)
            case records.Refused():
                self._remember(said.id, Standing.REFUSED, position)
            case records.Finished():
                self._remove(said.id)
                self._remember(said.id, Standing.FINISHED, position)
            case records.Snapshot() if self.standing(said.message.id) is Standing.FINISHED:
                pass  # what has ended stays ended
            case records.Snapshot():
                self._add(said.message, position)
                for settled in said.settled:
                    self._settle(settled)
            case records.Remembered():
                for message in said.finished:
                    self._remember(message, Standing.FINISHED, position)
                for message in said.refused:
                    self._remember(message, Standing.REFUSED, position)
            case records.Seal() | records.Released():
                pass

    def forget(self, now_ms: int, scale: float) -> None:
        """Lets go of ids so old that nobody may ask about them any more."""
        oldest = now_ms - int(max(ID_MEMORY_S * scale, ID_MEMORY_MIN_S) * 1_000)
        while self._memory_order and born_ms(self._memory_order[0]) < oldest:
            self._memory.pop(self._memory_order.popleft(), None)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept here and nobody may ask about anything that was."""
        return not self.messages and not self._memory

    def remembered_in(self, segment: SegmentName, standing: Standing) -> tuple[MessageId, ...]:
        """The ids that would be forgotten with the segment."""
        return tuple(message for message, known in self._memory.items() if known == (standing, segment))

    def lives_in(self, segment: SegmentName) -> list[Message]:
        """The messages whose record is in the segment."""
        return [message for message in self.messages.values() if message.position.segment == segment]

    def move(self, message: MessageId, position: Position) -> None:
        """The message has been written forward; what it is has not changed."""
        moved = self.messages.get(message)
        if moved:
            self.live_octets[moved.position.segment] -= moved.position.body.octets
            self.live_octets[position.segment] += position.body.octets
            moved.position = position

    def _add(self, said: records.Accepted, position: Position) -> None:
        self._remove(said.id)  # a later copy replaces an earlier one
        self.live_octets[position.segment] += position.body.octets
        if said.large:
            self.large_users[said.large] += 1
        self.messages[said.id] = Message(
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
            recipients=[Recipient(address, route) for address, route in zip(said.recipients, said.routes, strict=True)],
        )

    def _settle(self, said: records.Settled) -> None:
        message = self.messages.get(said.id)
        if message is None or said.recipient >= len(message.recipients):
            return
        recipient = message.recipients[said.recipient]
        recipient.attempts = said.attempts
        recipient.next_attempt_ms = said.next_attempt_ms
        recipient.report = said.report
        recipient.done = said.done
        recipient.state = _STATES.get(said.kind, State.WAITING)

    def _remove(self, message: MessageId) -> None:
        gone = self.messages.pop(message, None)
        if gone is None:
            return
        self.live_octets[gone.position.segment] -= gone.position.body.octets
        if gone.large:
            self.large_users[gone.large] -= 1

    def _remember(self, message: MessageId, standing: Standing, position: Position) -> None:
        if message not in self._memory:
            self._memory_order.append(message)
        self._memory[message] = (standing, position.segment)


_STATES: dict[int, State] = {
    Kind.DELIVERED: State.DELIVERED,
    Kind.FAILED: State.FAILED,
}
