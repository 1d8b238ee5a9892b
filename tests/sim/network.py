"""The network between simulated processes: gRPC's channels and calls as the house's clients and servicers use them.

Each direction of a stream keeps its order and has its own delay; streams are not ordered among each other. A stream
breaks when an end dies, when it is reset, or when its ends could not reach each other for as long as gRPC's keepalive
waits; what was on the way may be lost then, and each end learns of it at its own time. Knows no mail: octets.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from random import Random
from typing import Any, Protocol

import grpc

from runtime.config import Address
from tests.sim.loop import SimLoop
from tests.sim.scheduler import Scheduler

# runtime/rpc.py: a ping every 30 s, and 10 s for its answer.
_KEEPALIVE_US = 40_000_000
_DELAY_US = (50, 3_000)
_SLOW_US = (5_000, 400_000)


class Host(Protocol):
    """A process with an address, or one that calls others."""

    name: str
    host: str
    role: str
    loop: SimLoop
    dead: bool
    paused: bool
    held: Any
    serving: bool
    servicers: "Servicers"


class Servicers:
    """What a gRPC server is to generated code: it keeps every method's behaviour under its name."""

    def __init__(self) -> None:
        self.methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self.methods.update({f"/{service}/{name}": handler for name, handler in handlers.items()})


class Context:
    """grpc.aio.ServicerContext: who calls."""

    def __init__(self, role: str) -> None:
        self._role = role

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self._role.encode()]}

    async def abort(self, code: Any, details: str = "", *_: Any) -> None:
        raise broken(details, code)


def broken(why: str, code: Any = grpc.StatusCode.UNAVAILABLE) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=why)


class _Pipe:
    """One direction of a stream, seen by its reader: octets in order, then an end or an error."""

    def __init__(self, network: "Network", source: Host, target: Host, reset: Callable[[str], None]) -> None:
        self._network = network
        self._reset = reset
        self.source = source
        self.target = target
        self._arrived: deque[bytes] = deque()
        self._blocked: list[bytes] = []
        self._last_us = 0
        self.closed = False
        self.error: BaseException | None = None
        self.ended = False
        self._news: asyncio.Future[None] | None = None

    def send(self, octets: bytes) -> None:
        if self.closed or self.source.dead:
            return
        if self.target.dead and self._network.is_up(self.target):
            self._reset("reset by peer")  # a kernel that started anew knows nothing of this connection
            return
        if not self._network.reach(self.source, self.target):
            self._blocked.append(octets)
            return
        after_us = max(self._network.delay_us(), self._last_us - self._network.scheduler.now_us)
        self._last_us = self._network.scheduler.now_us + after_us
        self._network.scheduler.at(after_us, self.target, lambda: self._arrive(octets))

    def healed(self) -> None:
        blocked, self._blocked = self._blocked, []
        for octets in blocked:
            self.send(octets)

    def _arrive(self, octets: bytes) -> None:
        if not self.closed:
            self._network.moved(self, octets)
            self._arrived.append(octets)
            self._tell()

    def end(self) -> None:
        """The other side has nothing more to say."""
        self.ended = True
        self._tell()

    def fail(self, error: BaseException) -> None:
        """Nothing more comes; what has not been read is lost."""
        if not self.closed:
            self.closed = True
            self.error = error
            self._tell()

    def _tell(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)

    async def read(self) -> AsyncIterator[bytes]:
        while True:
            while self._arrived:
                yield self._arrived.popleft()
            if self.error:
                raise self.error
            if self.ended:
                return
            self._news = self.target.loop.create_future()
            await self._news


class Stream:
    """A bidirectional call, both ends of it."""

    def __init__(self, network: "Network", client: Host, server: Host, method: str, codec: tuple[Any, Any]) -> None:
        self._network = network
        self.client = client
        self.server = server
        self._write, self._read = codec
        self._method = method
        self._up = _Pipe(network, client, server, self.break_off)
        self._down = _Pipe(network, server, client, self.break_off)
        self._handler: asyncio.Task[None] | None = None
        self._cut_us = 0
        network.streams.append(self)
        network.scheduler.at(network.delay_us(), server, self._serve)

    # -- the client's end ---------------------------------------------------------------------------------------------

    async def write(self, message: Any) -> None:
        if self._down.closed:
            raise self._down.error or broken("closed")
        self._up.send(self._write(message))
        await asyncio.sleep(0)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._replies()

    async def _replies(self) -> AsyncIterator[Any]:
        async for octets in self._down.read():
            yield self._read(octets)

    def cancel(self) -> None:
        """The client lets go of it."""
        self._down.fail(broken("cancelled"))
        self._network.scheduler.at(self._network.delay_us(), self.server, self._cancel_handler)
        self._network.forget(self)

    # -- the server's end ---------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        handler = self.server.servicers.methods.get(self._method)
        if handler is None or not self.server.serving:
            self.break_off("not serving")
            return
        self._handler = self.server.loop.create_task(self._handle(handler))

    async def _handle(self, handler: Any) -> None:
        async def requests() -> AsyncIterator[Any]:
            async for octets in self._up.read():
                yield handler.request_deserializer(octets)

        try:
            async for reply in handler.stream_stream(requests(), Context(self.client.role)):
                self._down.send(handler.response_serializer(reply))
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.server.loop.errors.append(f"{self._method}: {error!r}")
        self._network.scheduler.at(self._network.delay_us(), self.client, self._down.end)

    def _cancel_handler(self) -> None:
        self._up.fail(asyncio.CancelledError())
        if self._handler:
            self._handler.cancel()

    # -- what may happen to it ----------------------------------------------------------------------------------------

    def break_off(self, why: str) -> None:
        """Each end learns at its own time; what arrives before that counts."""
        self._network.scheduler.at(self._network.delay_us(), self.client, lambda: self._down.fail(broken(why)))
        self._network.scheduler.at(self._network.delay_us(), self.server, self._cancel_handler)
        self._network.forget(self)

    def look(self, now_us: int) -> None:
        """Keepalive: who cannot be reached for so long is given up."""
        if (self.client.dead or self.server.dead) and self._network.reach(self.client, self.server):
            dead = self.client if self.client.dead else self.server
            if self._network.is_up(dead):
                self.break_off("reset by peer")
                return
        silent = self.client.paused or self.server.paused or self.client.dead or self.server.dead
        if not silent and self._network.reach(self.client, self.server):
            self._cut_us = 0
        elif not self._cut_us:
            self._cut_us = now_us
        elif now_us - self._cut_us >= _KEEPALIVE_US:
            self.break_off("keepalive")

    def healed(self) -> None:
        self._up.healed()
        self._down.healed()


class Channel:
    """grpc.aio.Channel from one process to an address."""

    def __init__(self, network: "Network", client: Host, address: Address) -> None:
        self._network = network
        self._client = client
        self._address = address
        self._streams: list[Stream] = []

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        for stream in self._streams:
            stream.cancel()

    def _server(self) -> Host | None:
        found = self._network.servers.get(self._address.host)
        if found is None or found.dead or not found.serving or not self._network.reach(self._client, found):
            return None
        return found

    async def channel_ready(self) -> None:
        while True:
            await asyncio.sleep(self._network.delay_us() / 1_000_000)
            server = self._server()
            if server is not None and not server.paused:
                return
            await asyncio.sleep(0.2)

    def stream_stream(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Callable[[], Stream]:
        def call(*_: Any, **__: Any) -> Stream:
            server = self._server()
            if server is None:
                raise broken("connection refused")
            made = Stream(self._network, self._client, server, method, (request_serializer, response_deserializer))
            self._streams.append(made)
            return made

        return call

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **_: Any
    ) -> Callable[..., Any]:
        async def call(request: Any, timeout: float | None = None, **_: Any) -> Any:
            asked = self._network.ask(self._client, self._server(), method, request_serializer(request))
            try:
                return response_deserializer(await asyncio.wait_for(asked, timeout))
            except TimeoutError:
                raise broken("deadline", grpc.StatusCode.DEADLINE_EXCEEDED) from None

        return call


class Network:
    """Every stream, and who can reach whom."""

    def __init__(
        self, scheduler: Scheduler, chance: Random, moved: Callable[[_Pipe, bytes], None], current: Callable[[], Host]
    ) -> None:
        self.scheduler = scheduler
        self.servers: dict[str, Host] = {}
        self.streams: list[Stream] = []
        self.cut: set[frozenset[str]] = set()
        self.slow = False
        self.moved = moved
        self._chance = chance
        self._current = current
        self._asked: list[tuple[Host, Host, Callable[[bytes | Exception], None]]] = []

    def channel(self, address: Address, identity: Any) -> Channel:
        """runtime.rpc.channel, for the process that runs now."""
        return Channel(self, self._current(), address)

    def delay_us(self) -> int:
        return self._chance.randrange(*(_SLOW_US if self.slow and self._chance.random() < 0.3 else _DELAY_US))

    def reach(self, one: Host, other: Host) -> bool:
        return frozenset((one.host, other.host)) not in self.cut or one.host == other.host

    def is_up(self, host: Host) -> bool:
        """Whether the machine of a process that is dead runs, so that somebody there says no."""
        return any(one.host == host.host and not one.dead for one in self.servers.values())

    async def ask(self, client: Host, server: Host | None, method: str, octets: bytes) -> bytes:
        """One question and its answer; the caller's deadline is its own affair."""
        if server is None:
            await asyncio.sleep(self.delay_us() / 1_000_000)
            raise broken("connection refused")
        answer: asyncio.Future[bytes] = client.loop.create_future()

        def tell(said: bytes | Exception) -> None:
            if answer.done():
                return
            if isinstance(said, Exception):
                answer.set_exception(said)
            else:
                answer.set_result(said)

        async def handle() -> None:
            handler = server.servicers.methods[method]
            reply = await handler.unary_unary(handler.request_deserializer(octets), Context(client.role))
            said = handler.response_serializer(reply)
            if self.reach(client, server):
                self.scheduler.at(self.delay_us(), client, lambda: tell(said))

        tasks: list[asyncio.Task[None]] = []

        def serve() -> None:
            if not server.serving or method not in server.servicers.methods:
                self.scheduler.at(self.delay_us(), client, lambda: tell(broken("not serving")))
            elif self.reach(client, server):
                tasks.append(server.loop.create_task(handle()))

        def give_up() -> None:
            for task in tasks:
                task.cancel()

        self.scheduler.at(self.delay_us(), server, serve)
        self._asked.append((server, client, tell))
        try:
            return await answer
        finally:
            self._asked = [one for one in self._asked if one[2] is not tell]
            self.scheduler.at(self.delay_us(), server, give_up)  # what is over, or past its deadline, is cancelled

    # -- what may happen ----------------------------------------------------------------------------------------------

    def look(self) -> None:
        for stream in list(self.streams):
            stream.look(self.scheduler.now_us)

    def heal(self) -> None:
        self.cut.clear()
        for stream in list(self.streams):
            stream.healed()

    def gone(self, host: Host, silently: bool) -> None:
        """A process has ended: its peers learn it at once from its kernel, or by keepalive when that is gone too."""
        for stream in list(self.streams):
            if not silently and host in (stream.client, stream.server) and self.reach(stream.client, stream.server):
                stream.break_off("the peer is gone")
        for server, client, tell in self._asked:
            if server is host and not silently:
                self.scheduler.at(self.delay_us(), client, partial(tell, broken("the peer is gone")))

    def clear(self) -> None:
        self.streams.clear()
        self.servers.clear()
        self._asked.clear()

    def forget(self, stream: Stream) -> None:
        if stream in self.streams:
            self.streams.remove(stream)
