"""The client's half of SMTP (RFC 5321) over one connection: replies in, commands and events out.

Pure: no socket, clock or await, so that every conversation is a value. It knows the order of commands and what each
reply answers; it does not know what a delivery is, which host this is, or what will be tried next. A reply counts only
when its command was sent before it: octets that come early end the conversation, and nothing learned in plaintext is
used after STARTTLS (RFC 3207 section 4.2).
"""

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from mail import address, dsn
from mail.dsn import Wish
from services.remote import body
from services.remote.reply import Reply, ReplyReader, Violation

# What may stand in a domain between < and > of MAIL and RCPT without ending the path or the command.
_DOMAIN = re.compile(r"[^\x00-\x20<>\x7f]*\Z")


class Stage(StrEnum):
    """Which command a reply answers."""

    GREETING = "greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The reply that decided over one recipient, and the command it answered."""

    stage: Stage
    reply: Reply
    is_temporary: bool


@dataclass(frozen=True, slots=True)
class Envelope:
    """One transaction: sender, recipients, what MAIL says about the message, and what the sender wishes to be told.

    `wishes` has one for each recipient, or none at all; `envid` and `ret` are "" when not given (RFC 3461).
    """

    sender: str
    recipients: tuple[str, ...]
    size: int
    has_8bit: bool
    has_8bit_header: bool = False
    envid: str = ""
    ret: str = ""
    wishes: tuple[Wish, ...] = ()

    def needs_smtputf8(self) -> bool:
        """Whether an address cannot be written in ASCII (RFC 6531 3.4)."""
        return not all(path.isascii() for path in (self.sender, *self.recipients))


@dataclass(frozen=True, slots=True)
class Ready:
    """Both sides are introduced; a transaction may begin."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not want this connection at all."""

    stage: Stage
    reply: Reply


@dataclass(frozen=True, slots=True)
class StartTls:
    """Do the TLS handshake now, then call `secured`."""


@dataclass(frozen=True, slots=True)
class SendBody:
    """The server waits for the message: send its pieces, then the final dot with `dot`."""


@dataclass(frozen=True, slots=True)
class Done:
    """The transaction is over; `may_go_on` says whether the connection can take another one."""

    verdicts: tuple[Verdict | None, ...]
    may_go_on: bool


@dataclass(frozen=True, slots=True)
class Violated:
    """The server broke the protocol; nothing it says from now on counts."""

    why: str


Event = Ready | Refused | StartTls | SendBody | Done | Violated


class Client:
    """One connection to one server, from its greeting on."""

    def __init__(self, helo: str, wants_tls: bool) -> None:
        self._helo = helo
        self._wants_tls = wants_tls
        self._reader = ReplyReader()
        self._output = bytearray()
        self._awaited: deque[Stage] = deque([Stage.GREETING])
        self._offers: dict[str, str] = {}
        self.replies = 0  # how many whole replies came, so that a time limit counts for each
        self._is_broken = False
        self._handshake = False
        self._in_message = False
        self._envelope = Envelope("", (), 0, False)
        self._to_send: deque[str] = deque()
        self._verdicts: list[Verdict | None] = []
        self._answered = 0
        self._accepted = 0
        self._on_reply: dict[Stage, Callable[[Reply], list[Event]]] = {
            Stage.GREETING: self._greeted,
            Stage.EHLO: self._introduced,
            Stage.HELO: self._introduced_the_old_way,
            Stage.STARTTLS: self._tls_answered,
            Stage.MAIL: self._mail_answered,
            Stage.RCPT: self._rcpt_answered,
            Stage.DATA: self._data_answered,
            Stage.DOT: self._dot_answered,
        }

    @property
    def awaited(self) -> Stage | None:
        """The command whose reply comes next; None when it is our turn."""
        return self._awaited[0] if self._awaited else None

    @property
    def may_quit(self) -> bool:
        """Whether a command would be understood as one now."""
        return not (self._awaited or self._in_message or self._handshake or self._is_broken)

    @property
    def offers(self) -> dict[str, str]:
        """The extensions of the last EHLO."""
        return self._offers

    @property
    def verdicts(self) -> tuple[Verdict | None, ...]:
        """What is decided so far in the transaction under way."""
        return tuple(self._verdicts)

    def take_output(self) -> bytes:
        """The commands to write now; each octet is given out once."""
        output = bytes(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> list[Event]:
        """What these octets mean. After a Violated nothing means anything any more."""
        events: list[Event] = []
        if self._is_broken:
            return events
        try:
            self._reader.add(data)
            if not self._awaited:
                raise Violation("octets that answer no command")
            while self._awaited and (reply := self._reader.next()):
                events.extend(self._take(reply))
        except Violation as violation:
            self._is_broken = True
            events.append(Violated(str(violation)))
        if any(isinstance(event, Violated) for event in events):
            self._is_broken = True
            self._output.clear()
        return events

    def secured(self) -> None:
        """The handshake succeeded: everything is forgotten and begins again with EHLO (RFC 3207 4.2)."""
        self._handshake = False
        self._wants_tls = False
        self._offers = {}
        self._command(Stage.EHLO, f"EHLO {self._helo}")

    def begin(self, envelope: Envelope) -> None:
        """Starts a transaction; raises ValueError for what cannot stand in a command."""
        sender, *recipients = [_path(one) for one in (envelope.sender, *envelope.recipients)]
        self._envelope = envelope
        self._verdicts = [None] * len(recipients)
        self._answered = self._accepted = 0
        wished = map(self._wished, envelope.wishes) if envelope.wishes else [""] * len(recipients)
        self._to_send = deque(f"RCPT TO:{path}{said}" for path, said in zip(recipients, wished, strict=True))
        self._command(Stage.MAIL, f"MAIL FROM:{sender}{self._mail_parameters()}")
        if "PIPELINING" in self._offers:  # RFC 2920 3.1: MAIL, RCPT... and DATA as its last command
            while self._to_send:
                self._command(Stage.RCPT, self._to_send.popleft())
            self._command(Stage.DATA, "DATA")

    def dot(self) -> bytes:
        """The end of the message; from here on the server may have taken it."""
        self._in_message = False
        self._awaited.append(Stage.DOT)
        return body.END

    def quit(self) -> None:
        """Says good-bye. The answer is not waited for, as in qmail-remote."""
        self._is_broken = True
        self._output += b"QUIT\r\n"

    # -- replies ------------------------------------------------------------------------------------------------------

    def _take(self, reply: Reply) -> list[Event]:
        self.replies += 1
        stage = self._awaited.popleft()
        was_last = not self._awaited
        if was_last and not self._reader.is_empty:
            # It cannot answer what was not yet asked. The reply to the final dot stands: its command was sent.
            early: list[Event] = [Violated("octets before their command")]
            return [*self._on_reply[stage](reply), *early] if stage is Stage.DOT else early
        return self._on_reply[stage](reply)

    def _greeted(self, reply: Reply) -> list[Event]:
        if reply.code != 220:
            return [Refused(Stage.GREETING, reply)]
        self._command(Stage.EHLO, f"EHLO {self._helo}")
        return []

    def _introduced(self, reply: Reply) -> list[Event]:
        if reply.is_permanent:  # RFC 5321 3.2: an old server
            self._command(Stage.HELO, f"HELO {self._helo}")
            return []
        if reply.code != 250:
            return [Refused(Stage.EHLO, reply)]
        self._offers = reply.keywords()
        if self._wants_tls and "STARTTLS" in self._offers:
            self._command(Stage.STARTTLS, "STARTTLS")
            return []
        return [Ready()]

    def _introduced_the_old_way(self, reply: Reply) -> list[Event]:
        return [Ready()] if reply.code == 250 else [Refused(Stage.HELO, reply)]

    def _tls_answered(self, reply: Reply) -> list[Event]:
        if reply.code == 220:
            self._handshake = True
            return [StartTls()]
        return [Ready()]  # offered and then not given: in plaintext, as with a server that never offered it

    def _mail_answered(self, reply: Reply) -> list[Event]:
        if not reply.accepts:
            return self._decide_rest(Stage.MAIL, reply)
        return self._next_in_step()

    def _rcpt_answered(self, reply: Reply) -> list[Event]:
        index = self._answered
        self._answered += 1
        if reply.accepts:
            self._accepted += self._verdicts[index] is None
        elif reply.code == 421:
            return self._decide_rest(Stage.RCPT, reply)
        elif self._verdicts[index] is None:
            self._verdicts[index] = self._verdict(Stage.RCPT, reply)
        return self._next_in_step()

    def _data_answered(self, reply: Reply) -> list[Event]:
        if 300 <= reply.code < 400:
            if self._accepted:
                self._in_message = True
                return [SendBody()]
            # RFC 2920 3.1: DATA went out before the refusals came in. An empty message for nobody ends it.
            self._output += self.dot()
            return []
        if reply.accepts:
            return [Violated("DATA answered without asking for the message")]
        return self._decide_rest(Stage.DATA, reply)

    def _dot_answered(self, reply: Reply) -> list[Event]:
        if 300 <= reply.code < 400:
            return [Violated("a reply to the message that is neither yes nor no")]
        if self._accepted:
            self._decide_rest(Stage.DOT, reply)
        return [Done(self.verdicts, may_go_on=reply.code != 421)]

    # -- commands -----------------------------------------------------------------------------------------------------

    def _next_in_step(self) -> list[Event]:
        """Without PIPELINING: one command after one reply."""
        if self._awaited:
            return []
        if self._to_send:
            self._command(Stage.RCPT, self._to_send.popleft())
            return []
        if self._accepted:
            self._command(Stage.DATA, "DATA")
            return []
        return [Done(self.verdicts, may_go_on=False)]

    def _decide_rest(self, stage: Stage, reply: Reply) -> list[Event]:
        verdict = self._verdict(stage, reply)
        self._verdicts = [found or verdict for found in self._verdicts]
        self._to_send.clear()
        if stage is Stage.MAIL and reply.code != 421 and self._awaited:
            return []  # the replies to the rest of the group are still to come
        self._awaited.clear()
        return [Done(self.verdicts, may_go_on=False)]

    def _verdict(self, stage: Stage, reply: Reply) -> Verdict:
        # RFC 5321 4.5.3.1.10: 552 after accepted recipients means "too many of them" and is temporary.
        too_many = stage is Stage.RCPT and reply.code == 552 and self._accepted > 0
        return Verdict(stage, reply, is_temporary=too_many or not (reply.is_permanent or reply.accepts))

    def _command(self, stage: Stage, line: str) -> None:
        self._awaited.append(stage)
        self._output += line.encode() + b"\r\n"

    def _mail_parameters(self) -> str:
        said = ""
        if "SIZE" in self._offers:
            said += f" SIZE={self._envelope.size}"
        if self._envelope.has_8bit and "8BITMIME" in self._offers:
            said += " BODY=8BITMIME"
        if (self._envelope.needs_smtputf8() or self._envelope.has_8bit_header) and "SMTPUTF8" in self._offers:
            said += " SMTPUTF8"
        if "DSN" in self._offers:
            said += _parameter("RET", self._envelope.ret, dsn.is_ret)
            said += _parameter("ENVID", self._envelope.envid, dsn.is_envid)
        return said

    def _wished(self, wish: Wish) -> str:
        """NOTIFY and ORCPT as they came, for a server that knows what to do with them (RFC 3461 5.2.1)."""
        if "DSN" not in self._offers:
            return ""
        notify = dsn.notify_text(wish.notify)
        return _parameter("NOTIFY", notify, dsn.parse_notify) + _parameter("ORCPT", wish.orcpt, dsn.is_orcpt)


def is_path(text: str) -> bool:
    """Whether an address can stand between < and > of a command."""
    return address.acceptable(text) and _DOMAIN.match(address.split(text)[1]) is not None


def _parameter(keyword: str, value: str, is_sound: Callable[[str], object]) -> str:
    if value and not is_sound(value):
        raise ValueError(f"a value that cannot stand behind {keyword}")
    return f" {keyword}={value}" if value else ""


def _path(text: str) -> str:
    if not is_path(text):
        raise ValueError("an address that cannot stand in a command")
    return f"<{address.quoted(text)}>" if text else "<>"
