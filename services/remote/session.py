"""One connection to one mail server: the socket, the TLS and the time limits around services/remote/protocol.py.

It decides nothing about mail. A connection fails in one of these ways:

    Broken
    ├── Unreachable    no connection came about
    ├── TlsFailed      STARTTLS was begun and the handshake failed
    ├── Rejected       greeting, EHLO or HELO was answered with a refusal
    └── Died           it ended, timed out, or broke the protocol
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from runtime import faults
from runtime.clock import Clock
from services.remote import body
from services.remote.mx import Exchanger
from services.remote.protocol import Client, Done, Envelope, Event, Ready, Refused, SendBody, Stage, StartTls, Verdict

# RFC 5321 4.5.3.2: how long a client waits for each reply, in seconds. EHLO and STARTTLS are not named there.
WAIT_S = {
    Stage.GREETING: 300.0,
    Stage.EHLO: 300.0,
    Stage.HELO: 300.0,
    Stage.STARTTLS: 120.0,
    Stage.MAIL: 300.0,
    Stage.RCPT: 300.0,
    Stage.DATA: 120.0,
    Stage.DOT: 600.0,
}
_PIECE_S = 180.0
_HANDSHAKE_S = 60.0

# From MAIL to the final dot, whatever the single steps took: a server that answers each of a hundred commands at the
# last moment must not hold a slot for a day. 64 MiB in this time is 9 KiB/s.
_TRANSACTION_S = 7_200.0

# A message up to this size leaves in one write with its final dot.
_JOINED_MAX_OCTETS = 64 * 1024


class Broken(Exception):
    """The connection cannot be used."""


class Unreachable(Broken):
    """No connection; `timed_out` when there was no answer at all."""

    def __init__(self, timed_out: bool) -> None:
        super().__init__()
        self.timed_out = timed_out


class TlsFailed(Broken):
    """The handshake failed."""


class Rejected(Broken):
    """The server refused to talk."""

    def __init__(self, refused: Refused) -> None:
        super().__init__()
        self.refused = refused


class Died(Broken):
    """The connection ended, timed out, or the server broke the protocol."""


class Ending(StrEnum):
    """How a transaction ended for those recipients over whom no reply decided."""

    FINISHED = "finished"
    DIED = "died"
    DIED_AFTER_DOT = "died after dot"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction brought. `is_stale` when an idle connection turned out to be closed: nothing was tried."""

    verdicts: tuple[Verdict | None, ...]
    ending: Ending
    is_stale: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Time limits in seconds (control/timeoutconnect, timeoutremote), our name, our TLS."""

    clock: Clock
    helohost: str
    timeoutconnect_s: float
    timeoutremote_s: float
    tls: ssl.SSLContext

    def limit(self, seconds: float) -> float:
        return self.clock.scaled(min(seconds, self.timeoutremote_s))


def opportunistic_tls() -> ssl.SSLContext:
    """TLS that proves nothing about the peer (RFC 7435): who could forge a certificate could as well drop STARTTLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Session:
    """An introduced connection that takes one transaction after another."""

    def __init__(self, exchanger: Exchanger, wire: "_Wire", settings: Settings) -> None:
        self.exchanger = exchanger
        self.is_after_dot = False
        self.transactions = 0
        self._wire = wire
        self._settings = settings
        self._may_go_on = True

    @property
    def is_usable(self) -> bool:
        """Whether another transaction may be tried on it."""
        return self._may_go_on and not self._wire.is_dead and not self._wire.has_events

    @property
    def tls(self) -> str:
        """The TLS version, "" in plaintext."""
        found = self._wire.transport.get_extra_info("ssl_object")
        return str(found.version()) if found else ""

    @property
    def takes_smtputf8(self) -> bool:
        return "SMTPUTF8" in self._wire.client.offers

    @property
    def reports_deliveries(self) -> bool:
        """Whether the server takes over what the sender wishes to be told (RFC 3461)."""
        return "DSN" in self._wire.client.offers

    async def deliver(self, envelope: Envelope, content: bytes, may_proceed: Callable[[], bool]) -> Transaction:
        """One transaction. `may_proceed` is asked immediately before the final dot; False drops the connection."""
        client = self._wire.client
        heard = client.replies
        self._may_go_on = self.is_after_dot = False
        self.transactions += 1
        client.begin(envelope)
        ending = Ending.FINISHED
        try:
            done = await self._transact(content, may_proceed)
            if done is None:
                ending = Ending.STOPPED
            else:
                self._may_go_on = done.may_go_on
        except Died:
            ending = Ending.DIED_AFTER_DOT if self.is_after_dot else Ending.DIED
        finally:
            if not self._may_go_on:
                self.close()
        is_stale = self.transactions > 1 and (
            (ending is Ending.DIED and client.replies == heard) or all(map(_says_good_bye, client.verdicts))
        )
        return Transaction(client.verdicts, ending, is_stale)

    def close(self) -> None:
        """Says QUIT where that makes sense, and closes."""
        self._wire.close()

    async def _transact(self, content: bytes, may_proceed: Callable[[], bool]) -> Done | None:
        try:
            async with asyncio.timeout(self._settings.clock.scaled(_TRANSACTION_S)):
                self._wire.flush()
                event = await self._wire.event()
                if isinstance(event, SendBody) and not await self._send(content, may_proceed):
                    self._wire.abort()
                    return None
        except TimeoutError:
            self._wire.abort()
            raise Died from None
        if isinstance(event, SendBody):
            event = await self._wire.event()
            self.is_after_dot = not isinstance(event, Done)
        if not isinstance(event, Done):
            raise Died
        return event

    async def _send(self, content: bytes, may_proceed: Callable[[], bool]) -> bool:
        """The message and the final dot; False when it may not be completed."""
        held = b""
        for piece in body.pieces(content):
            if held:
                await self._wire.write(held)
            held = piece
        if len(held) > _JOINED_MAX_OCTETS:
            await self._wire.write(held)
            held = b""
        if not may_proceed():
            return False
        if self._wire.is_dead or self._wire.has_events:
            raise Died
        faults.point(faults.Point.REMOTE_BEFORE_DOT)  # a crash here: the server has no whole message and forgets it
        self.is_after_dot = True
        self._wire.transport.write(held + self._wire.client.dot())
        faults.point(faults.Point.REMOTE_AFTER_DOT)  # a crash here: window W3, the server may have taken the message
        return True


def _says_good_bye(verdict: Verdict | None) -> bool:
    """421 to MAIL on an idle connection: the server closed it while our command was on its way (RFC 5321 3.8)."""
    return verdict is not None and verdict.stage is Stage.MAIL and verdict.reply.code == 421


async def connect(exchanger: Exchanger, settings: Settings, wants_tls: bool) -> Session:
    """An introduced connection to one address; raises Broken."""
    wire = _Wire(Client(settings.helohost, wants_tls), settings)
    try:
        async with asyncio.timeout(settings.clock.scaled(settings.timeoutconnect_s)):
            await asyncio.get_running_loop().create_connection(lambda: wire, exchanger.ip, exchanger.port)
    except TimeoutError:
        raise Unreachable(timed_out=True) from None
    except OSError:
        raise Unreachable(timed_out=False) from None
    try:
        while not isinstance(event := await wire.event(), Ready):
            if isinstance(event, Refused):
                raise Rejected(event)
            if not isinstance(event, StartTls):
                raise Died
            await wire.secure(exchanger.host)
    except BaseException:
        wire.close()
        raise
    return Session(exchanger, wire, settings)


class _Wire(asyncio.Protocol):
    """The socket: what is received goes through the client, what the client says is written."""

    transport: asyncio.Transport

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.is_dead = False
        self._settings = settings
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def has_events(self) -> bool:
        return bool(self._events)

    async def event(self) -> Event:
        """The next event; raises Died when none can come, or when a reply is late."""
        while not self._events:
            try:
                await self._reply()
            except TimeoutError:
                self.abort()
                raise Died from None
        return self._events.popleft()

    def flush(self) -> None:
        output = self.client.take_output()
        if output and not self.is_dead:
            self.transport.write(output)

    async def write(self, data: bytes) -> None:
        """Writes and waits until the kernel has all of it; raises Died, also when the server speaks meanwhile."""
        if self.is_dead or self._events:
            raise Died
        self.transport.write(data)
        try:
            async with asyncio.timeout(self._settings.limit(_PIECE_S)):
                await self._writable.wait()
        except TimeoutError:
            self.abort()
            raise Died from None
        if self.is_dead or self._events:
            raise Died

    async def secure(self, host: str) -> None:
        """The TLS handshake; raises TlsFailed."""
        name = None if host.startswith("[") else host
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                self.transport,
                self,
                self._settings.tls,
                server_hostname=name,
                ssl_handshake_timeout=self._settings.limit(_HANDSHAKE_S),
            )
        except (OSError, ValueError):  # SSLError is an OSError; a name that cannot be an SNI is a ValueError
            raise TlsFailed from None
        if secured is None or self.is_dead:
            raise TlsFailed
        self._use(secured)
        self.client.secured()
        self.flush()

    def close(self) -> None:
        if self.is_dead or self.transport.is_closing():
            return
        if self.client.may_quit:
            self.client.quit()
            self.flush()
            self.transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        if not self.is_dead:
            self.transport.abort()

    # -- asyncio calls ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._use(cast(asyncio.Transport, transport))  # uvloop's own class is not one by name

    def data_received(self, data: bytes) -> None:
        self._events.extend(self.client.receive(data))
        self.flush()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_dead = True
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _use(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        # A piece counts as sent when the kernel has it. Not 0: with that, TLS transports pause when nothing waits.
        transport.set_write_buffer_limits(high=1, low=0)

    async def _reply(self) -> None:
        """Waits for one more whole reply, within the limit of what it answers."""
        stage = self.client.awaited
        before = self.client.replies
        async with asyncio.timeout(self._settings.limit(WAIT_S[stage] if stage else 0.0)):
            while not self._events and self.client.replies == before:
                if self.is_dead:
                    raise Died
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
