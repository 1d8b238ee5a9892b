"""Giving disk back, from the oldest segment of a log upwards.

What still lives in the oldest segment is written forward; only when that is committed and re-checked is the segment
removed. Oldest first, because an outcome must outlive every older segment that it speaks about.
"""

import asyncio
from dataclasses import replace

from mail.ids import MessageId
from mail.outcome import Kind
from runtime.events import Events
from runtime.faults import Point, point
from services.queue import records
from services.queue.index import Standing
from services.queue.ledger import Ledger
from services.queue.log import DamagedBody
from services.queue.message import Message, Recipient, State
from services.queue.names import Position, SegmentName

# A segment is worth copying when at most a quarter of it still lives, or when a log has so many that a scan is slow.
_LIVE_PART = 4
_SEGMENTS_MAX = 64

_KINDS = {
    State.DELIVERED: Kind.DELIVERED,
    State.FAILED: Kind.FAILED,
}


async def reclaim(ledger: Ledger, events: Events) -> bool:
    """Removes the oldest segment of the log when that is worth its cost; says whether it did."""
    segments = ledger.log.segments
    oldest = next(iter(segments))
    if oldest == ledger.log.current:
        return False
    if ledger.index.live_octets[oldest] > ledger.log.segment_octets // _LIVE_PART and len(segments) <= _SEGMENTS_MAX:
        return False
    # The end of one that is settled waits for its commit before ours; a snapshot after it would bring it back.
    living = [message for message in ledger.index.lives_in(oldest) if not message.settled]
    try:
        snapshots = [_snapshot(ledger, message) for message in living]
    except DamagedBody as error:
        events.alert(f"segment {oldest} is kept: {error}")
        return False
    written = [_written(ledger, message.id, said) for message, said in zip(living, snapshots, strict=True)]
    written.append(_written(ledger, None, _remembered(ledger, oldest)))
    if not all(await asyncio.gather(*written)):
        return False
    point(Point.RECLAIM_AFTER_SNAPSHOT)  # everything stands twice: the scan takes the later copy
    await ledger.commits.in_order(lambda: ledger.log.remove_segment(oldest))
    events.reclaimed(ledger.log.name.log, str(oldest), len(living))
    return True


def _written(ledger: Ledger, message: MessageId | None, said: records.Said) -> "asyncio.Future[bool]":
    """Commits one record; a message has moved there once it is committed."""
    future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def then(positions: list[Position] | None) -> None:
        if positions and message:
            ledger.index.move(message, positions[0])
        elif positions:
            ledger.index.learn(said, positions[0])
        future.set_result(positions is not None)

    ledger.commits.add([said], then)
    return future


def _snapshot(ledger: Ledger, message: Message) -> records.Snapshot:
    accepted = records.Accepted(
        id=message.id,
        arrived_ms=message.arrived_ms,
        sender=message.sender,
        recipients=tuple(recipient.address for recipient in message.recipients),
        routes=tuple(recipient.route for recipient in message.recipients),
        size=message.size,
        uid=message.uid,
        envid=message.envid,
        parent=message.parent,
        large=message.large,
    )
    body = ledger.log.read(message.position, message.body_crc)
    settled = tuple(
        _settled(message.id, index, recipient)
        for index, recipient in enumerate(message.recipients)
        if recipient.attempts
    )
    return records.Snapshot(replace(accepted, body=body), settled)


def _settled(message: MessageId, index: int, recipient: Recipient) -> records.Settled:
    return records.Settled(
        id=message,
        recipient=index,
        kind=_KINDS.get(recipient.state, Kind.DEFERRED),
        attempts=recipient.attempts,
        next_attempt_ms=recipient.next_attempt_ms,
        report=recipient.report,
        done=recipient.done,
    )


def _remembered(ledger: Ledger, segment: SegmentName) -> records.Remembered:
    index = ledger.index
    return records.Remembered(
        finished=index.remembered_in(segment, Standing.FINISHED),
        refused=index.remembered_in(segment, Standing.REFUSED),
    )
