"""What of the elections in people's Maildirs may be swept, and when: the front's memory of deliveries that are over.

It remembers no delivery once that is acknowledged: from time to time it notes up to when everything it took is, and
what was noted an hour ago may go. A delivery that was deferred is excepted until a later attempt has finished it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from mail.accounts import Account
from runtime.accounts import Accounts, AccountsError
from runtime.children import SpawnError
from runtime.clock import Clock
from services.local.batch import Question
from services.local.pool import ChildGone, Pool
from services.local.sweep import Settled

# An election outlives the durable outcome of its delivery by this (reliability.md of the design, section 6).
KEEP_S = 3_600.0
_LOOK_EVERY_S = 60.0
# The kernel's file times lag behind the clock by up to a tick; this is far more.
_MARGIN_S = 1.0
# Deliveries excepted; when there are more, all that was written so far is left until it is 36 hours old.
_UNFINISHED_MAX = 10_000


class Settlement:
    """Counts deliveries in and out, and sweeps. `holds` says whether the worker still holds a delivery's key; a message
    and recipient are called as in file names (services/local/sweep.py)."""

    def __init__(self, clock: Clock, pool: Pool, accounts: Accounts, holds: Callable[[str], bool]) -> None:
        self._clock = clock
        self._pool = pool
        self._accounts = accounts
        self._holds = holds
        self._since_s = self._now_s()
        self._taken: deque[tuple[str, float]] = deque()
        self._unfinished: set[str] = set()
        self._notes: deque[tuple[float, float]] = deque()
        self._due: dict[tuple[str, str], float] = {}

    def took(self, key: str) -> None:
        """A delivery has begun; before the first octet of it is written."""
        self._forget_settled()
        self._taken.append((key, self._now_s()))

    def deferred(self, what: str) -> None:
        """It may be published all the same, if its child died or its disk failed late, and it will be tried again."""
        if len(self._unfinished) >= _UNFINISHED_MAX:
            self._unfinished.clear()
            self._since_s = self._now_s()  # what was written before is left to its age
        self._unfinished.add(what)

    def finished(self, what: str) -> None:
        """It is delivered, or never will be."""
        self._unfinished.discard(what)

    def published(self, account: str, path: str) -> None:
        """There is an election in this Maildir now, to be swept some day."""
        self._due.setdefault((account, path), self._clock.monotonic() + self._clock.scaled(KEEP_S))

    async def run(self) -> None:
        """Sweeps what is due; until cancelled."""
        while True:
            await asyncio.sleep(self._clock.scaled(_LOOK_EVERY_S))
            now = self._clock.monotonic()
            self._note(now)
            for place in [place for place, at in self._due.items() if at <= now]:
                await self._sweep(*place)

    def settled(self) -> Settled:
        """What may be swept now."""
        return Settled(self._since_s, self._until_s(self._clock.monotonic()), frozenset(self._unfinished))

    async def _sweep(self, name: str, path: str) -> None:
        question = Question(sweep=(path,), settled=self.settled())
        stay = 0
        try:
            account: Account | None = self._accounts.find(name)
            if account is not None:
                stay = (await self._pool.ask(account, question)).stay[0]
        except (AccountsError, SpawnError, ChildGone):
            stay = 1  # not now
        del self._due[(name, path)]
        if stay:
            self._due[(name, path)] = self._clock.monotonic() + self._clock.scaled(KEEP_S)

    def _note(self, now: float) -> None:
        self._forget_settled()
        oldest_s = self._taken[0][1] if self._taken else self._now_s()
        self._notes.append((now, oldest_s - _MARGIN_S))

    def _until_s(self, now: float) -> float:
        """Up to when everything was over an hour ago."""
        before = now - self._clock.scaled(KEEP_S)
        while len(self._notes) > 1 and self._notes[1][0] <= before:
            self._notes.popleft()
        return self._notes[0][1] if self._notes and self._notes[0][0] <= before else 0.0

    def _forget_settled(self) -> None:
        while self._taken and not self._holds(self._taken[0][0]):
            self._taken.popleft()

    def _now_s(self) -> float:
        return self._clock.wall_ms() / 1_000
