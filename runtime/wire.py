"""Outcomes between the words of mail/outcome.py and the wire, in both directions, in one place."""

from typing import assert_never

from mail.limits import REPORT_MAX_OCTETS
from mail.outcome import Deferred, Delivered, Failed, Outcome
from proto import work_pb2

_TOO_LONG = "\nError report too long, sorry.\n"


def kind_of(outcome: Outcome) -> work_pb2.Outcome.Kind.ValueType:
    match outcome:
        case Delivered():
            return work_pb2.Outcome.DELIVERED
        case Deferred():
            return work_pb2.Outcome.DEFERRED
        case Failed():
            return work_pb2.Outcome.FAILED
        case _:
            assert_never(outcome)


def outcome_of(kind: int, report: str) -> Outcome:
    """The outcome that a kind on the wire or on the disk means. An unknown kind is ignorance: later."""
    report = cut(report)
    if kind == work_pb2.Outcome.DELIVERED:
        return Delivered(report)
    if kind == work_pb2.Outcome.FAILED:
        return Failed(report)
    return Deferred(report)


def cut(report: str) -> str:
    """A report of bearable length, cut as qmail-lspawn cuts it; what UTF-8 cannot carry is replaced."""
    raw = report.encode("utf-8", "replace")
    if len(raw) <= REPORT_MAX_OCTETS:
        return raw.decode()
    return raw[:REPORT_MAX_OCTETS].decode("utf-8", "ignore") + _TOO_LONG
