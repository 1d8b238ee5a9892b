"""Going through everything that this replica keeps, without standing in anybody's way.

A million messages are looked at in slices; after each the event loop is others' for as long as the slice took.
"""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from mail.ids import MessageId
from runtime.clock import Clock
from services.queue.ledger import Ledger
from services.queue.message import Message
from services.queue.reason import state_name
from services.queue.selection import Selection
from services.queue.store import Store

# A slice is some milliseconds: no more than a large message takes.
_SLICE = 50

# Who waits for what matches hears at least so often that we are still looking.
_SIGN_OF_LIFE_S = 1.0

Kept = tuple[Ledger, Message]


class Survey:
    """What is kept, in the order of the ids."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def walk(self, selection: Selection) -> AsyncIterator[list[Kept]]:
        """Every message that matches, with its ledger, a slice at a time; now and then an empty one.

        What comes, changes or ends meanwhile is seen as it is when its turn comes; nothing else is missed.
        """
        began = told = self._clock.monotonic()
        found: list[Kept] = []
        for looked_at, (message_id, ledger) in enumerate(self._ids(selection), 1):
            message = ledger.index.look_at(message_id)
            if message and _is_meant(selection, ledger, message):
                found.append((ledger, message))
            if looked_at % _SLICE == 0:
                nap_s = self._clock.monotonic() - began
                if found or began - told >= _SIGN_OF_LIFE_S:
                    told = began
                    yield found
                    found = []
                await asyncio.sleep(nap_s)
                began = self._clock.monotonic()
        if found:
            yield found

    def find(self, message_id: MessageId) -> Kept | None:
        """A message that is kept here, to read it."""
        for ledger in self._store.ledgers.values():
            if message := ledger.index.look_at(message_id):
                return ledger, message
        return None

    async def matching(self, selection: Selection, ids: list[MessageId]) -> list[Kept]:
        """Those of the ids that are kept here and match."""
        return [one async for kept in self.walk(replace(selection, ids=tuple(ids))) for one in kept] if ids else []

    def _ids(self, selection: Selection) -> Iterator[tuple[MessageId, Ledger]]:
        if selection.ids:
            return ((one, found[0]) for one in sorted(set(selection.ids)) if (found := self.find(one)))
        return heapq.merge(*map(_ids_of, self._store.ledgers.values()), key=lambda pair: pair[0])


def _is_meant(selection: Selection, ledger: Ledger, message: Message) -> bool:
    return selection.matches(message, ledger.time.now_ms(), state_name)


def _ids_of(ledger: Ledger) -> Iterator[tuple[MessageId, Ledger]]:
    for message in ledger.index.ids():
        yield message, ledger
