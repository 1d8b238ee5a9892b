"""One SMTP conversation (RFC 5321) on a socket: aiosmtpd's protocol class with its own reader, commands and replies.

aiosmtpd keeps the life of the connection and, later, STARTTLS and AUTH. Written anew is what decides about speed and
safety: commands end in CRLF, a message at CRLF.CRLF, replies gather while the client has sent more, the timer is one a
connection. What is decided is policy.py, what is grammatical grammar.py; nothing here says 250 to a message before
the queue has committed it.
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

from mail.header import received_from_network
from mail.limits import COMMAND_LINE_MAX_OCTETS, RECIPIENTS_MAX
from runtime import faults
from runtime.clock import Chance, Clock, fresh_id
from runtime.events import Events
from runtime.producer import Submission
from services.smtpd import grammar, limits, policy, tcprules
from services.smtpd.body import Body, Fault
from services.smtpd.door import Door
from services.smtpd.inbox import Inbox
from services.smtpd.policy import Client, Rules, Verdict

_OK_SENDER = b"250 2.1.0 ok\r\n"
_OK_RECIPIENT = b"250 2.1.5 ok\r\n"
_OK_RESET = b"250 2.0.0 flushed\r\n"
_OK = b"250 2.0.0 ok\r\n"
_GO_AHEAD = b"354 go ahead\r\n"
_VERIFY = b"252 2.0.0 send some mail, i'll try my best\r\n"
_HELP = b"214 2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT\r\n"

_UNIMPLEMENTED = "502 5.5.1 unimplemented"
_BAD_LINE = "500 5.5.2 a command ends in CRLF and holds no CR, LF or NUL"
_LINE_TOO_LONG = f"500 5.5.2 a command has at most {COMMAND_LINE_MAX_OCTETS} octets"
_OUT_OF_STEP = "554 5.5.0 you went on before I answered"
_NOT_SMTP = "554 5.5.0 this is an SMTP server"
_ENOUGH = "421 4.7.0 too many errors, goodbye"
_TIMED_OUT = "421 4.4.2 timeout, goodbye"
_GOING_DOWN = "421 4.3.2 I am going down, come back in a minute"

# What speaks here and is no mail: browsers and proxies (a form can carry SMTP commands in its body), and SSH.
_FOREIGN = (b"GET ", b"POST ", b"PUT ", b"CONNECT ", b"OPTIONS ", b"HEAD ", b"SSH-", b"\x16\x03")


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


class Session(SMTP):
    """One connection. Made by the server for each; lives until `_handle_client` returns."""

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
            self._cut(_GOING_DOWN)

    async def _handle_client(self) -> None:
        try:
            if await self._greet():
                await self._converse()
            await self._flush()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has gone; nothing that it did not finish was taken
        except Exception as error:  # noqa: BLE001 - the top of a session: one client's trouble is not everybody's
            self._office.events.alert(f"session broke: {type(error).__name__}: {error}", peer=self._client.ip)
            self._cut(policy.TROUBLE)
        finally:
            await self._hang_up()
            self._office.door.leave(self)

    async def _greet(self) -> bool:
        assert self.transport is not None
        peer: Any = self.transport.get_extra_info("peername")
        ours: Any = self.transport.get_extra_info("sockname")
        ip = tcprules.plain(str(peer[0])) if peer else "unknown"
        client = policy.greet(self._rules, ip)
        if client is None:
            self._office.events.denied(ip)
            return False
        self._client = client
        self._our_ip = tcprules.plain(str(ours[0])) if ours else ""
        refusal = self._office.door.enter(self, ip, self._rules)
        if refusal is not None:
            self._send_away(refusal, "connect")
            return False
        if self._inbox.waiting or _octets_in_kernel(self.transport):
            self._send_away(_OUT_OF_STEP, "before the banner")
            return False
        self._replies.append(f"220 {self._rules.greeting} ESMTP\r\n".encode())
        return True

    async def _converse(self) -> None:
        inbox = self._inbox
        while not self._over:
            line = inbox.line()
            if line is not None and len(line) <= COMMAND_LINE_MAX_OCTETS:
                await self._obey(line)
                if len(self._replies) >= limits.REPLIES_MAX:
                    await self._flush()
            elif line is not None or inbox.partial() > COMMAND_LINE_MAX_OCTETS:
                self._send_away(_LINE_TOO_LONG, "")
            else:
                await self._flush()
                if self._ending:
                    self._send_away(_GOING_DOWN, "")
                elif not await inbox.look():
                    return

    async def _obey(self, line: bytes) -> None:
        if line[-2:] != b"\r\n" or b"\r" in line[:-2] or b"\0" in line:
            if line.startswith(_FOREIGN):
                return self._send_away(_NOT_SMTP, _shown(line))
            return self._refuse(_BAD_LINE, _shown(line))
        name, _, argument = line[:-2].partition(b" ")
        name = name.upper()
        command = _COMMANDS.get(name)
        if command is None:
            if line.startswith(_FOREIGN):
                return self._send_away(_NOT_SMTP, _shown(line))
            return self._refuse(_UNIMPLEMENTED, _shown(line))
        # RFC 2920 3.1: these are the last of a group, and their replies are awaited.
        if name in _LAST_OF_GROUP and self._inbox.waiting:
            return self._send_away(_OUT_OF_STEP, _shown(line))
        self._deadline = self.loop.time() + self._timeout_s
        return await command(self, argument.strip(b" ").decode("utf-8", "surrogateescape"))

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
            self._office.events.refused(self._client.ip, _TIMED_OUT, "")
            self._cut(_TIMED_OUT)
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
            self._send_away(_ENOUGH, "")

    def _send_away(self, reply: str, about: str) -> None:
        self._replies.append(f"{reply}\r\n".encode())
        self._office.events.refused(self._client.ip, reply, about)
        self._over = self._linger = True

    def _count_junk(self) -> None:
        self._junk += 1
        if self._junk > limits.JUNK_MAX:
            self._send_away(_ENOUGH, "")

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

    # -- commands -----------------------------------------------------------------------------------------------------

    async def smtp_HELO(self, hostname: str) -> None:
        if self._introduce(hostname, extended=False):
            self._replies.append(f"250 {self._rules.greeting}\r\n".encode())

    async def smtp_EHLO(self, hostname: str) -> None:
        if self._introduce(hostname, extended=True):
            self._replies.append(
                f"250-{self._rules.greeting}\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                f"250-SIZE {self._client.limit}\r\n250 ENHANCEDSTATUSCODES\r\n".encode()
            )

    def _introduce(self, hostname: str, extended: bool) -> bool:
        self._count_junk()
        if not hostname:
            self._refuse("501 5.5.4 say your name: EHLO name", "")
            return False
        assert self.session is not None
        self._set_rset_state()
        self.session.host_name = hostname
        self.session.extended_smtp = extended
        return not self._over

    async def smtp_MAIL(self, arg: str | None) -> None:
        assert self.session is not None
        assert self.envelope is not None
        if self.session.host_name is None:  # RFC 5321 4.1.4
            return self._refuse("503 5.5.1 EHLO first", "MAIL")
        if self.envelope.mail_from is not None:
            return self._refuse("503 5.5.1 one MAIL at a time", "MAIL")
        sender = grammar.mail(arg or "")
        if isinstance(sender, grammar.Refused):
            return self._refuse(sender.reply, arg or "")
        available = await self._while_busy(self._office.queue.available())
        refusal = policy.refuse_sender(self._client, sender.size, available)
        if refusal is not None:
            return self._refuse(refusal, sender.address)
        self.envelope.mail_from = sender.address
        self._replies.append(_OK_SENDER)
        return None

    async def smtp_RCPT(self, arg: str | None) -> None:
        assert self.envelope is not None
        if self.envelope.mail_from is None:
            return self._refuse("503 5.5.1 MAIL first", "RCPT")
        found = grammar.rcpt(arg or "")
        if isinstance(found, grammar.Refused):
            return self._refuse(found.reply, arg or "")
        sender, taken = self.envelope.mail_from, len(self.envelope.rcpt_tos)
        recipient = policy.addressed(self._rules, self._client, found, self._our_ip)
        refusal = policy.refuse_recipient(self._rules, self._client, sender, recipient, taken)
        if refusal is None:
            keeper = self._office.keeper
            verdict = keeper.known(recipient) or await self._while_busy(keeper.verdict(recipient))
            refusal = policy.refuse_verdict(self._rules, self._client, verdict)
        if refusal is not None:
            return self._refuse(refusal, recipient)
        self.envelope.rcpt_tos.append(recipient)
        self._replies.append(_OK_RECIPIENT)
        return None

    async def smtp_DATA(self, arg: str) -> None:
        assert self.envelope is not None
        if arg:
            return self._refuse("501 5.5.4 syntax: DATA", "DATA")
        if self.envelope.mail_from is None:
            return self._refuse("503 5.5.1 MAIL first", "DATA")
        if not self.envelope.rcpt_tos:
            return self._refuse("503 5.5.1 RCPT first", "DATA")
        if self._office.door.octets_left <= 0:
            return self._refuse(Fault.NO_ROOM, "DATA")
        self._replies.append(_GO_AHEAD)
        body = Body(self._client.limit)
        try:
            if await self._receive(body):
                await self._hand_in(body)
        finally:
            self._office.door.octets_left += body.held
            self._set_rset_state()
        return None

    async def smtp_RSET(self, arg: str) -> None:
        self._set_rset_state()
        self._replies.append(_OK_RESET)
        self._count_junk()

    async def smtp_NOOP(self, arg: str) -> None:
        self._replies.append(_OK)
        self._count_junk()

    async def smtp_VRFY(self, arg: str) -> None:
        self._replies.append(_VERIFY)
        self._count_junk()

    async def smtp_HELP(self, arg: str) -> None:
        self._replies.append(_HELP)
        self._count_junk()

    async def smtp_QUIT(self, arg: str) -> None:
        self._replies.append(f"221 2.0.0 {self._rules.greeting}\r\n".encode())
        self._over = True

    # -- a message ----------------------------------------------------------------------------------------------------

    async def _receive(self, body: Body) -> bool:
        """Reads to the true end of the data; False when the client went, or was sent, away before it."""
        await self._flush()
        door, began = self._office.door, self.loop.time()
        while True:
            patience = began + self._timeout_s + body.read / limits.DATA_RATE_MIN
            self._deadline = min(self.loop.time() + self._timeout_s, patience)
            piece = await self._inbox.piece()
            if not piece:
                return False
            held = body.held
            rest = body.feed(piece)
            door.octets_left -= body.held - held
            if rest is not None:
                self._inbox.put_back(rest)
                return True
            if door.octets_left < 0:
                body.spoil(Fault.NO_ROOM)
            if body.fault is not None and body.read > limits.DATA_DISCARD_MAX_OCTETS:
                self._send_away(body.fault, "DATA")
                return False

    async def _hand_in(self, body: Body) -> None:
        """Gives a whole message to the queue and answers as the queue does."""
        office, session, envelope = self._office, self.session, self.envelope
        assert session is not None
        assert envelope is not None
        assert envelope.mail_from is not None
        if body.fault is not None:
            return self._refuse(body.fault, envelope.mail_from)
        message, unix_s = fresh_id(office.clock, office.chance), office.clock.wall_ms() // 1000
        how = "ESMTP" if session.extended_smtp else "SMTP"
        received = received_from_network(
            self._client.ip, session.host_name or "", self._rules.me, how, (unix_s, message)
        )
        content = body.whole(received.encode("ascii"))
        if body.fault is not None:
            return self._refuse(body.fault, envelope.mail_from)
        submission = Submission(message, envelope.mail_from, tuple(envelope.rcpt_tos), content, office.uid)
        self._past_dot = True
        faults.point(faults.Point.SMTPD_BEFORE_ENQUEUE)  # a crash here: no reply, nothing queued, the client asks again
        refusal = await self._while_busy(office.queue.submit(submission))
        self._past_dot = False
        if refusal is not None:
            return self._refuse(refusal if policy.is_reply(refusal) else policy.TROUBLE, message)
        faults.point(faults.Point.SMTPD_BEFORE_REPLY)  # a crash here: queued, the client asks again; window W0
        office.events.accepted(message, self._client.ip, envelope.mail_from, envelope.rcpt_tos, len(content))
        self._errors = self._temporary_errors = self._junk = 0
        self._replies.append(f"250 2.0.0 ok {unix_s} qp {message}\r\n".encode())
        return None

    async def _while_busy(self, work: Awaitable[Any]) -> Any:
        """Awaits our own work, during which the client is not the one who is late."""
        self._deadline = math.inf
        try:
            return await work
        finally:
            self._deadline = self.loop.time() + self._timeout_s


_COMMANDS: dict[bytes, Callable[[Session, str], Awaitable[None]]] = {
    b"HELO": Session.smtp_HELO,
    b"EHLO": Session.smtp_EHLO,
    b"MAIL": Session.smtp_MAIL,
    b"RCPT": Session.smtp_RCPT,
    b"DATA": Session.smtp_DATA,
    b"RSET": Session.smtp_RSET,
    b"NOOP": Session.smtp_NOOP,
    b"VRFY": Session.smtp_VRFY,
    b"HELP": Session.smtp_HELP,
    b"QUIT": Session.smtp_QUIT,
}
_LAST_OF_GROUP = frozenset({b"HELO", b"EHLO", b"DATA"})

assert limits.TEMPORARY_ERRORS_MAX >= RECIPIENTS_MAX, "a client must be able to learn that its list was too long"


def _shown(line: bytes) -> str:
    return line[:200].decode("utf-8", "backslashreplace").rstrip("\r\n")


def _octets_in_kernel(transport: asyncio.BaseTransport) -> int:
    """What has come before the loop has read anything (FIONREAD)."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return 0
    (octets,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.FIONREAD, b"\0\0\0\0"))
    return int(octets)
