"""Who hands mail in: bin/qmail-queue with its two pipes, or a client that speaks over local's socket by itself.

Knows the words of both ways, and nothing of what a test wants to see queued.
"""

import asyncio
import contextlib
import os
import struct
import subprocess
import sys
from dataclasses import dataclass

from tests.harness.local_house import CHECKOUT, TIMEOUT_S, House

ENVELOPE = b"Fjoe@far.example\0Tann@mail.example.test\0\0"
BODY = b"Subject: x\n\nhello\n"
QMAIL_QUEUE = str(CHECKOUT / "bin" / "qmail-queue")
_BECOME = "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3); os.execv(sys.argv[2], sys.argv[2:])"
_open: list[asyncio.StreamWriter] = []


@dataclass
class Client:
    """A connection to the socket, and what the wire's words are."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def piece(self, octets: bytes) -> None:
        self.writer.write(struct.pack("!I", len(octets)) + octets)

    def part(self, octets: bytes) -> None:
        for start in range(0, len(octets), 65_536):
            self.piece(octets[start : start + 65_536])
        self.piece(b"")

    async def said(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), TIMEOUT_S)

    async def ended(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), TIMEOUT_S)


async def connect(house: House, greeting: bytes = b"+\n") -> Client:
    reader, writer = await asyncio.open_unix_connection(house.submit / "local-0")
    _open.append(writer)
    client = Client(reader, writer)
    assert await client.said() == greeting
    return client


async def hand_in(house: House, envelope: bytes = ENVELOPE, body: bytes = BODY) -> bytes:
    """What is answered to one submission."""
    client = await connect(house)
    client.part(body)
    client.part(envelope)
    return await client.said()


async def qmail_queue(
    house: House, envelope: bytes = ENVELOPE, body: bytes = BODY, uid: int | None = None, **environment: str
) -> int:
    """The exit status of bin/qmail-queue, from a parent that fills first one pipe to its end and then the other."""
    told = {"PATH": os.environ["PATH"], "SEAPOST_SOCKET_DIR": str(house.submit), **environment}
    return await asyncio.to_thread(_inject, told, envelope, body, uid)


def _inject(environment: dict[str, str], envelope: bytes, body: bytes, uid: int | None) -> int:
    message_end, message_in = os.pipe()
    envelope_end, envelope_in = os.pipe()
    # Not by Popen's `user`: a fork that is no vfork runs gRPC's handlers in the child.
    words = [QMAIL_QUEUE] if uid is None else [sys.executable, "-IS", "-c", _BECOME, str(uid), QMAIL_QUEUE]
    with subprocess.Popen(
        words, stdin=message_end, stdout=envelope_end, stderr=subprocess.PIPE, env=environment
    ) as program:
        for fd in (message_end, envelope_end):
            os.close(fd)
        for fd, octets in ((message_in, body), (envelope_in, envelope)):
            with open(fd, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
                pipe.write(octets)
        _, said = program.communicate(timeout=TIMEOUT_S)
    assert said == b"", "qmail-queue prints nothing"
    return program.returncode


async def hang_up() -> None:
    """Ends every connection that was made here."""
    while _open:
        _open[-1].close()
        with contextlib.suppress(ConnectionError):
            await _open.pop().wait_closed()
