"""What the log says: the records inside frames, as values, and their writing (proto/spool.proto).

The disk is a rim like the network: nobody but this module knows that records are written as protobuf. A kind is never
given a second meaning; a new one gets the next number.
"""

import zlib
from dataclasses import dataclass, field
from typing import assert_never

from google.protobuf.message import DecodeError

from mail.dsn import Wish
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
    ret: str = ""
    wishes: tuple[Wish, ...] = ()  # one for each recipient, or none at all
    body: bytes = field(default=b"", repr=False)
    body_crc: int = 0  # of `body` when it was accepted; 0: to be computed


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
    relayed: bool = False  # taken by a server that does not report deliveries
    warned: tuple[int, ...] = ()  # recipients of whose delay the sender was told with this


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
class Hold:
    """An operator holds a message, or, when `held` is false, lets go of it."""

    id: MessageId
    held: bool
    by: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class Removed:
    """An operator has ended a message; nobody is told."""

    id: MessageId
    by: str
    removed_ms: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A message written forward while its segment is reclaimed, with what has become of its recipients."""

    message: Accepted
    settled: tuple[Settled, ...]
    held: Hold | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """Ids whose own records are gone with their segment but that a producer may still ask about."""

    finished: tuple[MessageId, ...]
    refused: tuple[MessageId, ...]


@dataclass(frozen=True, slots=True)
class Released:
    """The owner ended in order: nothing was under way."""


@dataclass(frozen=True, slots=True)
class Footer:
    """The last record of a full segment: every record before it, without bodies (footer.py)."""

    entries: bytes = field(repr=False)


Said = Accepted | Settled | Refused | Finished | Seal | Snapshot | Remembered | Released | Footer | Hold | Removed

_ACCEPTED, _SETTLED, _REFUSED, _FINISHED, SEAL, _SNAPSHOT, _REMEMBERED, RELEASED, FOOTER, _HOLD, _REMOVED = range(1, 12)
_LETTERS = {Channel.LOCAL: "L", Channel.REMOTE: "R"}
CHANNELS = {letter: channel for channel, letter in _LETTERS.items()}


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
            return Record(SEAL, spool_pb2.Seal(segments=segments).SerializeToString())
        case Snapshot():
            return Record(_SNAPSHOT, _snapshot(said).SerializeToString(), said.message.body)
        case Remembered():
            remembered = spool_pb2.Remembered(finished=said.finished, refused=said.refused)
            return Record(_REMEMBERED, remembered.SerializeToString())
        case Released():
            return Record(RELEASED, b"")
        case Footer():
            return Record(FOOTER, b"", said.entries)
        case Hold():
            return Record(_HOLD, fields_of_hold(said).SerializeToString())
        case Removed():
            removed = spool_pb2.Removed(id=said.id, by=said.by, removed_ms=said.removed_ms)
            return Record(_REMOVED, removed.SerializeToString())
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
            return decode_snapshot(record.fields, record.body)
        case 7:
            ids = spool_pb2.Remembered.FromString(record.fields)
            return Remembered(tuple(map(MessageId, ids.finished)), tuple(map(MessageId, ids.refused)))
        case 8:
            return Released()
        case 9:
            return Footer(record.body)
        case 10:
            return hold_of(spool_pb2.Hold.FromString(record.fields))
        case 11:
            removed = spool_pb2.Removed.FromString(record.fields)
            return Removed(MessageId(removed.id), removed.by, removed.removed_ms)
        case _:
            raise UnknownRecord(f"kind {record.kind}")


def decode_snapshot(fields: bytes, body: bytes = b"") -> Snapshot:
    """The snapshot whose fields these are."""
    snapshot = spool_pb2.Snapshot.FromString(fields)
    return Snapshot(
        _read_accepted(snapshot.message, body),
        tuple(map(_read_settled, snapshot.settled)),
        hold_of(snapshot.held) if snapshot.HasField("held") else None,
    )


def _accepted(said: Accepted) -> spool_pb2.Accepted:
    return spool_pb2.Accepted(
        id=said.id,
        arrived_ms=said.arrived_ms,
        sender=said.sender,
        recipients=said.recipients,
        routed=map(routed, said.recipients, said.routes),
        uid=said.uid,
        envid=said.envid,
        parent=said.parent,
        size=said.size,
        large=said.large,
        ret=said.ret,
        notify=[wish.notify for wish in said.wishes],
        orcpt=[wish.orcpt for wish in said.wishes],
        body_crc=said.body_crc or zlib.crc32(said.body),
    )


def _read_accepted(fields: spool_pb2.Accepted, body: bytes) -> Accepted:
    return Accepted(
        id=MessageId(fields.id),
        arrived_ms=fields.arrived_ms,
        sender=fields.sender,
        recipients=tuple(fields.recipients),
        routes=tuple(
            Route(CHANNELS[channel[0]], channel[1:] or address)
            for channel, address in zip(fields.routed, fields.recipients, strict=True)
        ),
        size=fields.size,
        uid=fields.uid,
        envid=fields.envid,
        parent=fields.parent,
        large=fields.large,
        ret=fields.ret,
        wishes=tuple(map(Wish, fields.notify, fields.orcpt)),
        body=body,
        body_crc=fields.body_crc,
    )


def routed(address: str, route: Route) -> str:
    """The channel's letter, and the address when it was rewritten."""
    return _LETTERS[route.channel] + (route.address if route.address != address else "")


def _settled(said: Settled) -> spool_pb2.Settled:
    return spool_pb2.Settled(
        id=said.id,
        recipient=said.recipient,
        kind=said.kind,
        attempts=said.attempts,
        next_attempt_ms=said.next_attempt_ms,
        report=said.report,
        done=said.done,
        relayed=said.relayed,
        warned=said.warned,
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
        relayed=fields.relayed,
        warned=tuple(fields.warned),
    )


def _snapshot(said: Snapshot) -> spool_pb2.Snapshot:
    held = fields_of_hold(said.held) if said.held else None
    return spool_pb2.Snapshot(message=_accepted(said.message), settled=map(_settled, said.settled), held=held)


def fields_of_hold(said: Hold) -> spool_pb2.Hold:
    return spool_pb2.Hold(id=said.id, held=said.held, by=said.by, since_ms=said.since_ms)


def hold_of(fields: spool_pb2.Hold) -> Hold:
    return Hold(MessageId(fields.id), fields.held, fields.by, fields.since_ms)
