"""The life of one connection on aiosmtpd's protocol class: its timer, its replies, its end. Knows no command.

aiosmtpd keeps the transport and, later, STARTTLS and AUTH. Replies gather while the client has sent more and go out in
one write before the next wait; the timer is one a connection. What a session does in between is session.py.
"""

import asyncio
import contextlib
import fcntl
import math
import struct
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiosmtpd.smtp import SMTP

from runtime.clock import Chance, Clock
from runtime.events import Events
from runtime.producer import Submission
from services.smtpd import limits, policy
from services.smtpd.door import Door
from services.smtpd.inbox import Inbox
from services.smtpd.policy import Client, Rules, Verdict

ENOUGH = "421 4.7.0 too many errors, goodbye"
TIMED_OUT = "421 4.4.2 timeout, goodbye"
GOING_DOWN = "421 4.3.2 I am going down, come back in a minute"


class Queue(Protocol):
    """The queue, as runtime/producer.py offers it."""

    async def available(self) -> bool: ...

    async def submit(self, submission: Submission) -> str | None: ...


class Keeper(Protocol):
    """The keeper of accounts, as accounts.py offers it."""

    def known(self, recipient: str) -> Verdict | None: ...

    async def verdict(self, recipient: str) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Office:
    """What all sessions of the process share."""

    rules: Callable[[], Rules]
    queue: Queue
    keeper: Keeper
    door: Door
    clock: Clock
    chance: Chance
    events: Events
    uid: int


class Connection(SMTP):
    """A connection from its first moment to its last; a session says what is spoken on it (`_speak`)."""

    def __init__(self, office: Office, loop: asyncio.AbstractEventLoop) -> None:
        # Not aiosmtpd's own constructor: it searches all members for hooks, 0.2 ms a connection with the same result
        # each time, and empties a table that all sessions share. What its other methods need is set here.
        self._inbox = Inbox(loop)
        asyncio.StreamReaderProtocol.__init__(self, self._inbox, self._cb_client_connected, loop)
        self.loop = loop
        self.transport = None
        self.tls_context = None
        self._original_transport = None
        self._tls_protocol = None
        self._timeout_handle = None
        self._office = office
        self._rules = office.rules()
        self._client = Client("unknown", None, 0)
        self._our_ip = ""
        self._timeout_s = office.clock.scaled(self._rules.timeout_s)
        self._deadline = math.inf
        self._replies: list[bytes] = []
        self._errors = self._temporary_errors = self._junk = 0
        self._over = self._linger = self._past_dot = self._ending = False

    # -- the life of the connection -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._office.door.knock(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """The peer has gone. What is past its final dot goes on to its end: the task finds out by itself."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None

    def eof_received(self) -> bool | None:
        """The peer says no more, but still listens: what it said before is answered."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    def wind_down(self) -> None:
        self._ending = True
        if not self._past_dot:
            self._cut(GOING_DOWN)

    async def _handle_client(self) -> None:
        try:
            await self._speak()
            await self._flush()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone; nothing that it did not finish was taken
        except Exception as error:  # noqa: BLE001 - the top of a session: one client's trouble is not everybody's
            self._office.events.alert(f"session broke: {type(error).__name__}: {error}", peer=self._client.ip)
            self._cut(policy.TROUBLE)
        finally:
            await self._hang_up()
            self._office.door.leave(self)

    async def _speak(self) -> None:
        """The conversation, from the banner to the last reply."""
        raise NotImplementedError

    async def _hang_up(self) -> None:
        """Closes. A client that is sent away while it talks is heard a little longer, or a reset eats our reply."""
        if self.transport is not None and self._linger and not self._inbox.at_eof():
            try:
                self._writer.write_eof()
                async with asyncio.timeout(limits.LINGER_S):
                    while await self._inbox.piece():
                        pass
            except (TimeoutError, OSError, RuntimeError):
                pass  # it is gone, or it goes on for ever
        transport: Any = self.transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                self.loop.call_later(self._timeout_s, transport.abort)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # -- the timer: one a connection, which looks whether the deadline has moved meanwhile -----------------------------

    def _reset_timeout(self, duration: float | None = None) -> None:
        self._deadline = self.loop.time() + (duration or self._timeout_s)
        if self._timeout_handle is None:
            self._timeout_handle = self.loop.call_at(self._deadline, self._timeout_cb)

    def _timeout_cb(self) -> None:
        now = self.loop.time()
        if now >= self._deadline:
            self._office.events.refused(self._client.ip, TIMED_OUT, "")
            self._cut(TIMED_OUT)
        else:
            later = min(self._deadline, now + self._timeout_s)
            self._timeout_handle = self.loop.call_at(later, self._timeout_cb)

    def _cut(self, reply: str) -> None:
        """Says a last word, if it can be said without waiting, and closes."""
        self._over = True
        transport: Any = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size():
            transport.abort()  # it does not even read what it was told
            return
        if not self._linger:  # else its last word has been said
            transport.write(b"".join(self._replies) + f"{reply}\r\n".encode())
            self._replies.clear()
        transport.close()

    # -- replies ------------------------------------------------------------------------------------------------------

    def _set_rset_state(self) -> None:
        self.envelope = self._create_envelope()

    async def push(self, status: str | bytes) -> None:
        """A reply of aiosmtpd's own methods; it goes out before the next wait for the client."""
        self._replies.append((status.encode("ascii", "replace") if isinstance(status, str) else status) + b"\r\n")

    def _refuse(self, reply: str, about: str) -> None:
        """Answers with an error, and counts it."""
        self._replies.append(f"{reply}\r\n".encode())
        self._office.events.refused(self._client.ip, reply, about)
        if reply[0] == "4":
            self._temporary_errors += 1
        else:
            self._errors += 1
        if self._errors > limits.ERRORS_MAX or self._temporary_errors > limits.TEMPORARY_ERRORS_MAX:
            self._send_away(ENOUGH, "")

    def _send_away(self, reply: str, about: str) -> None:
        self._replies.append(f"{reply}\r\n".encode())
        self._office.events.refused(self._client.ip, reply, about)
        self._over = self._linger = True

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk > limits.JUNK_MAX:
            self._send_away(ENOUGH, "")

    async def _flush(self) -> None:
        """Writes the gathered replies in one piece. ConnectionError when nobody is there."""
        if not self._replies:
            return
        replies = b"".join(self._replies)
        self._replies.clear()
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError
        self._writer.write(replies)
        await self._writer.drain()

    async def _while_busy(self, work: Awaitable[Any]) -> Any:
        """Awaits our own work, during which the client is not the one who is late."""
        self._deadline = math.inf
        try:
            return await work
        finally:
            self._deadline = self.loop.time() + self._timeout_s


def octets_in_kernel(transport: asyncio.BaseTransport) -> int:
    """What has come before the loop has read anything (FIONREAD)."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return 0
    (octets,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.FIONREAD, b"\0\0\0\0"))
    return int(octets)
