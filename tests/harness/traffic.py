"""Mail that keeps coming at an even pace while a test does harm, and the reckoning of all that was promised."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

from tests.harness import ledger, maildir
from tests.harness.ledger import Fate, Found, Ledger, Round
from tests.harness.maildir import Parcel
from tests.harness.sink import Sink
from tests.harness.stack import MAIL_NAME, Stack

DEMO, FAR = f"demo@{MAIL_NAME}", "friend@far.example"
CONNECTIONS = 4
# Forty messages a second: enough for something to be under way always, little enough for a minute of it.
PAUSE_S = 0.1
OCTETS = 2_000
_MORE_S = 120.0


@dataclass(slots=True)
class Traffic:
    """The mail of one test, to one set of recipients."""

    port: int
    recipients: tuple[str, ...] = (DEMO,)
    pause_s: float = PAUSE_S
    kept: Ledger = field(default_factory=Ledger)
    _over: bool = False

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator["Traffic"]:
        """Mail comes until the end of the block; then what is under way is answered."""
        what = Round(self.port, self._parcels(), self.recipients, CONNECTIONS, pause_s=self.pause_s)
        sending = asyncio.create_task(ledger.send(what, self.kept))
        try:
            yield self
        finally:
            self._over = True
            await sending

    async def accepted(self, more: int) -> None:
        """Returns when so many more messages have been taken."""
        kept = self.kept
        wanted = len(kept.of(Fate.ACCEPTED)) + more
        async with asyncio.timeout(_MORE_S), kept.progress:
            await kept.progress.wait_for(lambda: len(kept.of(Fate.ACCEPTED)) >= wanted)

    def _parcels(self) -> Iterator[Parcel]:
        for number in count():
            if self._over:
                return
            yield Parcel.of_octets(f"flow-{number}", OCTETS)


def reckon(stack: Stack, kept: Ledger, world: Sink | None = None, idle_s: float = 90.0) -> Found:
    """Waits for the end of every delivery and holds every reply against what is in the Maildirs and what the world has.

    A second copy in the world is right where its window was announced; nowhere else.
    """
    stack.wait_idle(idle_s)
    found = Found()
    for name in stack.accounts:
        found.look_into(stack.home(name), f"{name}@{MAIL_NAME}")
    if world:
        _look_into_world(stack, kept, world, found)
    ledger.assert_kept(kept, found)
    return found


def _look_into_world(stack: Stack, kept: Ledger, world: Sink, found: Found) -> None:
    announced = {str(event["msg"]) for event in stack.events() if event["event"] == "possible-duplicate"}
    ids = {entry.name: entry.message for entry in kept.entries}
    for taken in world.taken:
        copy = maildir.unpack(taken.text)
        found.copies.append(copy)
        for recipient in taken.recipients:
            if not found.delivered[copy.name, recipient] or ids.get(copy.name) not in announced:
                found.delivered[copy.name, recipient] += 1
