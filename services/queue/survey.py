"""Going through everything that this replica keeps, without standing in anybody's way.

A million messages are looked at in slices; after each the event loop is others' for as long as the slice took.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator

from mail.ids import MessageId
from runtime.clock import Clock
from services.queue.ledger import Ledger
from services.queue.message import Message
from services.queue.reason import state_name
from services.queue.selection import Selection
from services.queue.store import Store

# A slice is some milliseconds: no more than a large message takes.
_SLICE = 100

Kept = tuple[str, Message]


class Survey:
    """What is kept, in the order of the ids."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def walk(self, selection: Selection) -> AsyncIterator[list[Kept]]:
        """Every message that matches, with its log, a slice at a time.

        What comes, changes or ends meanwhile is seen as it is when its turn comes; nothing else is missed.
        """
        began = self._clock.monotonic()
        found: list[Kept] = []
        for looked_at, (message_id, log) in enumerate(self._ids(selection), 1):
            if (message := self.find(log, message_id)) and self._is_meant(selection, message):
                found.append((log, message))
            if looked_at % _SLICE == 0:
                nap_s = self._clock.monotonic() - began
                if found:
                    yield found
                found = []
                await asyncio.sleep(nap_s)
                began = self._clock.monotonic()
        if found:
            yield found

    def find(self, log: str, message: MessageId) -> Message | None:
        """A message that is kept in a log of ours, to read it."""
        ledger = self._store.ledgers.get(log)
        return ledger.index.look_at(message) if ledger else None

    def whereabouts(self, message: MessageId) -> Ledger | None:
        """The ledger that keeps a message."""
        return next((ledger for ledger in self._store.ledgers.values() if message in ledger.index), None)

    def matching(self, selection: Selection, ids: list[MessageId]) -> list[Kept]:
        """Those of the ids that are kept here and match, in their order. Does not pause: they are few."""
        found: list[Kept] = []
        for message_id in ids:
            ledger = self.whereabouts(message_id)
            message = ledger.index.look_at(message_id) if ledger else None
            if ledger and message and self._is_meant(selection, message):
                found.append((ledger.log.name.log, message))
        return found

    def _is_meant(self, selection: Selection, message: Message) -> bool:
        return selection.matches(message, self._clock.wall_ms(), state_name)

    def _ids(self, selection: Selection) -> Iterator[tuple[MessageId, str]]:
        if selection.ids:
            kept = ((one, self.whereabouts(one)) for one in sorted(selection.ids))
            return iter([(one, ledger.log.name.log) for one, ledger in kept if ledger])
        return heapq.merge(*(_ids_of(log, ledger) for log, ledger in self._store.ledgers.items()))


def _ids_of(log: str, ledger: Ledger) -> Iterator[tuple[MessageId, str]]:
    for message in ledger.index.ids():
        yield message, log
