"""One SMTP conversation (RFC 5321): which command is heard when, and what is answered.

Commands end in CRLF, a message at CRLF.CRLF, and both are read in pieces as large as they come. What is decided is
policy.py, what is grammatical grammar.py; nothing here says 250 to a message before the queue has committed it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from aiosmtpd import smtp

from mail.dsn import NO_WISH, Wish
from mail.header import received_from_network
from mail.limits import COMMAND_LINE_MAX_OCTETS, RECIPIENTS_MAX
from runtime import faults
from runtime.clock import fresh_id
from runtime.producer import Submission
from services.smtpd import grammar, limits, policy, tcprules
from services.smtpd.body import Body, Fault
from services.smtpd.connection import GOING_DOWN, Connection, octets_in_kernel

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

# What speaks here and is no mail: browsers and proxies (a form can carry SMTP commands in its body), and SSH.
_FOREIGN = (b"GET ", b"POST ", b"PUT ", b"CONNECT ", b"OPTIONS ", b"HEAD ", b"SSH-", b"\x16\x03")


class Envelope(smtp.Envelope):
    """aiosmtpd's envelope, and what the sender wishes to be told (RFC 3461)."""

    def __init__(self) -> None:
        super().__init__()
        self.ret = self.envid = ""
        self.wishes: list[Wish] = []

    def wishes_or_none(self) -> tuple[Wish, ...]:
        """A wish for each recipient; none at all when nobody wished for anything, which is nearly always."""
        return tuple(self.wishes) if any(wish != NO_WISH for wish in self.wishes) else ()


class Session(Connection):
    """One SMTP conversation. Made by the server for each connection; lives until `_speak` returns."""

    envelope: Envelope | None

    async def _speak(self) -> None:
        if await self._greet():
            await self._converse()

    def _create_envelope(self) -> Envelope:
        return Envelope()

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
        if self._inbox.waiting or octets_in_kernel(self.transport):
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
                    self._send_away(GOING_DOWN, "")
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

    # -- commands -----------------------------------------------------------------------------------------------------

    async def smtp_HELO(self, hostname: str) -> None:
        if self._introduce(hostname, extended=False):
            self._replies.append(f"250 {self._rules.greeting}\r\n".encode())

    async def smtp_EHLO(self, hostname: str) -> None:
        if self._introduce(hostname, extended=True):
            self._replies.append(
                f"250-{self._rules.greeting}\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
                f"250-SIZE {self._client.limit}\r\n250-DSN\r\n250 ENHANCEDSTATUSCODES\r\n".encode()
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
        self.envelope.ret, self.envelope.envid = sender.ret, sender.envid
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
        recipient = policy.addressed(self._rules, self._client, found.address, self._our_ip)
        refusal = policy.refuse_recipient(self._rules, self._client, sender, recipient, taken)
        if refusal is None:
            keeper = self._office.keeper
            verdict = keeper.known(recipient) or await self._while_busy(keeper.verdict(recipient))
            refusal = policy.refuse_verdict(self._rules, self._client, verdict)
        if refusal is not None:
            return self._refuse(refusal, recipient)
        self.envelope.rcpt_tos.append(recipient)
        self.envelope.wishes.append(found.wish)
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
        submission = Submission(
            id=message,
            sender=envelope.mail_from,
            recipients=tuple(envelope.rcpt_tos),
            body=content,
            uid=office.uid,
            envid=envelope.envid,
            ret=envelope.ret,
            wishes=envelope.wishes_or_none(),
        )
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
