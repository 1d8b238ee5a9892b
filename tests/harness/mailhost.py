"""A mail server that says what a test tells it to: real sockets, real TLS, every kind of bad manners.

`answers` maps a command (`greeting`, `EHLO`, `MAIL`, `RCPT`, `RCPT a@b`, `DATA`, `dot`, ...) to the reply, without its
last line end; bytes are written as they are. RESET, CLOSE and SILENCE are answers too. A list gives one answer after
another, the last one for ever.
"""

import asyncio
import socket
import ssl
import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import cast


class Act(Enum):
    RESET = "reset"
    CLOSE = "close"
    SILENCE = "silence"


RESET, CLOSE, SILENCE = Act.RESET, Act.CLOSE, Act.SILENCE

Answer = str | bytes | Act

DEFAULTS: dict[str, Answer | list[Answer]] = {
    "greeting": "220 mx.example.org ESMTP",
    "EHLO": "250-mx.example.org\r\n250-PIPELINING\r\n250-SIZE 100000000\r\n250 8BITMIME",
    "HELO": "250 mx.example.org",
    "STARTTLS": "220 go ahead",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "dot": "250 2.0.0 taken",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


@dataclass
class Mailhost:
    """What it is told, and what it saw. `messages` are the raw octets before each final dot."""

    answers: dict[str, Answer | list[Answer]] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    connections: int = 0
    open_now: int = 0
    commands: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _server: asyncio.Server | None = None
    _peers: set["_Peer"] = field(default_factory=set)

    async def start(self, ip: str = "127.0.0.1", port: int = 0) -> "Mailhost":
        self._server = await asyncio.get_running_loop().create_server(lambda: _Peer(self), ip, port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server
        self._server.close()
        for peer in list(self._peers):
            peer.transport.abort()
        await self.until(lambda: self.open_now == 0)

    async def until(self, is_so: "object") -> None:
        """Waits until `is_so()` is true; looked at whenever something happens here."""
        assert callable(is_so)
        async with asyncio.timeout(20):
            while not is_so():
                self.changed.clear()
                await self.changed.wait()

    def answer(self, command: str, argument: str = "") -> Answer:
        found = self.answers.get(f"{command} {argument}")
        key = f"{command} {argument}" if found is not None else command
        found = self.answers.get(key, DEFAULTS.get(key, "500 unknown"))
        if isinstance(found, list):
            return found.pop(0) if len(found) > 1 else found[0]
        return found


class _Peer(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, host: Mailhost) -> None:
        self.host = host
        self.unread = b""
        self.in_message = False
        self.is_secured = False
        self.is_shaking_hands = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.host.connections += 1
        self.host.open_now += 1
        self.host._peers.add(self)
        self.say(self.host.answer("greeting"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.host.open_now -= 1
        self.host._peers.discard(self)
        self.host.changed.set()

    def data_received(self, data: bytes) -> None:
        self.unread += data
        while not self.is_shaking_hands and not self.transport.is_closing():
            end = b"\r\n.\r\n" if self.in_message else b"\r\n"
            if self.in_message and self.unread.startswith(b".\r\n"):
                message, self.unread = b"", self.unread[3:]
                self.end_of_message(message)
                continue
            head, found, rest = self.unread.partition(end)
            if not found:
                break
            self.unread = rest
            if self.in_message:
                self.end_of_message(head + b"\r\n")
            else:
                self.command(head.decode())
        self.host.changed.set()

    def end_of_message(self, message: bytes) -> None:
        self.in_message = False
        self.host.messages.append(message)
        self.host.secured.append(self.is_secured)
        self.say(self.host.answer("dot"))

    def command(self, line: str) -> None:
        self.host.commands.append(line)
        verb = line.split(" ")[0].upper()
        address = line[line.find("<") + 1 : line.rfind(">")] if "<" in line else ""
        answer = self.host.answer(verb, address)
        self.say(answer)
        if verb == "DATA" and isinstance(answer, str) and answer.startswith("354"):
            self.in_message = True
        if verb == "QUIT":
            self.transport.close()
        if verb == "STARTTLS" and isinstance(answer, str) and answer.startswith("220") and self.host.tls:
            self.is_shaking_hands = True  # what comes from inside TLS waits until the answers go there too
            self.handshake = asyncio.ensure_future(self.secure(self.host.tls))

    async def secure(self, context: ssl.SSLContext) -> None:
        try:
            secured = await asyncio.get_running_loop().start_tls(self.transport, self, context, server_side=True)
        except OSError:
            return
        if secured:
            self.transport = secured
            self.is_secured = True
            self.is_shaking_hands = False
            self.data_received(b"")

    def say(self, answer: Answer) -> None:
        match answer:
            case Act.RESET:
                raw: socket.socket = self.transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.transport.abort()
            case Act.CLOSE:
                self.transport.close()
            case Act.SILENCE:
                pass
            case bytes():
                self.transport.write(answer)
            case str():
                self.transport.write(answer.encode() + b"\r\n")
