"""A mail server of the world that remembers every transaction and says what a test tells it to say.

Runs in a thread of its own, so that tests may block. `replies` maps `RCPT user@host`, `MAIL`, `DATA`, `dot` and the
like to what is said: a reply, RESET (the connection is torn), or a list of them, one after another, the last for ever.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

RESET = "reset"
WAIT_S = 60.0

_DEFAULTS = {
    "EHLO": "250-sink.example\r\n250-PIPELINING\r\n250 8BITMIME",
    "HELO": "250 sink.example",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "RSET": "250 2.0.0 ok",
    "dot": "250 2.0.0 taken",
    "QUIT": "221 2.0.0 bye",
}


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message up to its final dot. `text` has CRLF line ends, without dot stuffing; `reply` is what we said to it."""

    sender: str
    recipients: tuple[str, ...]
    text: bytes
    reply: str

    @property
    def taken(self) -> bool:
        return self.reply.startswith("250")


@dataclass(slots=True)
class Sink:
    """What it is told, and what it saw."""

    replies: dict[str, str | list[str]] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def taken(self) -> list[Transaction]:
        """What it said 250 to, and what it saw whole before it tore the connection."""
        with self.changed:
            return [one for one in self.transactions if one.taken]

    def wait(self, is_so: Callable[["Sink"], bool], within_s: float = WAIT_S) -> None:
        """Returns when `is_so(self)`; looked at whenever a message came."""
        with self.changed:
            assert self.changed.wait_for(lambda: is_so(self), within_s), f"the sink has seen {self.transactions}"

    def reply(self, command: str, argument: str = "") -> str:
        key = f"{command} {argument}" if f"{command} {argument}" in self.replies else command
        found = self.replies.get(key, _DEFAULTS.get(key, "502 5.5.1 what?"))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        writer.write(b"220 sink.example ESMTP\r\n")
        try:
            await self._converse(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = ""
        recipients: list[str] = []
        while True:
            line = (await reader.readuntil(b"\r\n")).decode("utf-8", "surrogateescape").rstrip("\r\n")
            self.commands.append(line)
            verb = line.split(" ")[0].upper()
            address = line[line.find("<") + 1 : line.find(">")] if "<" in line else ""
            nobody = verb == "DATA" and not recipients  # RFC 2920 3.3: a pipelining client may ask all the same
            reply = "503 5.5.1 no recipients" if nobody else self.reply(verb, address)
            self._say(writer, reply)
            if verb in ("EHLO", "HELO", "RSET", "MAIL"):
                sender, recipients = address, []
            elif verb == "RCPT" and reply.startswith("250"):
                recipients.append(address)
            elif verb == "DATA" and reply.startswith("354"):
                text = await _read_message(reader)
                answer = self.reply("dot")
                with self.changed:
                    self.transactions.append(Transaction(sender, tuple(recipients), text, answer))
                    self.changed.notify_all()
                self._say(writer, answer)
            elif verb == "QUIT":
                return
            await writer.drain()

    def _say(self, writer: asyncio.StreamWriter, reply: str) -> None:
        if reply == RESET:
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            raise ConnectionResetError
        writer.write(reply.encode() + b"\r\n")


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    lines = []
    while (line := await reader.readuntil(b"\r\n")) != b".\r\n":
        lines.append(line.removeprefix(b".") if line.startswith(b".") else line)
    return b"".join(lines)


@contextmanager
def running(port: int = 0, **replies: str | list[str]) -> Iterator[Sink]:
    """A sink on loopback, on a free port by default, until the end of the block."""
    sink = Sink(dict(replies), port=port)
    started = threading.Event()
    over: list[Callable[[], None]] = []
    thread = threading.Thread(target=lambda: asyncio.run(_serve(sink, started, over)))
    thread.start()
    assert started.wait(WAIT_S)
    try:
        yield sink
    finally:
        over[0]()
        thread.join(WAIT_S)


async def _serve(sink: Sink, started: threading.Event, over: list[Callable[[], None]]) -> None:
    loop, end = asyncio.get_running_loop(), asyncio.Event()
    over.append(lambda: (loop.call_soon_threadsafe(end.set), None)[1])
    talks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.ensure_future(sink.talk(reader, writer))
        talks.add(talk)
        talk.add_done_callback(talks.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", sink.port, limit=1024 * 1024)
    sink.port = server.sockets[0].getsockname()[1]
    started.set()
    await end.wait()
    server.close()
    for talk in talks:
        talk.cancel()
    await asyncio.gather(*talks, return_exceptions=True)
