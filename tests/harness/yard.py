"""A spool in a temporary folder, and the means to take its log as another owner would."""

import zlib
from dataclasses import dataclass, field

from mail import ids
from mail.ids import MessageId
from mail.routing import Channel, Route
from runtime.clock import SystemClock
from runtime.durable import Disk
from runtime.events import Events
from services.queue import records
from services.queue.index import Index
from services.queue.log import Log
from services.queue.names import Position
from services.queue.spool import Spool
from services.queue.takeover import Taken, Taker


@dataclass
class Yard:
    """A spool, and everything that was taken in it."""

    spool: Spool
    segment_octets: int = 1024 * 1024
    learned: list[records.Said] = field(default_factory=list)
    open_logs: list[Log] = field(default_factory=list)

    def taker(self, owner: str) -> Taker:
        return Taker(self.spool, Disk(), owner, Events(owner, SystemClock()), self.segment_octets)

    def create(self, owner: str = "queue-0") -> Log:
        taken = self.taker(owner).create("0a1b2c3d", 0)
        self.open_logs.append(taken.log)
        return taken.log

    def take(self, owner: str = "queue-1") -> Taken:
        """Takes the one log there is; `learned` is what it holds."""
        self.learned = []
        [name] = self.spool.logs()[0]
        taken = self.taker(owner).take(name, 0, lambda said, at: self.learned.append(said))
        self.open_logs.append(taken.log)
        return taken

    def index(self) -> Index:
        """What a taker knows after its scan."""
        index = Index()
        [name] = self.spool.logs()[0]

        def learn(said: records.Said, at: Position) -> None:
            index.learn(said, at)

        self.open_logs.append(self.taker("reader").take(name, 0, learn).log)
        return index


def an_id(number: int) -> MessageId:
    return ids.make_id(1_700_000_000_000, number.to_bytes(10, "big"))


def accepted(number: int, body: bytes = b"body\n") -> records.Accepted:
    return records.Accepted(
        id=an_id(number),
        arrived_ms=1_700_000_000_000,
        sender="a@b.example",
        recipients=("c@d.example",),
        routes=(Route(Channel.LOCAL, "c@d.example"),),
        size=len(body),
        body=body,
    )


def ids_of(learned: list[records.Said]) -> list[MessageId]:
    return [said.id for said in learned if isinstance(said, records.Accepted)]


def crc(body: bytes) -> int:
    return zlib.crc32(body)
