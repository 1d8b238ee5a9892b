"""The front's hold on the child that keeps one session's maildrop: ask, get the answer, or learn that there is none.

Knows the lines of exchange.py and descriptors over a socket; must not know POP3 or the network. One question at a time.
A child that dies, lies or does not answer in time is KeeperGone, and the session ends without a change.
"""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.pop3 import exchange
from services.pop3.exchange import ExchangeError, Listing, Opened, OpenMaildrop, OpenMessage, Request, Settle
from services.pop3.protocol import Maildrop

_READ_OCTETS = 64 * 1024
# Reading a hundred thousand messages for their sizes took 6 s on a slow disk; never scaled, it is about disks.
OPEN_WITHIN_S = 120.0
ANSWER_WITHIN_S = 120.0


class KeeperGone(Exception):
    """The child has ended, or says what it should not."""


@dataclass(frozen=True, slots=True)
class MessageFile:
    """A message open for reading, to be closed by whoever got it; what is written to it after `size` is not read."""

    fd: int
    size: int


class Keeper:
    """One session's child behind `line`, which closing ends, and the lock with it."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._line.setblocking(False)
        self._buffer = bytearray()
        self._fds: list[int] = []

    async def open(self) -> Maildrop | Opened:
        """Locks and lists the maildrop; or says why not."""
        listing = Listing()
        async with _answered(OPEN_WITHIN_S):
            await self._ask(OpenMaildrop())
            while listing.finished is None:
                listing.add(await self._next_line())
        return listing.maildrop() if listing.finished is Opened.OK else listing.finished

    async def message(self, number: int) -> MessageFile | None:
        """The message of that number; None when it cannot be read any more."""
        async with _answered(ANSWER_WITHIN_S):
            await self._ask(OpenMessage(number))
            if not exchange.parse_done(await self._next_line()):
                return None
        if len(self._fds) != 1:
            raise KeeperGone("not one descriptor with the answer")
        found = os.fstat(self._fds[0])
        if not stat.S_ISREG(found.st_mode):  # reading anything else could wait for ever
            raise KeeperGone("not a regular file")
        return MessageFile(self._fds.pop(), found.st_size)

    async def settle(self, deleted: tuple[int, ...]) -> bool:
        """Deletes, durably; False when something could not be deleted."""
        async with _answered(ANSWER_WITHIN_S):
            await self._ask(Settle(deleted))
            return exchange.parse_done(await self._next_line())

    def close(self) -> None:
        """The child ends. Safe at any time, more than once."""
        self._line.close()
        while self._fds:
            os.close(self._fds.pop())

    async def _ask(self, request: Request) -> None:
        await asyncio.get_running_loop().sock_sendall(self._line, exchange.request_line(request))

    async def _next_line(self) -> bytes:
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0:
            scanned = len(self._buffer)
            if scanned > exchange.LINE_MAX_OCTETS:
                raise ExchangeError("too long a line")
            self._buffer += await self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def _receive(self) -> bytes:
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._line, _READ_OCTETS, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await _readable(self._line)
                continue
            self._fds += fds
            if not data or len(self._fds) > 1:
                raise KeeperGone("the child has ended")
            return data


@contextlib.asynccontextmanager
async def _answered(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (TimeoutError, OSError, ExchangeError) as error:
        raise KeeperGone(str(error)) from error


async def _readable(line: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(line.fileno(), tell)
    try:
        await ready
    finally:
        loop.remove_reader(line.fileno())
