"""A real smtpd on a real port for tests: real sessions, rules and door; a queue and a keeper that are dictionaries.

The queue and the keeper satisfy the same Protocol classes as runtime/producer.py and services/smtpd/accounts.py.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.clock import SystemChance, SystemClock
from runtime.config import Address
from runtime.events import Events
from runtime.producer import Submission
from services.smtpd import tcprules
from services.smtpd.connection import Office
from services.smtpd.door import Door
from services.smtpd.policy import Rules, Verdict
from services.smtpd.session import Session

RULES = Rules(
    me="mail.example.test",
    greeting="mail.example.test",
    localiphost="mail.example.test",
    rcpthosts=frozenset({"mail.example.test", ".sub.example.test", "backup.example.test"}),
    badmailfrom=frozenset({"bad@example.test", "@spam.example.test"}),
    databytes=2 * 1024 * 1024,
    timeout_s=20,
    connections=200,
    connections_per_ip=100,
    peers=tcprules.Rules(),
)
RELAY = tcprules.parse('127.:allow,RELAYCLIENT=""')


@dataclass
class DictQueue:
    """Keeps what it is given; answers `reply` (None: committed); waits at `gate` before it answers."""

    messages: list[Submission] = field(default_factory=list)
    reply: str | None = None
    open: bool = True
    gate: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def available(self) -> bool:
        return self.open

    async def submit(self, submission: Submission) -> str | None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.reply is None:
            self.messages.append(submission)
        return self.reply


class DictKeeper:
    """Knows joe and postmaster at mail.example.test, is unsure about everybody named unsure; the rest is nobody."""

    def known(self, recipient: str) -> Verdict | None:
        return None

    async def verdict(self, recipient: str) -> Verdict:
        local, _, domain = recipient.lower().rpartition("@")
        local = local or domain
        if domain not in ("mail.example.test", "postmaster"):
            return Verdict.ELSEWHERE
        if local == "unsure":
            return Verdict.UNSURE
        known = local in ("joe", "postmaster", "jim") or local.startswith("list-")
        return Verdict.DELIVERABLE if known else Verdict.NOBODY


class Peer:
    """A raw client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def reply(self) -> str:
        """The next reply, its lines joined; "" when the server has closed."""
        lines = []
        while line := (await asyncio.wait_for(self.reader.readline(), 20)).decode():
            assert line.endswith("\r\n")
            lines.append(line.rstrip())
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    async def ask(self, said: bytes) -> str:
        self.writer.write(said)
        return await self.reply()

    async def rest(self) -> list[str]:
        """Every reply until the server closes."""
        replies = []
        while reply := await self.reply():
            replies.append(reply)
        return replies


@dataclass
class Server:
    """A running smtpd."""

    address: Address
    office: Office
    queue: DictQueue
    door: Door
    _events_dir: Path
    rules: Rules
    _peers: list[Peer] = field(default_factory=list)

    async def peer(self, connection: socket.socket | None = None) -> Peer:
        """A client, closed when the server ends; on `connection` when there is one already."""
        if connection is None:
            streams = await asyncio.open_connection(self.address.host, self.port)
        else:
            connection.setblocking(False)
            streams = await asyncio.open_connection(sock=connection)
        self._peers.append(Peer(*streams))
        return self._peers[-1]

    async def close(self) -> None:
        for peer in self._peers:
            peer.writer.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                await peer.writer.wait_closed()
        await self.door.close(5)

    @property
    def port(self) -> int:
        return self.address.port

    def events(self) -> list[dict[str, Any]]:
        """Everything that has happened, in order."""
        self.office.events.flush()
        return [json.loads(line) for file in self._events_dir.iterdir() for line in file.read_text().splitlines()]

    def connect(self) -> socket.socket:
        """A blocking socket; the connection waits in the backlog until the loop runs."""
        return socket.create_connection((self.address.host, self.port), timeout=20)


@contextlib.asynccontextmanager
async def running(directory: Path, time_scale: float = 1.0, **changes: Any) -> AsyncIterator[Server]:
    """smtpd with RULES but for `changes`."""
    loop = asyncio.get_running_loop()
    rules = replace(RULES, **changes)
    clock = SystemClock(time_scale)
    events = Events("smtpd-0", clock, directory=str(directory))
    door, queue = Door(), DictQueue()
    office = Office(lambda: rules, queue, DictKeeper(), door, clock, SystemChance(), events, 7791)
    address = await door.open(Address("127.0.0.1", 0), lambda: Session(office, loop))
    server = Server(address, office, queue, door, directory, rules)
    try:
        yield server
    finally:
        await server.close()


OPENING = b"EHLO c\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@mail.example.test>\r\nDATA\r\n"
GOOD = b"Subject: x\r\n\r\ntext\r\n.\r\n"


async def peer(server: Server, greet: bool = True) -> Peer:
    found = await server.peer()
    if greet:
        assert (await found.reply()).startswith("220 mail.example.test ESMTP")
        assert "PIPELINING" in await found.ask(OPENING)
    return found


async def reach_data(client: Peer) -> None:
    """Up to 354."""
    for reply in [await client.ask(ENVELOPE), await client.reply(), await client.reply()]:
        assert reply[:1] in "23", reply
