"""What one log holds, in memory: the messages that are not finished, and the ids that are remembered.

Built by `learn` from the log's records in their order, at the scan and after every commit alike: there is one way in
which a record changes the state. Knows no disk and no time but what records say. Messages that nobody is at work on
are kept packed, so that a million of them fit.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mail import ids
from mail.ids import MessageId
from services.queue import records
from services.queue.message import Message, message_of, settle
from services.queue.names import NOWHERE, Position, SegmentName
from services.queue.rest import pack, segment_of, unpack
from services.queue.shelf import Shelf

# Enqueue refuses ids older than ID_OLDEST_S and further ahead than ID_AHEAD_S; every id is remembered for longer than
# both together, so a producer that asks again is answered and its message is not taken twice.
ID_OLDEST_S = 3_600
ID_AHEAD_S = 300
ID_MEMORY_S = 4_200
# However small TIME_SCALE is: a producer may ask for as long as it offers again and resolves, which is not scaled.
ID_MEMORY_MIN_S = 120
assert ID_MEMORY_S > ID_OLDEST_S + ID_AHEAD_S, "an id that is still taken is still remembered"

# Messages that are kept as objects: more than workers have under way at once, so that a message is packed only when
# it stays. One costs about 2 KiB.
AWAKE_MAX = 4_096

# How many are looked at for one that may rest, when there are too many: all of them may be at work for a moment.
_TIRED_MAX = 8


def id_memory_ms(scale: float) -> int:
    """For how long an id is remembered after its birth."""
    return int(max(ID_MEMORY_S * scale, ID_MEMORY_MIN_S) * 1_000)


class Standing(Enum):
    """What is known of an id."""

    UNKNOWN = "unknown"
    LIVE = "live"
    FINISHED = "finished"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Told:
    """What a segment alone says: ids of living messages, of finished and of refused ones."""

    living: list[MessageId]
    finished: list[MessageId]
    refused: list[MessageId]


class Index:
    """The state of one log."""

    def __init__(self) -> None:
        self.large_users: Counter[str] = Counter()  # messages that need each file of large/
        self.live_octets: Counter[SegmentName] = Counter()  # of bodies that are still needed, by segment
        self._awake: dict[MessageId, Message] = {}
        self._resting: Shelf[bytes] = Shelf()
        self._memory: Shelf[tuple[Standing, SegmentName]] = Shelf()
        self._marks: dict[tuple[Standing, SegmentName], tuple[Standing, SegmentName]] = {}  # one object for each
        self._told_in: dict[SegmentName, bytearray] = {}  # ids that a segment spoke of, and perhaps still does

    # -- messages -----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._awake) + len(self._resting)

    def __contains__(self, message: MessageId) -> bool:
        return message in self._awake or message in self._resting

    def get(self, message: MessageId) -> Message | None:
        """A message that is not finished, to work on. Changes to it are kept as long as they go through `learn`."""
        found = self._awake.get(message)
        if found is None and (octets := self._resting.pop(message)):
            found = unpack(message, octets)
            self._wake(found)
        return found

    def look_at(self, message: MessageId) -> Message | None:
        """The same, only to read it."""
        if message in self._awake:
            return self._awake[message]
        octets = self._resting.get(message)
        return unpack(message, octets) if octets else None

    def ids(self) -> Iterator[MessageId]:
        """The messages that are not finished, in order. What comes or ends while this is walked through may be seen or
        not; nothing else is missed, though it be woken or put to rest meanwhile."""
        last: MessageId | None = None
        while some := self._after(last):
            yield from some
            last = some[-1]

    def _after(self, last: MessageId | None) -> list[MessageId]:
        """The next messages: those at rest that stand together, and the others between them."""
        resting = self._resting.after(last)
        awake = [one for one in self._awake if (not last or one > last) and (not resting or one <= resting[-1])]
        return sorted([*resting, *awake])

    def _wake(self, message: Message) -> None:
        self._awake[message.id] = message
        if len(self._awake) <= AWAKE_MAX:
            return
        for tired in [one for _, one in zip(range(_TIRED_MAX), self._awake, strict=False)]:
            oldest = self._awake.pop(tired)
            if oldest.may_rest and oldest is not message:
                self._resting.put(tired, pack(oldest))
            else:
                self._awake[tired] = oldest  # as the youngest: the next look finds another

    # -- what is known of ids -----------------------------------------------------------------------------------------

    def standing(self, message: MessageId) -> Standing:
        if message in self._awake:
            return Standing.LIVE
        known = self._memory.get(message)
        if known:
            return known[0]
        return Standing.LIVE if message in self._resting else Standing.UNKNOWN

    def forget(self, now_ms: int, scale: float) -> None:
        """Lets go of ids so old that nobody may ask about them any more."""
        self._memory.pop_born_before(now_ms - id_memory_ms(scale))
        self._memory.pop_born_after(now_ms + id_memory_ms(scale))  # made by a clock that was set back since

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept here and nobody may ask about anything that was."""
        return not len(self) and not self._memory

    # -- records ------------------------------------------------------------------------------------------------------

    def learn(self, said: records.Said, position: Position) -> None:
        """Applies one committed record."""
        match said:
            case records.Accepted():
                self._add(said, position)
            case records.Settled():
                if message := self.get(said.id):
                    settle(message, said, position)
            case records.Refused():
                self._remember(said.id, Standing.REFUSED, position)
            case records.Finished() | records.Removed():
                self._remove(said.id)
                self._remember(said.id, Standing.FINISHED, position)
            case records.Snapshot() if self.standing(said.message.id) is Standing.FINISHED:
                pass  # what has ended stays ended
            case records.Snapshot():
                self._restore(said, position)
            case records.Hold():
                if held := self.get(said.id):
                    held.held = said if said.held else None
            case records.Remembered():
                self._remember_all(said, position)
            case records.Seal() | records.Released() | records.Footer():
                pass

    def _restore(self, said: records.Snapshot, position: Position) -> None:
        message = self._add(said.message, position)
        for settled in said.settled:
            settle(message, settled, position)
        message.held = said.held

    def committed(self, said: records.Settled, position: Position) -> None:
        """The place of what was learned before its commit: from here on its report can be read there."""
        message = self._awake.get(said.id)
        if message and said.recipient < len(message.recipients):
            recipient = message.recipients[said.recipient]
            if recipient.attempts == said.attempts:
                recipient.told = position

    def move(self, message: MessageId, position: Position) -> None:
        """The message has been written forward, with its reports; what it is has not changed."""
        moved = self.get(message)
        if moved is None:
            return
        self._place(moved, position)
        for recipient in moved.recipients:
            if recipient.attempts:
                recipient.told = position

    def _add(self, said: records.Accepted, position: Position) -> Message:
        self._remove(said.id)  # a later copy replaces an earlier one
        message = message_of(said, position)
        if said.large:
            self.large_users[said.large] += 1
        self.live_octets[position.segment] += position.body_octets
        self._speak(said.id, position.segment)
        self._wake(message)
        return message

    def _remove(self, message: MessageId) -> None:
        gone = self._awake.pop(message, None)
        if gone is None:
            octets = self._resting.pop(message)
            if octets is None:
                return
            gone = unpack(message, octets)
        self.live_octets[gone.position.segment] -= gone.position.body_octets
        if gone.large:
            self.large_users[gone.large] -= 1
            if not self.large_users[gone.large]:
                del self.large_users[gone.large]

    def _remember_all(self, said: records.Remembered, position: Position) -> None:
        for finished in said.finished:
            self._remember(finished, Standing.FINISHED, position)
        for refused in said.refused:
            self._remember(refused, Standing.REFUSED, position)

    def _remember(self, message: MessageId, standing: Standing, position: Position) -> None:
        mark = (standing, position.segment)
        self._memory.put(message, self._marks.setdefault(mark, mark))
        if position is not NOWHERE:
            self._speak(message, position.segment)

    # -- segments -----------------------------------------------------------------------------------------------------

    def told_in(self, segment: SegmentName) -> Told:
        """Everything whose own record stands in the segment, and would be lost with it."""
        told = Told([], [], [])
        spoken = bytes(self._told_in.get(segment, b""))
        for message in {
            ids.from_octets(spoken[at : at + ids.OCTETS]): None for at in range(0, len(spoken), ids.OCTETS)
        }:
            known = self._memory.get(message)
            if known:
                if known[1] == segment:
                    (told.finished if known[0] is Standing.FINISHED else told.refused).append(message)
            elif self._stands_in(message) == segment:
                told.living.append(message)
        return told

    def drop_segment(self, segment: SegmentName) -> None:
        """The segment is gone from the disk, and nothing of it counts any more."""
        self._told_in.pop(segment, None)
        self.live_octets.pop(segment, None)
        for standing in Standing:
            self._marks.pop((standing, segment), None)

    def _stands_in(self, message: MessageId) -> SegmentName | None:
        if message in self._awake:
            return self._awake[message].position.segment
        octets = self._resting.get(message)
        return segment_of(octets) if octets else None

    def _place(self, message: Message, position: Position) -> None:
        self.live_octets[message.position.segment] -= message.position.body_octets
        self.live_octets[position.segment] += position.body_octets
        message.position = position
        self._speak(message.id, position.segment)

    def _speak(self, message: MessageId, segment: SegmentName) -> None:
        self._told_in.setdefault(segment, bytearray()).extend(ids.to_octets(message))
