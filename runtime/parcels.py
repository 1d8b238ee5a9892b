"""What a worker is given and what it gives back, as values. Pure: runtime/wire.py puts them on the wire."""

from dataclasses import dataclass

from mail.dsn import NO_WISH, Wish
from mail.ids import MessageId
from mail.outcome import Outcome


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
