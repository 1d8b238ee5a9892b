"""The rim: connections, deadlines and back-pressure around the pure conversation of protocol.py.

Knows sockets, time and whom to ask for what; decides nothing about POP3. One task for each connection; what a client
makes us hold is one read of commands, one listing and one piece of a message.
"""

import asyncio
import contextlib
import os
import resource
from collections import Counter
from dataclasses import dataclass

from runtime.children import Children, SpawnError
from runtime.clock import Clock
from runtime.config import Address, ConfigError
from runtime.events import Events
from runtime.spawn import Status
from services.pop3.exchange import Opened
from services.pop3.keeper import Keeper, KeeperGone, MessageFile
from services.pop3.penalties import Penalties, network
from services.pop3.protocol import (
    MAILDROP_LOST,
    TOO_MANY_CONNECTIONS,
    Ended,
    Login,
    Maildrop,
    NeedData,
    Protocol,
    Refusal,
    Retrieve,
    Send,
    Update,
)
from services.pop3.stuffing import Stuffer, TopCut

READ_OCTETS = 4 * 1024  # commands are short; a client that pipelines more waits in its socket
PIECE_OCTETS = 64 * 1024  # of a message, and of replies gathered before they are written
# A client that comes back at once after its connection broke meets its old session's lock; that one is just ending.
IN_USE_TRIES = 5
IN_USE_WAIT_S = 0.2
DESCRIPTORS_RESERVED = 64  # listening socket, RPC, events, control files
BACKLOG = 1_024
LINGER_S = 2.0  # for a client to read why it was sent away; its words are thrown away meanwhile
USER_SHOWN_CHARACTERS = 64  # of a name in an event


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may cost. Seconds are before TIME_SCALE."""

    connections: int = 1_000  # each a descriptor and about 20 KiB; with a login CHILDREN_MAX of child.py holds too
    connections_per_ip: int = 50  # as smtpd: one address with more is a broken or a hostile client
    idle_s: float = 600.0  # RFC 1939 section 3: at least ten minutes between commands
    login_s: float = 120.0  # from the greeting to a right password: three tries with their delays fit
    stall_s: float = 300.0  # for a client to take a piece; under 220 octets a second nobody gets anywhere


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every session needs: the host's name for the greeting, who checks passwords, time, events."""

    me: str
    children: Children
    penalties: Penalties
    clock: Clock
    events: Events
    limits: Limits = DEFAULT_LIMITS


class Sessions:
    """The listening socket and everybody who is connected."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._server: asyncio.Server | None = None
        self._most = min(around.limits.connections, _affordable_connections())
        self._tasks: dict[asyncio.Task[None], Session] = {}
        self._by_origin: Counter[str] = Counter()
        self._number = 0
        self._stopping = False

    async def open(self, bind: Address) -> Address:
        """Listens; the address says the port that was chosen when `bind` has 0. ConfigError when it cannot."""
        try:
            self._server = await asyncio.start_server(
                self._connected, bind.host, bind.port, limit=READ_OCTETS, backlog=BACKLOG
            )
        except OSError as error:
            why = error.strerror or error
            raise ConfigError([f"environment variable POP3_BIND={bind}: cannot listen there: {why}"]) from error
        return Address(bind.host, self._server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its first to its last octet."""
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        origin = network(peer)
        task = asyncio.current_task()
        assert task is not None
        self._by_origin[origin] += 1
        self._number += 1
        writer.transport.set_write_buffer_limits(high=0)  # "drained" means that the kernel has it all
        session = Session(reader, writer, self._around, f"{os.getpid()}-{self._number}")
        self._tasks[task] = session
        try:
            crowded = self._by_origin[origin] > self._around.limits.connections_per_ip
            if self._stopping or crowded or len(self._tasks) > self._most:
                writer.write(TOO_MANY_CONNECTIONS)
            else:
                await session.run(peer)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            del self._tasks[task]
            self._by_origin[origin] -= 1
            if not self._by_origin[origin]:
                del self._by_origin[origin]
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def drain(self, seconds: float) -> None:
        """Ends the sessions: those between commands now, those with a command under way when it is done or in time."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for task, session in self._tasks.items():
            session.last_command()
            if session.waits_for_client:
                task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


class Session:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, around: Surroundings, number: str
    ) -> None:
        self.waits_for_client = False
        self._reader = reader
        self._writer = writer
        self._around = around
        self._protocol = Protocol(f"{number}.{around.clock.wall_ms() // 1000}@{around.me}")
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + around.clock.scaled(around.limits.login_s)
        self._out = bytearray()
        self._keeper: Keeper | None = None
        self._peer = ""
        self._is_last = False
        self._retrieved = 0
        self._deleted = 0

    def last_command(self) -> None:
        """Ends the session after the command that is under way."""
        self._is_last = True

    async def run(self, peer: str) -> None:
        """The whole conversation; returns when it has ended, for whatever reason."""
        self._peer = peer
        events = self._around.events
        try:
            await self._converse()
        except KeeperGone as error:
            events.warning(f"pop3: a maildrop was lost: {error}", user=self._user())
            await self._last_words(MAILDROP_LOST)
        except (TimeoutError, ConnectionError):
            pass  # silence: RFC 1939 section 3 wants neither an answer nor an update
        except OSError as error:  # a message could not be read to its end: no lone dot, so the client knows
            events.warning(f"pop3: {error.strerror}", user=self._user())
        except Exception as error:  # noqa: BLE001 - the top of a session: one client must not end the others
            events.alert(f"pop3: a session failed: {type(error).__name__}: {error}")
        finally:
            if self._keeper is not None:
                self._keeper.close()
                events.logout(self._user(), peer, self._retrieved, self._deleted)

    async def _converse(self) -> None:
        await self._say(self._protocol.greet())
        while True:
            match self._protocol.next_event():
                case NeedData():
                    if not await self._read():
                        return
                    continue
                case Send(data):
                    await self._say(data)
                case Login(user, password):
                    await self._say(await self._log_in(user, password))
                case Retrieve(number, lines):
                    await self._retrieve(number, lines)
                case Update(deleted):
                    await self._say(await self._update(deleted))
                case Ended():
                    return await self._end()
            if self._keeper is not None:
                self._deadline = self._loop.time() + self._around.clock.scaled(self._around.limits.idle_s)

    # -- questions of the conversation --------------------------------------------------------------------------------

    async def _log_in(self, user: bytes, password: bytes) -> bytes:
        around, name = self._around, user.decode("utf-8", "surrogateescape")
        await self._flush()
        await asyncio.sleep(around.penalties.delay_s(self._peer, user))
        try:
            line = await around.children.child_if_password(name, password)
        except SpawnError as error:
            refusal = _REFUSALS.get(error.status, Refusal.LATER)
            if refusal is Refusal.WRONG:
                around.penalties.failed(self._peer, user, password)
                around.events.login_failed(self._user(), self._peer)
            else:
                around.events.warning(f"pop3: no session: {error}", user=self._user())
            return self._protocol.refuse(refusal)
        around.penalties.succeeded(self._peer, user)
        keeper = Keeper(line)
        try:
            opened = await _open(keeper)
        except KeeperGone:
            keeper.close()
            return self._protocol.refuse(Refusal.UNREADABLE)
        except asyncio.CancelledError:
            keeper.close()
            raise
        if not isinstance(opened, Maildrop):
            keeper.close()
            return self._protocol.refuse(_UNOPENED[opened])
        self._keeper = keeper
        around.events.login(self._user(), self._peer)
        return self._protocol.accept(opened)

    async def _retrieve(self, number: int, lines: int | None) -> None:
        assert self._keeper is not None
        file = await self._keeper.message(number)
        if file is None:
            return await self._say(self._protocol.no_message())
        try:
            await self._say(self._protocol.begin_message())
            await self._send_file(file, None if lines is None else TopCut(lines))
        finally:
            os.close(file.fd)
        self._protocol.end_message()
        self._retrieved += lines is None

    async def _send_file(self, file: MessageFile, cut: TopCut | None) -> None:
        stuffer = Stuffer()
        left = file.size
        while left > 0 and not (cut and cut.done):
            piece = await self._loop.run_in_executor(None, os.read, file.fd, min(left, PIECE_OCTETS))
            if not piece:
                break
            left -= len(piece)
            await self._say(stuffer.stuff(cut.cut(piece) if cut else piece))
        await self._say(stuffer.finish())

    async def _update(self, deleted: tuple[int, ...]) -> bytes:
        assert self._keeper is not None
        await self._flush()
        try:
            done = await self._keeper.settle(deleted)
        except KeeperGone as error:
            self._around.events.warning(f"pop3: QUIT was not finished: {error}", user=self._user())
            done = False
        self._deleted = len(deleted) if done else 0
        return self._protocol.updated(done)

    # -- octets -------------------------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Takes what the client sends next; False at its end. The deadline moves with commands, not with octets."""
        await self._flush()
        if self._is_last:
            return False
        self.waits_for_client = True
        async with asyncio.timeout_at(self._deadline):
            data = await self._reader.read(READ_OCTETS)
        self.waits_for_client = False
        self._protocol.receive(data)
        return bool(data)

    async def _say(self, data: bytes) -> None:
        """Gathers replies; a client that pipelines gets them in few packets."""
        self._out += data
        if len(self._out) >= PIECE_OCTETS:
            await self._flush()

    async def _flush(self) -> None:
        if not self._out:
            return
        self._writer.write(bytes(self._out))
        self._out.clear()
        async with asyncio.timeout(self._around.clock.scaled(self._around.limits.stall_s)):
            await self._writer.drain()

    async def _end(self) -> None:
        """Lets the client read the last reply: closing with its octets unread would take the reply back (TCP reset)."""
        await self._flush()
        if self._keeper is not None:
            self._keeper.close()
        with contextlib.suppress(TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while await self._reader.read(PIECE_OCTETS):
                    pass

    async def _last_words(self, data: bytes) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError):
            await self._say(data)
            await self._flush()

    def _user(self) -> str:
        return self._protocol.user.decode("utf-8", "replace")[:USER_SHOWN_CHARACTERS]


def _affordable_connections() -> int:
    """How many connections the descriptors of this process carry: a socket, a child and a message for each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return (hard - DESCRIPTORS_RESERVED) // 3 if hard != resource.RLIM_INFINITY else DEFAULT_LIMITS.connections


# An account that is not one, or whose home is somebody else's, is not told apart from a wrong password.
_REFUSALS = {
    Status.DENIED: Refusal.WRONG,
    Status.NO_ACCOUNT: Refusal.WRONG,
    Status.NOT_OWNER: Refusal.WRONG,
    Status.NO_HOME: Refusal.UNREADABLE,  # it may not be mounted: later
}
_UNOPENED = {
    Opened.IN_USE: Refusal.IN_USE,
    Opened.NO_MAILDROP: Refusal.NO_MAILDROP,
    Opened.UNREADABLE: Refusal.UNREADABLE,
}


async def _open(keeper: Keeper) -> Maildrop | Opened:
    opened = await keeper.open()
    for _ in range(IN_USE_TRIES - 1):
        if opened is not Opened.IN_USE:
            break
        await asyncio.sleep(IN_USE_WAIT_S)
        opened = await keeper.open()
    return opened
