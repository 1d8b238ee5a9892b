"""The footer of a full segment: all its records without their bodies, so that a scan reads no bodies.

An entry is a kind, where the fields stand in the segment, their length and that of the body behind them, and the
fields. At the very end stands the offset of the footer's own frame, by which it is found. Pure.
"""

import struct
from collections.abc import Iterator

from services.queue.frame import OVERHEAD_OCTETS, Record, Span

_ENTRY = struct.Struct(">BQII")
_OFFSET = struct.Struct(">Q")
_CRC_OCTETS = 4

# What a segment ends with: the offset of its last frame, and that frame's checksum.
END_OCTETS = _OFFSET.size + _CRC_OCTETS

# A segment that is nearly all fields, with a thousand recipients a message, has no footer and is scanned as it is.
FOOTER_MAX_OCTETS = 8 * 1024 * 1024


class Footer:
    """Gathers the entries of a segment while it is written."""

    def __init__(self) -> None:
        self._entries = bytearray()

    def add(self, record: Record, fields: Span) -> None:
        if self.fits:
            self._entries += _ENTRY.pack(record.kind, fields.offset, fields.octets, len(record.body))
            self._entries += record.fields

    @property
    def fits(self) -> bool:
        return len(self._entries) <= FOOTER_MAX_OCTETS

    @property
    def octets(self) -> int:
        """What the footer's frame will take, at most."""
        return OVERHEAD_OCTETS + 16 + len(self._entries) + _OFFSET.size if self.fits else 0

    def written_at(self, offset: int) -> bytes:
        """The footer whose frame begins at `offset`."""
        return bytes(self._entries) + _OFFSET.pack(offset)


def offset_of(end: bytes) -> int:
    """Where the footer's frame begins, by the last END_OCTETS of the segment; anything when there is no footer."""
    return int(_OFFSET.unpack_from(end)[0])


def entries(octets: bytes) -> Iterator[tuple[Record, Span, int]]:
    """Of each record in the segment: itself without its body, the span of its fields, the length of its body."""
    at, end = 0, len(octets) - _OFFSET.size
    while at < end:
        kind, offset, length, body_octets = _ENTRY.unpack_from(octets, at)
        at += _ENTRY.size
        yield Record(kind, octets[at : at + length]), Span(offset, length), body_octets
        at += length
