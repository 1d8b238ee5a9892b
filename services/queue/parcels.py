"""What the Work stream carries, between the wire and our own types: deliveries out, reports in, every field checked."""

from dataclasses import dataclass

from mail.address import acceptable
from mail.ids import MessageId
from mail.limits import BODY_CHUNK_OCTETS, RECIPIENTS_MAX
from mail.outcome import Kind
from mail.verp import sender_for
from proto import work_pb2
from runtime import wire
from services.queue.flights import Flight, parse_key
from services.queue.message import Message
from services.queue.settlement import Forward, Reported

# A Delivered-To line of the longest address, and what a later kind of worker may add.
_FORWARD_HEADER_MAX = 4_096
_UNSOUND = "The delivery wanted a forward that the queue cannot take. (#4.3.5)\n"


def delivery_of(flight: Flight, message: Message, body: bytes) -> work_pb2.Delivery:
    targets = [(index, message.recipients[index]) for index in flight.job.recipients]
    return work_pb2.Delivery(
        key=flight.job.key,
        log=flight.job.log,
        id=message.id,
        sender=sender_for(message.sender, targets[0][1].route.address),
        recipients=[
            work_pb2.Recipient(
                index=index,
                address=recipient.route.address,
                done=recipient.done,
                notify=recipient.wish.notify,
                orcpt=recipient.wish.orcpt,
            )
            for index, recipient in targets
        ],
        arrived_ms=message.arrived_ms,
        body=body[:BODY_CHUNK_OCTETS],
        size=len(body),
        number=flight.numbers[targets[0][0]],
        envid=message.envid,
        ret=message.ret,
    )


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker says became of a recipient; `reported` is None when its key names no delivery of ours.
    `unreachable`: the destination as a whole did not answer.
    """

    key: str
    log: str
    recipient: int
    reported: Reported | None
    possible_duplicate: bool
    unreachable: bool


def heard(outcome: work_pb2.Outcome) -> Heard:
    log, message, attempt, _ = parse_key(outcome.key)
    reported = _reported(message, attempt, outcome) if message else None
    return Heard(outcome.key, log, outcome.recipient, reported, outcome.possible_duplicate, outcome.unreachable)


def _reported(message: MessageId, attempt: int, outcome: work_pb2.Outcome) -> Reported:
    """A report with a forward that no envelope could hold is a deferral: nothing of it is done."""
    forwards = tuple(
        Forward(one.sender, tuple(one.recipients), one.header, one.instruction) for one in outcome.forwards
    )
    sound = len(forwards) <= RECIPIENTS_MAX and all(map(_is_sound, forwards))
    return Reported(
        id=message,
        recipient=outcome.recipient,
        attempt=attempt,
        kind=outcome.kind if sound else Kind.DEFERRED,
        report=wire.cut(outcome.report) if sound else _UNSOUND,
        done=tuple(outcome.done) if sound else (),
        forwards=forwards if sound else (),
        relayed=outcome.relayed,
    )


def _is_sound(forward: Forward) -> bool:
    return (
        1 <= len(forward.recipients) <= RECIPIENTS_MAX
        and all(map(acceptable, (forward.sender, *forward.recipients)))
        and len(forward.header) <= _FORWARD_HEADER_MAX
        and "\0" not in forward.header
    )
