"""The three things that can become of a delivery. Ignorance means later: Failed needs proof.

A crash, a timeout, silence, an unknown code are Deferred. Translation to the wire is in runtime/wire.py.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Delivered:
    """It is where it belongs, and durable there. `report` is qmail's text, lines ended by a newline."""

    report: str


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. It will be tried again until the message is too old."""

    report: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Never. The sender is told."""

    report: str


Outcome = Delivered | Deferred | Failed


def word(outcome: Outcome) -> str:
    """qmail's word for it in the log (qmail-log(5))."""
    match outcome:
        case Delivered():
            return "success"
        case Deferred():
            return "deferral"
        case Failed():
            return "failure"
        case _:
            assert_never(outcome)


class Kind(IntEnum):
    """The number of each outcome, on the wire (proto/work.proto) and on the disk; it never changes."""

    DEFERRED = 0
    DELIVERED = 1
    FAILED = 2
