"""A message that is not finished, in memory. Pure."""

from dataclasses import dataclass, field
from enum import Enum

from mail.ids import MessageId
from mail.routing import Route
from services.queue.names import Position


class State(Enum):
    WAITING = "waiting"
    DELIVERING = "delivering"
    DELIVERED = "done"
    FAILED = "failed"


@dataclass(slots=True)
class Recipient:
    """One recipient of a message, and how far it is."""

    address: str
    route: Route
    state: State = State.WAITING
    attempts: int = 0
    next_attempt_ms: int = 0
    report: str = ""
    done: tuple[int, ...] = ()

    @property
    def settled(self) -> bool:
        return self.state in (State.DELIVERED, State.FAILED)


@dataclass(slots=True)
class Message:
    """A message that is not finished. Its body is at `position`, and in large/ when `large` is set."""

    id: MessageId
    sender: str
    arrived_ms: int
    size: int
    uid: int
    envid: str
    parent: str
    large: str
    body_crc: int
    position: Position
    recipients: list[Recipient] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        return all(recipient.settled for recipient in self.recipients)
