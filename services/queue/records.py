"""What the log says: the records inside frames, as values, and their writing (proto/spool.proto).

The disk is a rim like the network: nobody but this module knows that records are written as protobuf. A kind is never
given a second meaning; a new one gets the next number.
"""

import zlib
from dataclasses import dataclass, field
from typing import assert_never

from google.protobuf.message import DecodeError

from mail.ids import MessageId
from mail.routing import Channel, Route
from proto import spool_pb2
from services.queue.frame import Record


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message was taken. It is `body` and, when `large` is set, the contents of that file after it."""

    id: MessageId
    arrived_ms: int
    sender: str
    recipients: tuple[str, ...]
    routes: tuple[Route, ...]
    size: int
    uid: int = 0
    envid: str = ""
    parent: str = ""
    large: str = ""
    body: bytes = field(default=b"", repr=False)
    body_crc: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of one recipient at one attempt; `kind` as on the wire (proto/work.proto)."""

    id: MessageId
    recipient: int
    kind: int
    attempts: int
    next_attempt_ms: int
    report: str
    done: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A tombstone: this id was never taken and never will be."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Finished:
    """Every recipient is settled; the bounce, if there is one, is in the same frame."""

    id: MessageId


@dataclass(frozen=True, slots=True)
class Seal:
    """Of every segment of earlier owners the length that counts."""

    lengths: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A message written forward while its segment is reclaimed, with what has become of its recipients."""

    message: Accepted
    settled: tuple[Settled, ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """Ids whose own records are gone with their segment but that a producer may still ask about."""

    finished: tuple[MessageId, ...]
    refused: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """The owner ended in order: nothing was under way."""


Said = Accepted | Settled | Refused | Finished | Seal | Snapshot | Remembered | Released

_ACCEPTED, _SETTLED, _REFUSED, _FINISHED, _SEAL, _SNAPSHOT, _REMEMBERED, _RELEASED = range(1, 9)
_LETTERS = {Channel.LOCAL: "L", Channel.REMOTE: "R"}
_CHANNELS = {letter: channel for channel, letter in _LETTERS.items()}


class UnknownRecord(Exception):
    """The log holds a record that this version does not know: a newer version has written here."""


def encode(said: Said) -> Record:
    """The record that says it."""
    match said:
        case Accepted():
            return Record(_ACCEPTED, _accepted(said).SerializeToString(), said.body)
        case Settled():
            return Record(_SETTLED, _settled(said).SerializeToString())
        case Refused():
            return Record(_REFUSED, spool_pb2.Refused(id=said.id).SerializeToString())
        case Finished():
            return Record(_FINISHED, spool_pb2.Finished(id=said.id).SerializeToString())
        case Seal():
            segments = [spool_pb2.SealedSegment(name=name, length=length) for name, length in said.lengths.items()]
            return Record(_SEAL, spool_pb2.Seal(segments=segments).SerializeToString())
        case Snapshot():
            fields = spool_pb2.Snapshot(message=_accepted(said.message), settled=map(_settled, said.settled))
            return Record(_SNAPSHOT, fields.SerializeToString(), said.message.body)
        case Remembered():
            remembered = spool_pb2.Remembered(finished=said.finished, refused=said.refused)
            return Record(_REMEMBERED, remembered.SerializeToString())
        case Released():
            return Record(_RELEASED, b"")
        case _:
            assert_never(said)


def decode(record: Record) -> Said:
    """What a record says; UnknownRecord when this version cannot know."""
    try:
        return _decode(record)
    except DecodeError as error:
        raise UnknownRecord(f"kind {record.kind} does not read") from error


def _decode(record: Record) -> Said:
    match record.kind:
        case 1:
            return _read_accepted(spool_pb2.Accepted.FromString(record.fields), record.body)
        case 2:
            return _read_settled(spool_pb2.Settled.FromString(record.fields))
        case 3:
            return Refused(MessageId(spool_pb2.Refused.FromString(record.fields).id))
        case 4:
            return Finished(MessageId(spool_pb2.Finished.FromString(record.fields).id))
        case 5:
            seal = spool_pb2.Seal.FromString(record.fields)
            return Seal({segment.name: segment.length for segment in seal.segments})
        case 6:
            snapshot = spool_pb2.Snapshot.FromString(record.fields)
            settled = tuple(_read_settled(one) for one in snapshot.settled)
            return Snapshot(_read_accepted(snapshot.message, record.body), settled)
        case 7:
            ids = spool_pb2.Remembered.FromString(record.fields)
            return Remembered(tuple(map(MessageId, ids.finished)), tuple(map(MessageId, ids.refused)))
        case 8:
            return Released()
        case _:
            raise UnknownRecord(f"kind {record.kind}")


def _accepted(said: Accepted) -> spool_pb2.Accepted:
    return spool_pb2.Accepted(
        id=said.id,
        arrived_ms=said.arrived_ms,
        sender=said.sender,
        recipients=said.recipients,
        routed=[_LETTERS[route.channel] + route.address for route in said.routes],
        uid=said.uid,
        envid=said.envid,
        parent=said.parent,
        size=said.size,
        large=said.large,
        body_crc=zlib.crc32(said.body),
    )


def _read_accepted(fields: spool_pb2.Accepted, body: bytes) -> Accepted:
    return Accepted(
        id=MessageId(fields.id),
        arrived_ms=fields.arrived_ms,
        sender=fields.sender,
        recipients=tuple(fields.recipients),
        routes=tuple(Route(_CHANNELS[routed[0]], routed[1:]) for routed in fields.routed),
        size=fields.size,
        uid=fields.uid,
        envid=fields.envid,
        parent=fields.parent,
        large=fields.large,
        body=body,
        body_crc=fields.body_crc,
    )


def _settled(said: Settled) -> spool_pb2.Settled:
    return spool_pb2.Settled(
        id=said.id,
        recipient=said.recipient,
        kind=said.kind,
        attempts=said.attempts,
        next_attempt_ms=said.next_attempt_ms,
        report=said.report,
        done=said.done,
    )


def _read_settled(fields: spool_pb2.Settled) -> Settled:
    return Settled(
        id=MessageId(fields.id),
        recipient=fields.recipient,
        kind=fields.kind,
        attempts=fields.attempts,
        next_attempt_ms=fields.next_attempt_ms,
        report=fields.report,
        done=tuple(fields.done),
    )
