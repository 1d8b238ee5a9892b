"""The front's side of the spawner: ask for a user's child, get the socket to it.

Knows the records of runtime/spawn.py and asyncio; does not know what a child does. A child that does not come in time,
for whatever reason, is SpawnError, and SpawnError means later unless its status proves something else.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import Callable

from runtime.spawn import GREETING, NAME_MAX_OCTETS, REPLY, REQUEST, SECRET_MAX_OCTETS, Purpose, Status
from runtime.spawner import Spawner

# From the request to the child's greeting: a fork, a home on a slow disk. One that hangs is given up.
CHILD_WITHIN_S = 10.0
# With a password: up to CHECKS_WAITING_MAX others are checked before.
CHECKED_WITHIN_S = 30.0


class SpawnError(Exception):
    """There is no child. `status` says why; `errno` when it was the home."""

    def __init__(self, status: Status, errno: int = 0) -> None:
        super().__init__(f"{status.name}: {os.strerror(errno)}" if errno else status.name)
        self.status = status
        self.errno = errno


class Children:
    """Asks one spawner. `on_lost` is called once when it has died: then no child will come any more."""

    def __init__(self, spawner: Spawner, on_lost: Callable[[], None]) -> None:
        self._socket = spawner.socket
        self._socket.setblocking(False)
        self._on_lost = on_lost
        self._serials = itertools.count(1)
        self._asked: dict[int, asyncio.Future[socket.socket]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._on_reply)
        self._lost = False

    async def child(self, key: str) -> socket.socket:
        """A socket to a new child that is the account of this `Account.key`, in its home. SpawnError when there is
        none."""
        return await self._within(CHILD_WITHIN_S, Purpose.CHILD, key, b"")

    async def child_if_password(self, name: str, password: bytes) -> socket.socket:
        """The same, once the spawner has found the password right; SpawnError DENIED when it is wrong."""
        return await self._within(CHECKED_WITHIN_S, Purpose.CHILD_IF_PASSWORD, name, password)

    def close(self) -> None:
        """The spawner ends; children that were handed out end when their sockets are closed."""
        if not self._lost:
            self._loop.remove_reader(self._socket.fileno())
            self._lost = True
        self._socket.close()

    async def _within(self, seconds: float, purpose: Purpose, name: str, secret: bytes) -> socket.socket:
        try:
            async with asyncio.timeout(seconds):
                return await self._make(purpose, name, secret)
        except TimeoutError as error:
            raise SpawnError(Status.BUSY) from error

    async def _make(self, purpose: Purpose, name: str, secret: bytes) -> socket.socket:
        line = await self._ask(purpose, name.encode("utf-8", "surrogateescape"), secret)
        try:
            line.setblocking(False)
            greeting = await self._loop.sock_recv(line, GREETING.size)
            if len(greeting) < GREETING.size:
                raise SpawnError(Status.BUSY)
            status, errno = GREETING.unpack(greeting)
            if status != Status.OK:
                raise SpawnError(Status(status), errno)
        except OSError as error:
            line.close()
            raise SpawnError(Status.BUSY) from error
        except BaseException:
            line.close()
            raise
        return line

    async def _ask(self, purpose: Purpose, name: bytes, secret: bytes) -> socket.socket:
        if len(name) > NAME_MAX_OCTETS:
            raise SpawnError(Status.NO_ACCOUNT)
        if len(secret) > SECRET_MAX_OCTETS:
            raise SpawnError(Status.DENIED)
        serial = next(self._serials) & 0xFFFF_FFFF
        answer: asyncio.Future[socket.socket] = self._loop.create_future()
        self._asked[serial] = answer
        try:
            if self._lost:
                raise SpawnError(Status.BUSY)
            self._socket.send(REQUEST.pack(serial, purpose, len(name), len(secret), name, secret))
            return await answer
        except OSError as error:  # the spawner is behind by a whole socket buffer, or gone
            raise SpawnError(Status.BUSY) from error
        finally:
            del self._asked[serial]

    def _on_reply(self) -> None:
        try:
            record, fds, _, _ = socket.recv_fds(self._socket, REPLY.size, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            record, fds = b"", []
        if len(record) != REPLY.size:
            return self._has_died()
        serial, status = REPLY.unpack(record)
        line = socket.socket(fileno=fds[0]) if fds else None
        answer = self._asked.get(serial)
        if answer is None or answer.done():
            if line:
                line.close()  # who asked has given up; the child ends
        elif line:
            answer.set_result(line)
        else:
            answer.set_exception(SpawnError(Status(status)))

    def _has_died(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._lost = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(SpawnError(Status.BUSY))
        self._on_lost()
