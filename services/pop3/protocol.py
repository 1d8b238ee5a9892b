"""One POP3 conversation as a value (RFC 1939, CAPA of RFC 2449): octets in, events out; answers in, octets out.

`receive` what the client sent, then ask `next_event` until it says NEED_DATA; an event that is a question is answered
by the method its docstring names, and what that returns is sent. Knows commands, states and numbers of messages; must
not know sockets, clocks, Maildirs or how a password is checked. Texts are those of qmail-popup and qmail-pop3d.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

# RFC 2449 section 4 asks for 255 octets; a password alone may have 511. Nobody types a longer line in earnest.
LINE_MAX_OCTETS = 1_024
# Replies with -ERR in one conversation; clients that probe for extensions cause a handful.
ERRORS_MAX = 20
# Wrong passwords in one conversation (RFC 1939 section 13 lets a server drop the client).
LOGIN_TRIES_MAX = 3
# Messages in one piece of a listing: whoever sends it can do something else between two pieces.
LISTED_AT_ONCE = 1_000
# Digits of a message number or a count of lines: 4,294,967,295 has ten.
_NUMBER = re.compile(rb"[0-9]{1,10}\Z")

_CAPABILITIES = (
    b"USER",
    b"UIDL",
    b"TOP",
    b"RESP-CODES",
    b"AUTH-RESP-CODE",
    b"PIPELINING",
    b"EXPIRE NEVER",
    b"IMPLEMENTATION Seapost",
)


class State(Enum):
    """Where the conversation is. The words of RFC 1939, and one for each question that waits for its answer."""

    AUTHORIZATION = auto()
    NAMED = auto()
    CHECKING = auto()
    TRANSACTION = auto()
    SENDING = auto()
    UPDATE = auto()
    ENDED = auto()


class Cause(Enum):
    """What moves a conversation from one state to the next."""

    USER = auto()
    PASS = auto()
    ACCEPTED = auto()
    REFUSED = auto()
    RETR = auto()
    SENT = auto()
    QUIT = auto()
    UPDATED = auto()
    GAVE_UP = auto()


TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.AUTHORIZATION, Cause.USER): State.NAMED,
    (State.AUTHORIZATION, Cause.QUIT): State.ENDED,
    (State.AUTHORIZATION, Cause.GAVE_UP): State.ENDED,
    (State.NAMED, Cause.USER): State.NAMED,
    (State.NAMED, Cause.PASS): State.CHECKING,
    (State.NAMED, Cause.QUIT): State.ENDED,
    (State.NAMED, Cause.GAVE_UP): State.ENDED,
    (State.CHECKING, Cause.ACCEPTED): State.TRANSACTION,
    (State.CHECKING, Cause.REFUSED): State.AUTHORIZATION,
    (State.CHECKING, Cause.GAVE_UP): State.ENDED,
    (State.TRANSACTION, Cause.RETR): State.SENDING,
    (State.TRANSACTION, Cause.QUIT): State.UPDATE,
    (State.TRANSACTION, Cause.GAVE_UP): State.ENDED,
    (State.SENDING, Cause.SENT): State.TRANSACTION,
    (State.UPDATE, Cause.UPDATED): State.ENDED,
}


class Misuse(Exception):
    """The caller gave an answer to a question that was not asked."""


@dataclass(frozen=True, slots=True)
class NeedData:
    """Every whole command is dealt with: `receive` more."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Login:
    """Is this the password? Answer with `accept` or `refuse`."""

    user: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Retrieve:
    """The client wants message `number`, or its header and `lines` lines. Answer with `begin_message`, then send the
    stuffed message, then call `end_message`; or answer with `no_message`."""

    number: int
    lines: int | None


@dataclass(frozen=True, slots=True)
class Update:
    """The client said QUIT: the messages of these numbers are to go. Answer with `updated`."""

    deleted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more is read or sent: close the connection."""


NEED_DATA = NeedData()
Event = NeedData | Send | Login | Retrieve | Update | Ended


class Refusal(Enum):
    """Why a login does not succeed, as the client is told (RFC 2449 section 8, RFC 3206)."""

    WRONG = b"[AUTH] authorization failed"
    IN_USE = b"[IN-USE] this maildrop has another session"
    NO_MAILDROP = b"[SYS/PERM] this user has no $HOME/Maildir"
    UNREADABLE = b"[SYS/TEMP] unable to scan $HOME/Maildir"
    LATER = b"[SYS/TEMP] too busy, try again later"


@dataclass(frozen=True, slots=True)
class Maildrop:
    """The messages of one session, oldest first: unique ids, and sizes in octets as the client will have them."""

    uids: Sequence[str]
    octets: Sequence[int]


# The whole of a conversation with a server that has too many of them, and the end of one whose maildrop was lost.
TOO_MANY_CONNECTIONS = b"-ERR [SYS/TEMP] too many connections\r\n"
MAILDROP_LOST = b"-ERR [SYS/TEMP] unable to go on with $HOME/Maildir\r\n"


class Protocol:
    """The server's side of one conversation. `banner` is what the greeting shows, unique to this connection."""

    def __init__(self, banner: str) -> None:
        self.state = State.AUTHORIZATION
        self.user = b""
        self._banner = banner
        self._buffer = bytearray()
        self._line_scanned = 0
        self._maildrop = Maildrop((), ())
        self._deleted: set[int] = set()
        self._octets_kept = 0
        self._listing_left: Iterator[bytes] = iter(())
        self._errors = 0
        self._tries = 0

    def greet(self) -> bytes:
        """The first line. Text after the timestamp, and no APOP in CAPA, say that the timestamp is not for APOP."""
        return f"+OK <{self._banner}> POP3 server ready\r\n".encode("ascii", "replace")

    def receive(self, data: bytes) -> None:
        """Takes what the client sent. At most one read's worth is kept besides what is under way."""
        self._buffer += data

    def next_event(self) -> Event:
        """The next thing to do; commands after a question wait until it is answered."""
        if self.state is State.ENDED:
            return Ended()
        if self.state in (State.CHECKING, State.SENDING, State.UPDATE):
            raise Misuse(f"{self.state.name} waits for its answer")
        if (piece := next(self._listing_left, None)) is not None:
            return Send(piece)
        end = self._buffer.find(b"\n", self._line_scanned)
        if (end if end >= 0 else len(self._buffer)) > LINE_MAX_OCTETS:
            return self._give_up(b"line too long")
        if end < 0:
            self._line_scanned = len(self._buffer)
            return NEED_DATA
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        self._line_scanned = 0
        return self._command(line)

    # -- answers ------------------------------------------------------------------------------------------------------

    def accept(self, maildrop: Maildrop) -> bytes:
        """The password was right and the maildrop is locked for this session."""
        self._move(Cause.ACCEPTED)
        self._maildrop = maildrop
        self._octets_kept = sum(maildrop.octets)
        return _ok()

    def refuse(self, refusal: Refusal) -> bytes:
        """No session; the client may try again a few times."""
        self._tries += refusal is Refusal.WRONG
        self._errors += 1
        gone = self._tries >= LOGIN_TRIES_MAX or self._errors >= ERRORS_MAX
        self._move(Cause.GAVE_UP if gone else Cause.REFUSED)
        return _error(refusal.value)

    def begin_message(self) -> bytes:
        """The message is there; its stuffed text follows."""
        self._expect(State.SENDING)
        return _ok()

    def end_message(self) -> None:
        """The message and its lone dot are sent."""
        self._move(Cause.SENT)

    def no_message(self) -> bytes:
        """The file has gone, or is not one to be read: the session lives on."""
        self._move(Cause.SENT)
        return _error(b"unable to open that message")

    def updated(self, all_deleted: bool) -> bytes:
        """What was to go is gone, and durably so; or some of it could not be removed (RFC 1939 section 6)."""
        self._move(Cause.UPDATED)
        return _ok() if all_deleted else _error(b"unable to unlink all deleted messages")

    # -- commands -----------------------------------------------------------------------------------------------------

    def _command(self, line: bytes) -> Event:
        verb, _, argument = line.partition(b" ")
        if b"\0" in line:
            return self._fail(b"syntax error")
        before_login = self.state is not State.TRANSACTION
        commands = _BEFORE_LOGIN if before_login else _AFTER_LOGIN
        command = commands.get(verb.upper())
        if command is None:
            return self._fail(b"authorization first" if before_login else b"unimplemented")
        return command(self, argument)

    def _user(self, argument: bytes) -> Event:
        name = argument.strip(b" ")
        if not name:
            return self._fail(b"syntax error")
        self.user = name
        self._move(Cause.USER)
        return Send(_ok())

    def _pass(self, password: bytes) -> Event:
        if self.state is not State.NAMED:
            return self._fail(b"USER first")
        if not password:
            return self._fail(b"syntax error")
        self._move(Cause.PASS)
        return Login(self.user, password)

    def _capa(self, _: bytes) -> Event:
        return Send(_ok() + b"".join(one + b"\r\n" for one in _CAPABILITIES) + b".\r\n")

    def _noop(self, _: bytes) -> Event:
        return Send(_ok())

    def _leave(self, _: bytes) -> Event:
        self._move(Cause.QUIT)
        return Send(_ok())

    def _stat(self, _: bytes) -> Event:
        return Send(_ok(b"%d %d" % (len(self._maildrop.uids) - len(self._deleted), self._octets_kept)))

    def _list(self, argument: bytes) -> Event:
        return self._listing(argument, lambda number: b"%d %d" % (number, self._maildrop.octets[number - 1]))

    def _uidl(self, argument: bytes) -> Event:
        return self._listing(argument, lambda number: b"%d %b" % (number, self._maildrop.uids[number - 1].encode()))

    def _listing(self, argument: bytes, show: Callable[[int], bytes]) -> Event:
        if not argument.strip(b" "):
            self._listing_left = self._pieces(show)
            return Send(_ok())
        number = self._number(argument)
        return Send(_ok(show(number))) if isinstance(number, int) else number

    def _retr(self, argument: bytes) -> Event:
        number = self._number(argument)
        if not isinstance(number, int):
            return number
        self._move(Cause.RETR)
        return Retrieve(number, None)

    def _top(self, argument: bytes) -> Event:
        first, _, second = argument.strip(b" ").partition(b" ")
        second = second.strip(b" ")
        if second and not _NUMBER.match(second):
            return self._fail(b"syntax error")
        number = self._number(first)
        if not isinstance(number, int):
            return number
        self._move(Cause.RETR)
        return Retrieve(number, int(second) if second else None)

    def _dele(self, argument: bytes) -> Event:
        number = self._number(argument)
        if not isinstance(number, int):
            return number
        self._deleted.add(number)
        self._octets_kept -= self._maildrop.octets[number - 1]
        return Send(_ok())

    def _rset(self, _: bytes) -> Event:
        self._deleted.clear()
        self._octets_kept = sum(self._maildrop.octets)
        return Send(_ok())

    def _quit(self, _: bytes) -> Event:
        self._move(Cause.QUIT)
        return Update(tuple(sorted(self._deleted)))

    # -- how ----------------------------------------------------------------------------------------------------------

    def _pieces(self, show: Callable[[int], bytes]) -> Iterator[bytes]:
        """The lines of a listing of everything that is not deleted, and its end."""
        total = len(self._maildrop.uids)
        for start in range(1, total + 1, LISTED_AT_ONCE):
            numbers = range(start, min(start + LISTED_AT_ONCE, total + 1))
            yield b"".join(show(number) + b"\r\n" for number in numbers if number not in self._deleted)
        yield b".\r\n"

    def _number(self, argument: bytes) -> int | Send:
        """The message that a client names, or the reply that says why it names none."""
        digits = argument.strip(b" ")
        if not _NUMBER.match(digits):
            return self._fail(b"syntax error")
        number = int(digits)
        if number == 0:
            return self._fail(b"messages are counted from 1")
        if number > len(self._maildrop.uids):
            return self._fail(b"not that many messages")
        if number in self._deleted:
            return self._fail(b"already deleted")
        return number

    def _fail(self, text: bytes) -> Send:
        self._errors += 1
        if self._errors >= ERRORS_MAX:
            return self._give_up(b"too many errors")
        return Send(_error(text))

    def _give_up(self, text: bytes) -> Send:
        self._move(Cause.GAVE_UP)
        self._buffer.clear()
        return Send(_error(text))

    def _expect(self, state: State) -> None:
        if self.state is not state:
            raise Misuse(f"{self.state.name} is not {state.name}")

    def _move(self, cause: Cause) -> None:
        try:
            self.state = TRANSITIONS[self.state, cause]
        except KeyError:
            raise Misuse(f"{cause.name} has no place in {self.state.name}") from None


_BEFORE_LOGIN: dict[bytes, Callable[[Protocol, bytes], Event]] = {
    b"USER": Protocol._user,
    b"PASS": Protocol._pass,
    b"CAPA": Protocol._capa,
    b"NOOP": Protocol._noop,
    b"QUIT": Protocol._leave,
}
_AFTER_LOGIN: dict[bytes, Callable[[Protocol, bytes], Event]] = {
    b"STAT": Protocol._stat,
    b"LIST": Protocol._list,
    b"UIDL": Protocol._uidl,
    b"RETR": Protocol._retr,
    b"TOP": Protocol._top,
    b"DELE": Protocol._dele,
    b"RSET": Protocol._rset,
    b"NOOP": Protocol._noop,
    b"CAPA": Protocol._capa,
    b"QUIT": Protocol._quit,
}


def _ok(text: bytes = b"") -> bytes:
    """qmail's reply: the blank stands even when nothing follows."""
    return b"+OK " + text + b"\r\n"


def _error(text: bytes) -> bytes:
    return b"-ERR " + text + b"\r\n"
