"""A client of many connections that remembers every reply, and the reckoning at the end.

Every 250 is accounted for, exactly one copy each; nothing that was refused is ever delivered; nothing is altered. A
parcel whose connection broke after its final dot was sent is unknown: none or one copy of it is right, so it is not
sent again (window W0 is the client's). One that broke before the dot was never handed over, and is sent again.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.harness import maildir
from tests.harness.maildir import Copy, Parcel

SENDER = "sender@elsewhere.example"
# A client is patient: smtpd asks the next owner of a log for up to 60 s.
REPLY_S = 90.0
_RECONNECT_S = 0.02
_TRIES = 3_000


class Fate(Enum):
    """What the server said of a parcel."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Entry:
    """A parcel that was handed over to the final dot. `message` is the id in the 250."""

    name: str
    recipients: tuple[str, ...]
    fate: Fate
    reply: str
    message: str = ""


class Refused(Exception):
    """The server did not take the envelope; nothing was handed over."""


@dataclass(slots=True)
class Ledger:
    """Every reply. `broken` counts connections that ended under our hands."""

    entries: list[Entry] = field(default_factory=list)
    broken: int = 0
    put_off: int = 0
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, fate: Fate) -> list[Entry]:
        return [entry for entry in self.entries if entry.fate is fate]

    async def wait(self, count: int) -> None:
        """Returns when so many parcels have been answered."""
        async with self.progress:
            await self.progress.wait_for(lambda: len(self.entries) >= count)

    async def note(self, entry: Entry) -> None:
        async with self.progress:
            self.entries.append(entry)
            self.progress.notify_all()

    def summary(self) -> str:
        counts = ", ".join(f"{len(self.of(fate))} {fate.value}" for fate in Fate)
        return f"{counts}; {self.broken} connections broke, {self.put_off} envelopes were put off"


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be sent: each parcel to the recipients, over so many connections, each with a pause after a parcel."""

    port: int
    parcels: Iterable[Parcel]
    recipients: tuple[str, ...]
    connections: int = 10
    sender: str = SENDER
    pause_s: float = 0.0


async def send(what: Round, ledger: Ledger) -> None:
    """Sends every parcel and notes what became of it."""
    waiting = iter(what.parcels)
    async with asyncio.TaskGroup() as group:
        for _ in range(what.connections):
            group.create_task(_work(what, waiting, ledger))


async def _work(what: Round, waiting: Iterable[Parcel], ledger: Ledger) -> None:
    client = _Client(what.port)
    for parcel in waiting:
        for _ in range(_TRIES):
            if await _try(client, what, parcel, ledger):
                await asyncio.sleep(what.pause_s)
                break
            await asyncio.sleep(_RECONNECT_S)  # nothing tells us when somebody listens again
        else:
            raise AssertionError(f"{parcel.name} could not be handed over: {ledger.summary()}")
    await client.quit()


async def _try(client: "_Client", what: Round, parcel: Parcel, ledger: Ledger) -> bool:
    """Whether the parcel was handed over, whatever became of it then."""
    client.past_dot = False
    try:
        reply = await client.hand_over(what.sender, what.recipients, parcel.text)
    except Refused:
        ledger.put_off += 1
        return False
    except (OSError, EOFError, ValueError):
        ledger.broken += 1
        client.drop()
        if client.past_dot:
            await ledger.note(Entry(parcel.name, what.recipients, Fate.UNKNOWN, ""))
        return client.past_dot
    fate = Fate.ACCEPTED if reply.startswith("250") else Fate.REFUSED
    message = reply.split()[-1] if fate is Fate.ACCEPTED else ""
    await ledger.note(Entry(parcel.name, what.recipients, fate, reply, message))
    return True


class _Client:
    """One connection after another to one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.past_dot = False

    async def hand_over(self, sender: str, recipients: tuple[str, ...], text: bytes) -> str:
        """The reply to the final dot; Refused before it; OSError, EOFError or ValueError when the connection broke."""
        reader, writer = self._streams or await self._connect()
        commands = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
        writer.write("".join(f"{command}\r\n" for command in commands).encode())
        replies = [await _reply(reader) for _ in commands]
        if not replies[-1].startswith("354"):
            writer.write(b"RSET\r\n")
            await _reply(reader)
            raise Refused(replies[-1])
        if not all(reply.startswith("250") for reply in replies[:-1]):
            self.drop()  # with a part of the recipients this is not our parcel
            raise Refused(str(replies))
        self.past_dot = True
        writer.write(text.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        await writer.drain()
        return await _reply(reader)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._streams = reader, writer
        greeting = await _reply(reader)
        if not greeting.startswith("220"):
            raise EOFError(greeting)
        writer.write(b"EHLO client.example\r\n")
        await _reply(reader)
        return self._streams

    def drop(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def quit(self) -> None:
        if self._streams:
            self._streams[1].write(b"QUIT\r\n")
            self.drop()


async def _reply(reader: asyncio.StreamReader) -> str:
    """The last line of a reply; EOFError when the server hung up."""
    async with asyncio.timeout(REPLY_S):
        while line := await reader.readline():
            if line[3:4] == b" " and line.endswith(b"\r\n"):
                return line.decode().rstrip()
    raise EOFError


# -- the reckoning ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Found:
    """Where parcels ended up, by parcel and recipient. `copies` are all that were looked at."""

    delivered: Counter[tuple[str, str]] = field(default_factory=Counter)
    bounced: Counter[tuple[str, str]] = field(default_factory=Counter)
    queued: Counter[tuple[str, str]] = field(default_factory=Counter)
    copies: list[Copy] = field(default_factory=list)

    def look_into(self, home: Path, recipient: str) -> None:
        """Counts what lies in a Maildir as delivered to that recipient."""
        for copy in maildir.collect(home):
            self.copies.append(copy)
            self.delivered[copy.name, recipient] += 1


def violations(ledger: Ledger, found: Found) -> list[str]:
    """What breaks a promise, one line each; [] when every reply was true."""
    broken = [f"altered: {copy.path}" for copy in found.copies if not copy.whole]
    for entry in ledger.entries:
        for recipient in entry.recipients:
            key = entry.name, recipient
            count = found.delivered[key] + found.bounced[key] + found.queued[key]
            wanted = {Fate.ACCEPTED: (1,), Fate.REFUSED: (0,), Fate.UNKNOWN: (0, 1)}[entry.fate]
            if count not in wanted:
                broken.append(f"{entry.fate.value}, but there are {count}: {entry.name} to {recipient} {entry.message}")
    known = {entry.name for entry in ledger.entries}
    broken += [f"nobody sent this: {copy.path}" for copy in found.copies if copy.name not in known]
    return broken


def assert_kept(ledger: Ledger, found: Found) -> None:
    """Fails with the first violations and the ledger's summary."""
    broken = violations(ledger, found)
    assert not broken, f"{len(broken)} promises broken ({ledger.summary()}):\n" + "\n".join(broken[:20])
