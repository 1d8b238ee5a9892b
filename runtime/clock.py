"""Time and chance, handed to whoever needs them, so that a five-day retry takes a millisecond in a test."""

import os
import time
from typing import Protocol

from mail.ids import CHANCE_BYTES, MessageId, make_id


class Clock(Protocol):
    """What time it is. `scaled` applies TIME_SCALE, which leases, heartbeats and RPC deadlines never use."""

    def wall_ms(self) -> int: ...

    def monotonic(self) -> float: ...

    def scaled(self, seconds: float) -> float: ...


class SystemClock:
    """The machine's clock; `time_scale` 0.01 makes an hour 36 seconds."""

    def __init__(self, time_scale: float = 1.0) -> None:
        self._scale = time_scale

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def scaled(self, seconds: float) -> float:
        return seconds * self._scale


class Chance(Protocol):
    """Where randomness comes from."""

    def octets(self, count: int) -> bytes: ...


class SystemChance:
    """The kernel's randomness."""

    def octets(self, count: int) -> bytes:
        return os.urandom(count)


def fresh_id(clock: Clock, chance: Chance) -> MessageId:
    """A new message id, born now."""
    return make_id(clock.wall_ms(), chance.octets(CHANCE_BYTES))
