"""Time and chance, handed to whoever needs them, so that a five-day retry takes a millisecond in a test."""

import os
import time
from typing import Protocol

from mail.ids import CHANCE_BYTES, MessageId, make_id


class Clock(Protocol):
    """What time it is. `scaled` applies TIME_SCALE, which leases, heartbeats and RPC deadlines never use.

    `wall_ms` is for ids, headers and file names, and may jump. `steady_ms` is for whatever waits: the wall's time when
    the process began, and from then on what has passed, a sleep of the machine included.
    """

    def wall_ms(self) -> int: ...

    def boot_ms(self) -> int: ...

    def steady_ms(self) -> int: ...

    def monotonic(self) -> float: ...

    def scaled(self, seconds: float) -> float: ...


class SystemClock:
    """The machine's clock; `time_scale` 0.01 makes an hour 36 seconds."""

    def __init__(self, time_scale: float = 1.0) -> None:
        self._scale = time_scale
        self._began_ms = self.wall_ms() - self.boot_ms()

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def boot_ms(self) -> int:
        """Since the machine was started, its sleep included (CLOCK_BOOTTIME of clock_gettime(2)): nobody can set it."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def steady_ms(self) -> int:
        return self._began_ms + self.boot_ms()

    def monotonic(self) -> float:
        return time.monotonic()

    def scaled(self, seconds: float) -> float:
        return seconds * self._scale


def boot_id() -> str:
    """Which start of which machine this is, as 32 hexadecimal digits (random(4)); what `boot_ms` counts from."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read(64).strip().replace("-", "")


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
