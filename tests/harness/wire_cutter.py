"""A TCP proxy between two services that loses, holds or cuts what passes, when a test says so.

Runs in a thread of its own, so that tests may block. What is lost is lost for ever: such a connection is good for
nothing but to be cut, as on a network that was partitioned.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from tests.harness.stack import patience

_WAIT_S = 30.0
_OCTETS = 64 * 1024

T = TypeVar("T")


class Way(Enum):
    """What becomes of octets that go one way."""

    PASS = "pass"
    LOSE = "lose"


class Door(Enum):
    """What becomes of a new connection."""

    OPEN = "open"
    REFUSE = "refuse"
    SILENT = "silent"  # it is there, and nothing ever comes


@dataclass(eq=False, slots=True)
class _Pair:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    requests_wait: bool = False
    replies_wait: bool = False


@dataclass(eq=False, slots=True)
class Cutter:
    """A proxy to one port of this machine. The fields may be set at any time and count from then on."""

    target: int  # may be another one later
    port: int = 0
    requests: Way = Way.PASS
    replies: Way = Way.PASS
    door: Door = Door.OPEN
    holds_replies: bool = False  # to clients that come from now on
    connections: int = 0
    stopped: int = 0  # octets that were held or lost
    _pairs: list[_Pair] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _tick: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def partition(self) -> None:
        """Nothing passes either way, and nobody is told."""
        self.requests = self.replies = Way.LOSE
        self.door = Door.SILENT

    def heal(self) -> None:
        """Everything passes; what lived during the harm is cut, for its octets are not all there."""
        self.requests = self.replies = Way.PASS
        self.door = Door.OPEN
        self.cut()

    def cut(self) -> None:
        """Resets every connection, on both sides."""
        self._do(self._cut(both=True))

    def cut_clients(self) -> None:
        """Resets the clients' side; what is held still goes to the server."""
        self._do(self._cut(both=False))

    def hold(self) -> None:
        """What comes from the clients of now waits; later clients are not concerned."""
        for pair in self._pairs:
            pair.requests_wait = True

    def release(self) -> None:
        """What was held goes on."""
        self.holds_replies = False
        for pair in self._pairs:
            pair.requests_wait = pair.replies_wait = False
        self._do(self._wake())

    def stops(self, octets: int = 1) -> None:
        """Returns when so many more octets have been held or lost."""
        wanted = self.stopped + octets
        for _ in patience(_WAIT_S):
            if self.stopped >= wanted:
                return
        raise AssertionError(f"{self.stopped} octets were stopped, not {wanted}")

    # -- in its thread ------------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_WAIT_S)

    async def _wake(self) -> None:
        self._tick.set()
        self._tick = asyncio.Event()

    async def _cut(self, both: bool) -> None:
        for pair in self._pairs:
            _reset(pair.client)
            if both:
                _reset(pair.server)
        if both:
            await self._wake()

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.connections += 1
        if self.door is Door.REFUSE:
            _reset(writer)
            return
        if self.door is Door.SILENT:
            self._pairs.append(_Pair(writer, writer))
            return
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(writer, to_server, replies_wait=self.holds_replies)
        self._pairs.append(pair)
        await asyncio.gather(
            self._pump(reader, to_server, lambda: self.requests, lambda: pair.requests_wait),
            self._pump(from_server, writer, lambda: self.replies, lambda: pair.replies_wait),
        )

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: Callable[[], Way],
        holds: Callable[[], bool],
    ) -> None:
        """Reads as fast as comes, writes as it may."""
        coming: asyncio.Queue[bytes] = asyncio.Queue()
        reading = asyncio.create_task(self._read(reader, coming, lambda: holds() or way() is Way.LOSE))
        try:
            while data := await coming.get():
                while holds():
                    await self._tick.wait()
                if way() is Way.PASS:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass  # the other side is gone
        finally:
            reading.cancel()
        # An end that came of a partition is told to nobody.
        if way() is Way.PASS:
            writer.close()

    async def _read(
        self, reader: asyncio.StreamReader, coming: "asyncio.Queue[bytes]", stops: Callable[[], bool]
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_OCTETS):
                self.stopped += stops() * len(data)
                coming.put_nowait(data)
        coming.put_nowait(b"")


def _reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket | None = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def running(target: int) -> Iterator[Cutter]:
    """A proxy to that port, on a free loopback port, until the end of the block."""
    cutter = Cutter(target)
    started, over = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(cutter, started, over)))
    thread.start()
    assert started.wait(_WAIT_S)
    try:
        yield cutter
    finally:
        assert cutter._loop
        cutter._loop.call_soon_threadsafe(over.set)
        thread.join(_WAIT_S)


async def _serve(cutter: Cutter, started: threading.Event, over: asyncio.Event) -> None:
    cutter._loop = asyncio.get_running_loop()
    meetings: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        meeting = asyncio.ensure_future(cutter.meet(reader, writer))
        meetings.add(meeting)
        meeting.add_done_callback(meetings.discard)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    cutter.port = server.sockets[0].getsockname()[1]
    started.set()
    await over.wait()
    server.close()
    await cutter._cut(both=True)
    for meeting in meetings:
        meeting.cancel()
    await asyncio.gather(*meetings, return_exceptions=True)
