"""Deliveries that are carried on in a child of their own, because they run a program: their turns and their slots.

A program may take minutes, so a slow delivery is given a slot of its own (the queue is offered more), up to a bound for
each account; what of an account is beyond that, while none of its programs ends, is deferred. So programs of one user
delay neither the user's other mail nor anybody else's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mail.accounts import Account
from runtime.clock import Clock
from services.local.warmth import RUNNING_MAX

# Of one account: qmail had concurrencylocal for everybody.
ACCOUNT_RUNNING_MAX = 4
# Only what takes longer than this counts as slow: the queue need not hear of every filter.
SLOW_S = 1.0
# Slow deliveries with slots of their own; of one account; and the octets of their messages, which are held in memory.
SLOTS_MAX = 240
ACCOUNT_SLOTS_MAX = 16
HELD_OCTETS_MAX = 256 * 1024 * 1024
# An account of which no program has ended for so long is stuck: who waits without a slot of its own gives it back.
STUCK_S = 5.0


class Crowded(Exception):
    """The account's programs take too long for all of its deliveries to wait for."""


@dataclass(slots=True)
class _Lane:
    """The deliveries of one account that are or want to be in a program."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(ACCOUNT_RUNNING_MAX))
    present: int = 0
    slow: int = 0
    moved_at: float = 0.0  # when a turn came or ended


@dataclass(slots=True, eq=False)
class _Place:
    """One delivery's place."""

    lane: _Lane
    octets: int
    has_slot: bool = False


class Apart:
    """Gives turns. `offer` tells the worker how many more slots there are."""

    def __init__(self, clock: Clock, offer: Callable[[int], None]) -> None:
        self._clock = clock
        self._offer = offer
        self._lanes: dict[Account, _Lane] = {}
        self._turn = asyncio.Semaphore(RUNNING_MAX)
        self._slots = 0
        self._octets = 0

    @asynccontextmanager
    async def turn(self, account: Account, octets: int) -> AsyncIterator[None]:
        """The turn of one delivery of this account, whose message has so many octets. Crowded when it does not come in
        reasonable time."""
        lane = self._lanes.setdefault(account, _Lane())
        if not lane.present:
            lane.moved_at = self._clock.monotonic()
        place = _Place(lane, octets)
        lane.present += 1
        slow = asyncio.get_running_loop().call_later(SLOW_S, self._give_slot, place)
        try:
            await self._wait(place, lane.turn)
            try:
                await self._wait(place, self._turn)
                lane.moved_at = self._clock.monotonic()
                try:
                    yield
                finally:
                    self._turn.release()
            finally:
                lane.moved_at = self._clock.monotonic()
                lane.turn.release()
        finally:
            slow.cancel()
            self._take_slot(place)
            lane.present -= 1
            if not lane.present:
                del self._lanes[account]

    async def _wait(self, place: _Place, turn: asyncio.Semaphore) -> None:
        while True:
            left_s = place.lane.moved_at + STUCK_S - self._clock.monotonic()
            if left_s <= 0 and not place.has_slot and turn.locked():
                self._give_slot(place)
                if not place.has_slot:
                    raise Crowded
            try:
                async with asyncio.timeout(max(left_s, STUCK_S / 5)):
                    await turn.acquire()
                    return
            except TimeoutError:
                continue

    def _give_slot(self, place: _Place) -> None:
        may = not place.has_slot and place.lane.slow < ACCOUNT_SLOTS_MAX and self._slots < SLOTS_MAX
        if may and self._octets + place.octets <= HELD_OCTETS_MAX:
            place.has_slot = True
            self._count(place, 1)

    def _take_slot(self, place: _Place) -> None:
        if place.has_slot:
            place.has_slot = False
            self._count(place, -1)

    def _count(self, place: _Place, by: int) -> None:
        place.lane.slow += by
        self._slots += by
        self._octets += by * place.octets
        self._offer(self._slots)
