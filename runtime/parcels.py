"""What a worker is given and what it gives back: deliveries and results as values, and how they travel."""

from dataclasses import dataclass

from mail.dsn import NO_WISH, Wish
from mail.ids import MessageId
from mail.outcome import Outcome
from proto import work_pb2
from runtime import wire


@dataclass(frozen=True, slots=True)
class Target:
    """One recipient of a delivery: its position in the envelope, its address as rewritten, the instructions done, and
    what the sender wishes to be told of it."""

    index: int
    address: str
    done: tuple[int, ...]
    wish: Wish = NO_WISH


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver one message to its targets at one destination."""

    key: str
    log: str
    id: MessageId
    sender: str
    targets: tuple[Target, ...]
    arrived_ms: int
    body: bytes
    number: int
    cluster: str
    envid: str = ""
    ret: str = ""


@dataclass(frozen=True, slots=True)
class ForwardMail:
    """A message that the delivery wants sent on: `header` stands before the original message."""

    sender: str
    recipients: tuple[str, ...]
    header: str
    instruction: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one target."""

    target: int
    outcome: Outcome
    done: tuple[int, ...] = ()
    forwards: tuple[ForwardMail, ...] = ()
    possible_duplicate: bool = False
    relayed: bool = False  # taken by a server that does not report deliveries
    unreachable: bool = False  # the destination as a whole did not answer: the queue leaves it alone for a while


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


def outcome_of(delivery: Delivery, result: Result) -> work_pb2.Outcome:
    """What became of one target, as the queue is told."""
    return work_pb2.Outcome(
        key=delivery.key,
        id=delivery.id,
        recipient=result.target,
        kind=wire.kind_of(result.outcome),
        report=wire.cut(result.outcome.report),
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
