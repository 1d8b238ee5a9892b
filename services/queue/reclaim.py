"""Giving disk back, from the oldest segment of a log upwards.

What still lives in the oldest segment is written forward; only when that is committed and re-checked is the segment
removed. Oldest first, because an outcome must outlive every older segment that it speaks about.
"""

import asyncio
from dataclasses import replace

from runtime.events import Events
from runtime.faults import Point, point
from services.queue import records
from services.queue.commit import tell
from services.queue.ledger import Ledger
from services.queue.log import DamagedBody
from services.queue.message import Message, snapshot_of
from services.queue.names import Position

# A segment is worth copying when at most a quarter of it still lives, or when more of the whole log is dead than
# alive: then what is copied is paid for by what is given back, and a log is at most twice as large as what it keeps.
_LIVE_PART = 4
_DEAD_SLACK = 4  # segments; a small log is left in peace

# Snapshots that are read and written at a time: they share a sync, and are not more memory than a few large messages.
_AT_ONCE = 64


async def reclaim(ledger: Ledger, events: Events) -> bool:
    """Removes the oldest segment of the log when that is worth its cost; says whether it did."""
    oldest = next(iter(ledger.log.segments))
    if not _is_worth_it(ledger):
        return False
    told = ledger.index.told_in(oldest)
    moved = 0
    for start in range(0, len(told.living), _AT_ONCE):
        # The end of one that is settled waits for its commit before ours; a snapshot after it would bring it back.
        messages = [ledger.index.get(message) for message in told.living[start : start + _AT_ONCE]]
        living = [message for message in messages if message and not message.settled]
        if not all(await asyncio.gather(*(_move(ledger, message, events) for message in living))):
            return False
        moved += len(living)
    if not await _remember(ledger, records.Remembered(tuple(told.finished), tuple(told.refused))):
        return False
    point(Point.RECLAIM_AFTER_SNAPSHOT)  # everything stands twice: the scan takes the later copy
    await ledger.commits.in_order(lambda: ledger.log.remove_segment(oldest))
    if oldest in ledger.log.segments:
        return False
    ledger.index.drop_segment(oldest)
    events.reclaimed(ledger.log.name.log, str(oldest), moved)
    return True


def _is_worth_it(ledger: Ledger) -> bool:
    log, live = ledger.log, ledger.index.live_octets
    oldest = next(iter(log.segments))
    if oldest == log.current:
        return False
    if ledger.cramped and live[oldest] * 2 > log.room:
        return False  # on a full disk only what fits into the blocks that are ours already
    if live[oldest] <= log.segments[oldest] // _LIVE_PART:
        return True
    alive = sum(live.values())
    return sum(log.segments.values()) - alive > alive + _DEAD_SLACK * log.segment_octets


async def _move(ledger: Ledger, message: Message, events: Events) -> bool:
    """Writes one message forward; False when whether it was is unknown."""
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def then(positions: list[Position] | None) -> None:
        message.changing -= 1
        if positions:
            ledger.index.move(message.id, positions[0])
        tell(future, positions is not None)

    snapshot = snapshot_of(message, _body(ledger, message, events))
    reported = tuple(replace(settled, report=ledger.report(message, settled.recipient)) for settled in snapshot.settled)
    message.changing += 1
    ledger.commits.add([replace(snapshot, settled=reported)], then)
    return await future


def _body(ledger: Ledger, message: Message, events: Events) -> bytes:
    """The body as it stands in its segment. A damaged one is moved as it is, with the checksum that it should have: it
    stays in the queue, seen to be damaged, and does not keep the segment."""
    try:
        return ledger.log.read(message.position, message.body_crc)
    except DamagedBody as error:
        events.alert(f"msg {message.id} is damaged and stays in the queue: {error}")
    try:
        return ledger.log.read_raw(message.position.segment, message.position.body)
    except DamagedBody:
        return bytes(message.position.body_octets)


async def _remember(ledger: Ledger, said: records.Remembered) -> bool:
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def then(positions: list[Position] | None) -> None:
        if positions:
            ledger.index.learn(said, positions[0])
        tell(future, positions is not None)

    ledger.commits.add([said], then)
    return await future
