"""The names of logs, of their segments, and of the places in them. Pure: text and numbers."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from services.queue.frame import Span

_LOG_NAME = re.compile(r"([0-9a-f]{8})\.(\d{10})\.([A-Za-z0-9_-]{1,64})\Z")
_SEGMENT_NAME = re.compile(r"(\d{10})-(\d{6})\.seg\Z")
_LARGE_NAME = re.compile(r"[0-9a-v]{26}-[0-9a-f]{64}(\.\d+\.draft)?\Z")


@dataclass(frozen=True, slots=True)
class LogName:
    """`<log>.<token>.<owner>`: to hold this name is to own the log. `log` never changes."""

    log: str
    token: int
    owner: str

    def __str__(self) -> str:
        return f"{self.log}.{self.token:010}.{self.owner}"


class SegmentName(NamedTuple):
    """`<token>-<number>.seg`: only the holder of the token ever writes it."""

    token: int
    number: int

    def __str__(self) -> str:
        return f"{self.token:010}-{self.number:06}.seg"


def parse_log_name(name: str) -> LogName | None:
    found = _LOG_NAME.match(name)
    return LogName(found[1], int(found[2]), found[3]) if found else None


def parse_segment_name(name: str) -> SegmentName | None:
    found = _SEGMENT_NAME.match(name)
    return SegmentName(int(found[1]), int(found[2])) if found else None


def is_large_name(name: str) -> bool:
    """Whether this may be a body beside the segments, or one that was being written."""
    return _LARGE_NAME.match(name) is not None


class Position(NamedTuple):
    """Where a record stands: its fields, and its body right behind them."""

    segment: SegmentName
    fields: Span
    body_octets: int = 0

    @property
    def body(self) -> Span:
        return Span(self.fields.offset + self.fields.octets, self.body_octets)


# For what is learned before its commit: the record has no place yet.
NOWHERE = Position(SegmentName(0, 0), Span(0, 0))
