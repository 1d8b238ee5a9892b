"""Outcomes, and a worker's deliveries and results, between their values and the wire, in one place."""

from typing import assert_never

from mail.dsn import Wish
from mail.ids import MessageId
from mail.limits import REPORT_MAX_OCTETS
from mail.outcome import Deferred, Delivered, Failed, Outcome
from proto import work_pb2
from runtime.parcels import Delivery, Result, Target

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


def delivery_of(said: work_pb2.Delivery, body: bytes, cluster: str) -> Delivery:
    """A delivery whose body is complete, from the queue of that cluster."""
    return Delivery(
        key=said.key,
        log=said.log,
        id=MessageId(said.id),
        sender=said.sender,
        targets=tuple(map(_target_of, said.recipients)),
        arrived_ms=said.arrived_ms,
        body=body,
        number=said.number,
        cluster=cluster,
        envid=said.envid,
        ret=said.ret,
    )


def _target_of(said: work_pb2.Recipient) -> Target:
    return Target(said.index, said.address, tuple(said.done), Wish(said.notify, said.orcpt))


def outcome_message(delivery: Delivery, result: Result) -> work_pb2.Outcome:
    """What became of one target, as the queue is told."""
    return work_pb2.Outcome(
        key=delivery.key,
        id=delivery.id,
        recipient=result.target,
        kind=kind_of(result.outcome),
        report=cut(result.outcome.report),
        done=result.done,
        forwards=[
            work_pb2.Forward(
                sender=one.sender, recipients=one.recipients, header=one.header, instruction=one.instruction
            )
            for one in result.forwards
        ],
        possible_duplicate=result.possible_duplicate,
        relayed=result.relayed,
        unreachable=result.unreachable,
    )
