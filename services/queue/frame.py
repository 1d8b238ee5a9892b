"""Frames: the unit of commit of the log. A frame counts whole or not at all.

    header   magic, log, token, segment, offset, sequence, payload length, number of records, CRC of these
    payload  the records, each: kind, length of its fields, length of its body, fields, body
    trailer  CRC of header and payload

Log, token, segment and offset are under the CRC, so that a recycled block or a frame of another place never passes for
one of here. Pure: octets in, values out.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"SPF1"
_HEADER = struct.Struct(">4sIQIQQII")
_CRC = struct.Struct(">I")
_RECORD = struct.Struct(">BII")

HEADER_OCTETS = _HEADER.size + _CRC.size
OVERHEAD_OCTETS = HEADER_OCTETS + _CRC.size


@dataclass(frozen=True, slots=True)
class Place:
    """Where a frame stands: all of it is in the frame's header."""

    log: int
    token: int
    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its fields as octets (services/queue/records.py) and the body behind them."""

    kind: int
    fields: bytes
    body: bytes = b""

    def octets(self) -> int:
        return _RECORD.size + len(self.fields) + len(self.body)


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of a segment."""

    offset: int
    octets: int


@dataclass(frozen=True, slots=True)
class Found:
    """A whole frame: its sequence, its span in the segment, its records, and of each the span of its body."""

    sequence: int
    start: int
    end: int
    records: tuple[Record, ...]
    bodies: tuple[Span, ...]


def encode(place: Place, sequence: int, records: list[Record]) -> tuple[list[bytes], list[Span]]:
    """The frame's octets as buffers, and for each record the span of its body in the segment."""
    parts: list[bytes] = []
    bodies: list[Span] = []
    position = place.offset + HEADER_OCTETS
    for record in records:
        parts.append(_RECORD.pack(record.kind, len(record.fields), len(record.body)))
        parts.append(record.fields)
        bodies.append(Span(position + _RECORD.size + len(record.fields), len(record.body)))
        if record.body:
            parts.append(record.body)
        position += record.octets()
    payload = b"".join(parts)
    header = _HEADER.pack(
        MAGIC, place.log, place.token, place.segment, place.offset, sequence, len(payload), len(records)
    )
    header += _CRC.pack(zlib.crc32(header))
    return [header, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(header)))], bodies


def decode(data: memoryview, place: Place, *, with_bodies: bool = True) -> Found | None:
    """The frame at `place.offset` of a segment whose octets are `data`, or None when no whole one stands there."""
    start = place.offset
    if start + OVERHEAD_OCTETS > len(data):
        return None
    head = bytes(data[start : start + HEADER_OCTETS])
    if head[:4] != MAGIC or zlib.crc32(head[: _HEADER.size]) != _CRC.unpack_from(head, _HEADER.size)[0]:
        return None
    _, log, token, segment, offset, sequence, length, count = _HEADER.unpack_from(head)
    if Place(log, token, segment, offset) != place:
        return None
    payload_end = start + HEADER_OCTETS + length
    if payload_end + _CRC.size > len(data):
        return None
    if zlib.crc32(data[start:payload_end]) != _CRC.unpack_from(data, payload_end)[0]:
        return None
    records: list[Record] = []
    bodies: list[Span] = []
    for record, body in _records(data, start + HEADER_OCTETS, payload_end, with_bodies):
        records.append(record)
        bodies.append(body)
    if len(records) != count:
        return None
    return Found(sequence, start, payload_end + _CRC.size, tuple(records), tuple(bodies))


def _records(data: memoryview, position: int, end: int, with_bodies: bool) -> Iterator[tuple[Record, Span]]:
    while position + _RECORD.size <= end:
        kind, fields_octets, body_octets = _RECORD.unpack_from(data, position)
        fields_at = position + _RECORD.size
        body_at = fields_at + fields_octets
        position = body_at + body_octets
        if position > end:
            return
        body = bytes(data[body_at:position]) if with_bodies else b""
        yield Record(kind, bytes(data[fields_at:body_at]), body), Span(body_at, body_octets)


def next_whole(data: memoryview, place: Place) -> int | None:
    """The offset of the next whole frame after `place.offset`, or None: what tells damage from a torn tail."""
    raw = data.obj if isinstance(data.obj, bytes) else bytes(data)
    position = place.offset
    while (position := raw.find(MAGIC, position + 1)) >= 0:
        if decode(data, Place(place.log, place.token, place.segment, position), with_bodies=False):
            return position
    return None
