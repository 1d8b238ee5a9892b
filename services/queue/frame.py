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
from typing import NamedTuple

MAGIC = b"SPF1"
_HEADER = struct.Struct(">4sIQIQQII")
_CRC = struct.Struct(">I")
_RECORD = struct.Struct(">BII")

HEADER_OCTETS = _HEADER.size + _CRC.size
RECORD_OCTETS = _RECORD.size
OVERHEAD_OCTETS = HEADER_OCTETS + _CRC.size


class Place(NamedTuple):
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


class Span(NamedTuple):
    """Octets of a segment."""

    offset: int
    octets: int


@dataclass(frozen=True, slots=True)
class Found:
    """A whole frame: its sequence, its span in the segment, its records, and of each the span of its fields.

    A record's body stands right behind its fields; `bodies` says how long each is.
    """

    sequence: int
    start: int
    end: int
    records: tuple[Record, ...]
    fields: tuple[Span, ...]
    bodies: tuple[int, ...]


def encode(place: Place, sequence: int, records: list[Record]) -> tuple[list[bytes], list[Span]]:
    """The frame's octets as buffers, and for each record the span of its fields in the segment."""
    parts: list[bytes] = []
    fields: list[Span] = []
    position = place.offset + HEADER_OCTETS
    for record in records:
        parts.append(_RECORD.pack(record.kind, len(record.fields), len(record.body)))
        parts.append(record.fields)
        fields.append(Span(position + _RECORD.size, len(record.fields)))
        if record.body:
            parts.append(record.body)
        position += record.octets()
    payload = b"".join(parts)
    header = _HEADER.pack(
        MAGIC, place.log, place.token, place.segment, place.offset, sequence, len(payload), len(records)
    )
    header += _CRC.pack(zlib.crc32(header))
    return [header, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(header)))], fields


def octets_of(header: bytes) -> int:
    """How long the frame with this header is; 0 when it is no header."""
    if len(header) < HEADER_OCTETS or not _is_header(header):
        return 0
    return OVERHEAD_OCTETS + int(_HEADER.unpack_from(header)[6])


def _is_header(header: bytes) -> bool:
    return header[:4] == MAGIC and zlib.crc32(header[: _HEADER.size]) == _CRC.unpack_from(header, _HEADER.size)[0]


def decode(data: memoryview, place: Place, *, with_bodies: bool = True, base: int = 0) -> Found | None:
    """The frame at `place.offset` of a segment, or None when no whole one stands there.

    `data` are the segment's octets from `base` on.
    """
    start = place.offset - base
    if start + OVERHEAD_OCTETS > len(data):
        return None
    head = bytes(data[start : start + HEADER_OCTETS])
    if not _is_header(head):
        return None
    _, log, token, segment, offset, sequence, length, count = _HEADER.unpack_from(head)
    if Place(log, token, segment, offset) != place:
        return None
    payload_end = start + HEADER_OCTETS + length
    if payload_end + _CRC.size > len(data):
        return None
    if zlib.crc32(data[start:payload_end]) != _CRC.unpack_from(data, payload_end)[0]:
        return None
    found = list(_records(data, start + HEADER_OCTETS, payload_end, with_bodies))
    if not found or len(found) != count:
        return None
    fields = tuple(Span(base + at, length) for _, at, length, _ in found)
    return Found(
        sequence,
        place.offset,
        base + payload_end + _CRC.size,
        tuple(record for record, *_ in found),
        fields,
        tuple(body_octets for *_, body_octets in found),
    )


def _records(data: memoryview, position: int, end: int, with_bodies: bool) -> Iterator[tuple[Record, int, int, int]]:
    while position + _RECORD.size <= end:
        kind, fields_octets, body_octets = _RECORD.unpack_from(data, position)
        fields_at = position + _RECORD.size
        body_at = fields_at + fields_octets
        position = body_at + body_octets
        if position > end:
            return
        body = bytes(data[body_at:position]) if with_bodies else b""
        yield Record(kind, bytes(data[fields_at:body_at]), body), fields_at, fields_octets, body_octets


def next_whole(data: memoryview, place: Place) -> int | None:
    """The offset of the next whole frame after `place.offset`, or None: what tells damage from a torn tail."""
    raw = data.obj if isinstance(data.obj, bytes) else bytes(data)
    position = place.offset
    while (position := raw.find(MAGIC, position + 1)) >= 0:
        if decode(data, Place(place.log, place.token, place.segment, position), with_bodies=False):
            return position
    return None
