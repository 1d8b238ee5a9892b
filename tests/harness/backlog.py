"""A large backlog as queues have it: short addresses, one recipient, a thousand domains; and a spool filled with it.

Messages are never tried, or were deferred once with a report of ordinary length and wait for their next attempt. The
same number makes the same message but for its id and its times.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from mail import ids
from mail.routing import Channel, Route
from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from runtime.events import Events
from services.queue import records
from services.queue.spool import Spool
from services.queue.takeover import Taker

DOMAINS = 1_000
HOST = "mail.example.test"
CLUSTER_ID = "0" * 32
LOG = "0a1b2c3d"
OWNER = "queue-0"

# In one frame: so many records that filling waits for few syncs, and no more octets than a frame may have.
_GROUP_RECORDS = 1_000
_GROUP_OCTETS = 4 * 1024 * 1024

_LINE = b"The quick brown fox jumps over the lazy dog, and the dog lets it pass.\n"


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many messages wait, of which size; `deferred`: each was tried once and is due in one to two hours."""

    messages: int
    octets: int = 1_024
    deferred: bool = False


def sender(number: int) -> str:
    return f"sender{number % 1_000:04}@home.example"


def recipient(number: int) -> str:
    return f"user{number % 100_000:05}@d{number % DOMAINS:03}.example"


def body(octets: int) -> bytes:
    return (b"Subject: bench\n\n" + _LINE * (octets // len(_LINE) + 1))[:octets]


def report(number: int) -> str:
    """What a remote worker says of a host that wants it later: some 90 octets."""
    return f"Connected to 192.0.2.{number % 256} but greeting failed.\nRemote host said: 421 4.3.2 too busy, later\n"


def records_of(backlog: Backlog, now_ms: int) -> Iterator[list[records.Accepted | records.Settled]]:
    """What a log says of each message. They came evenly over the last hour, the last one now."""
    octets, chance = body(backlog.octets), SystemChance()
    for number in range(backlog.messages):
        born_ms = now_ms - (backlog.messages - number) * 3_600_000 // backlog.messages
        message = ids.make_id(born_ms, chance.octets(ids.CHANCE_BYTES))
        to = recipient(number)
        accepted = records.Accepted(
            id=message,
            arrived_ms=born_ms,
            sender=sender(number),
            recipients=(to,),
            routes=(Route(Channel.REMOTE, to),),
            size=len(octets),
            uid=7_791,
            body=octets,
        )
        due_ms = now_ms + 3_600_000 + number * 3_600_000 // backlog.messages
        deferral = records.Settled(message, 0, kind=0, attempts=1, next_attempt_ms=due_ms, report=report(number))
        yield [accepted, deferral] if backlog.deferred else [accepted]


def fill(path: str, backlog: Backlog) -> None:
    """Makes a spool of an empty directory, with one log that holds the backlog; its owner, OWNER, was killed."""
    disk, clock = Disk(), SystemClock()
    spool = Spool(path, disk)
    spool.prepare(HOST, CLUSTER_ID)
    taken = Taker(spool, disk, OWNER, Events(OWNER, clock)).create(LOG, 0)
    group: list[records.Said] = []
    most = min(_GROUP_RECORDS, _GROUP_OCTETS // backlog.octets)
    for said in records_of(backlog, clock.wall_ms()):
        group += said
        if len(group) >= most:
            taken.log.append(group)
            group = []
    if group:
        taken.log.append(group)
    taken.log.close()
    if taken.lock is not None:
        os.close(taken.lock)
