"""A replica starts on the spool of one that was killed: how soon new mail is taken, and what it notices of the scan."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from services.queue.dispatch import REATTACH_S
from tests.bench.queue.load import Source, Stalled
from tests.bench.queue.replica import Replica

SCAN_MAX_S = 1_200.0

# New mail comes so often while the replica is watched.
_EVERY_S = 0.05

# A replica that wants less of a processor than this over a second has nothing to do but the mail that comes.
_BUSY = 0.3
_LOOK_S = 1.0

# After an unclean end what waits may go to workers only after REATTACH_S: the bench looks on for so long and a little.
_AFTER_S = REATTACH_S + 5.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds from the start of the process, and what new mail waited meanwhile."""

    first_s: float  # to the first COMMITTED
    scan_s: float  # to `took log`
    idle_s: float  # until nothing is left to do for the backlog
    typical_ms: float  # the median wait of a message for its COMMITTED, over the whole time
    slowest_ms: float
    slowest_at_s: float  # when that message came
    octets: int  # resident at the end
    peak_octets: int  # and at most
    scan_processor_s: float  # processor time until `took log`
    processor_s: float  # and until the end
    others_s: float  # for which a thread of it waited for a processor that others had


async def restart(replica: Replica, tls: Path, queued: int, octets: int) -> Restart:
    """Starts the replica and watches it until it is idle with so many messages; raises Stalled."""
    replica.start()
    async with Source(replica, tls, octets) as source:
        first_s = await source.first_s()
        waits: list[tuple[float, float]] = []
        probing = asyncio.create_task(_probe(replica, source, waits))
        try:
            scan_s = await _taken(replica, queued)
            scan_processor_s = replica.processor_s()
            idle_s, peak = await _idle(replica, scan_s)
        finally:
            probing.cancel()
    slowest_ms, slowest_at_s = max(waits)
    return Restart(
        first_s=first_s,
        scan_s=scan_s,
        idle_s=idle_s,
        typical_ms=median(wait for wait, _ in waits),
        slowest_ms=slowest_ms,
        slowest_at_s=slowest_at_s,
        octets=replica.resident_octets(),
        peak_octets=peak,
        scan_processor_s=scan_processor_s,
        processor_s=replica.processor_s(),
        others_s=replica.wanting_s() - replica.processor_s(),
    )


async def _probe(replica: Replica, source: Source, waits: list[tuple[float, float]]) -> None:
    """A message now and then: how long each waited, milliseconds, and when it came."""
    while True:
        came_s, began = replica.age_s, time.monotonic()
        if await source.send_one() is None:
            waits.append(((time.monotonic() - began) * 1_000, came_s))
        await asyncio.sleep(_EVERY_S)


async def _taken(replica: Replica, queued: int) -> float:
    while replica.age_s < SCAN_MAX_S:
        replica.check()
        if scan_s := replica.took(queued):
            return scan_s
        await asyncio.sleep(_LOOK_S / 4)
    raise Stalled(f"{replica.name} has not scanned its {queued} messages within {SCAN_MAX_S:g} s")


async def _idle(replica: Replica, scan_s: float) -> tuple[float, int]:
    """When the replica was busy last, and the most memory that it had."""
    busy_s, peak = scan_s, 0
    until_s = max(scan_s + _AFTER_S, replica.age_s + 3 * _LOOK_S)
    while replica.age_s < max(until_s, busy_s + 3 * _LOOK_S):
        wanted, began = replica.wanting_s(), time.monotonic()
        await asyncio.sleep(_LOOK_S)
        if replica.wanting_s() - wanted > _BUSY * (time.monotonic() - began):
            busy_s = replica.age_s
        peak = max(peak, replica.resident_octets())
    return busy_s, peak
