"""A message at rest, as octets: its place in the log, the places of its reports, and the fields of its own snapshot.

A third of the size of the message as objects, and no second format: the fields are those of proto/spool.proto. They are
written and read without the values of records.py between, because a start goes through every message of a log, and each
delivery out of a backlog wakes one.
"""

import struct

from mail.dsn import NO_WISH, SUCCESS, Wish
from mail.ids import MessageId
from mail.outcome import Kind
from mail.routing import Route
from proto import spool_pb2
from services.queue import records
from services.queue.frame import Span
from services.queue.message import KINDS, STATES, Message, Recipient, State
from services.queue.names import Position, SegmentName

# Token and number of the segment, offset and length of the fields, length of the body; that of a report has no body. A
# token has ten digits and a number six (names.py), so that the first octet of a place is 0.
_PLACE = struct.Struct(">QIII")
_REPORT = struct.Struct(">QII")
_NUMBER_BITS = 20
_NUMBER_MASK = (1 << _NUMBER_BITS) - 1


def pack(message: Message) -> bytes:
    """The octets of a message at rest; its id is the key under which they are kept."""
    snapshot = spool_pb2.Snapshot(message=_accepted(message))
    octets = _PLACE.pack(
        _segment_number(message.position.segment), *message.position.fields, message.position.body_octets
    )
    for index, recipient in enumerate(message.recipients):
        if recipient.attempts:
            octets += _REPORT.pack(_segment_number(recipient.told.segment), *recipient.told.fields)
            snapshot.settled.add(
                recipient=index,
                kind=KINDS.get(recipient.state, Kind.DEFERRED),
                attempts=recipient.attempts,
                next_attempt_ms=recipient.next_attempt_ms,
                done=recipient.done,
                relayed=recipient.relayed,
                warned=(index,) if recipient.warned else (),
            )
    if message.held:
        snapshot.held.CopyFrom(records.fields_of_hold(message.held))
    return octets + snapshot.SerializeToString()


def _accepted(message: Message) -> spool_pb2.Accepted:
    recipients = message.recipients
    fields = spool_pb2.Accepted(
        arrived_ms=message.arrived_ms,
        sender=message.sender,
        recipients=[one.address for one in recipients],
        routed=[records.routed(one.address, one.route) for one in recipients],
        uid=message.uid,
        size=message.size,
        body_crc=message.body_crc,
    )
    # Most messages have none of these, and each costs as much as all the others when it is set.
    if message.envid or message.parent or message.large or message.ret:
        fields.envid, fields.parent = message.envid, message.parent
        fields.large, fields.ret = message.large, message.ret
    if any([one.wish is not NO_WISH and one.wish != NO_WISH for one in recipients]):
        fields.notify.extend([one.wish.notify for one in recipients])
        fields.orcpt.extend([one.wish.orcpt for one in recipients])
    return fields


def unpack(message: MessageId, octets: bytes) -> Message:
    """The message that was packed."""
    # Places of reports stand before the snapshot, which alone says how many there are: a place begins with 0, and a
    # snapshot with the tag of its first field, which is not.
    start = _PLACE.size
    while octets[start] == 0:
        start += _REPORT.size
    snapshot = spool_pb2.Snapshot.FromString(octets[start:])
    said = snapshot.message
    number, offset, length, body_octets = _PLACE.unpack_from(octets)
    return Message(
        id=message,
        sender=said.sender,
        arrived_ms=said.arrived_ms,
        size=said.size,
        uid=said.uid,
        envid=said.envid,
        parent=said.parent,
        large=said.large,
        body_crc=said.body_crc,
        position=Position(_segment(number), Span(offset, length), body_octets),
        recipients=_recipients(snapshot, octets),
        ret=said.ret,
        asks_success=any([notify & SUCCESS for notify in said.notify]),
        held=records.hold_of(snapshot.held) if snapshot.HasField("held") else None,
    )


def _recipients(snapshot: spool_pb2.Snapshot, octets: bytes) -> list[Recipient]:
    said = snapshot.message
    recipients = [
        Recipient(address, Route(records.CHANNELS[routed[0]], routed[1:] or address))
        for address, routed in zip(said.recipients, said.routed, strict=True)
    ]
    if said.notify:
        for one, notify, orcpt in zip(recipients, said.notify, said.orcpt, strict=True):
            one.wish = Wish(notify, orcpt)
    for place, settled in enumerate(snapshot.settled):
        one = recipients[settled.recipient]
        one.attempts = settled.attempts
        one.next_attempt_ms = settled.next_attempt_ms
        one.done = tuple(settled.done)
        one.relayed = settled.relayed
        one.warned = bool(settled.warned)
        one.state = STATES.get(settled.kind, State.WAITING)
        number, offset, length = _REPORT.unpack_from(octets, _PLACE.size + place * _REPORT.size)
        one.told = Position(_segment(number), Span(offset, length))
    return recipients


def segment_of(octets: bytes) -> SegmentName:
    """Where a packed message stands, without unpacking it."""
    return _segment(_PLACE.unpack_from(octets)[0])


def _segment_number(name: SegmentName) -> int:
    return name.token << _NUMBER_BITS | name.number


def _segment(number: int) -> SegmentName:
    return SegmentName(number >> _NUMBER_BITS, number & _NUMBER_MASK)
