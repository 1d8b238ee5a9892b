"""SMTP on standard input and output for `sendmail -bs`: qmail-smtpd for somebody who may send anywhere (RELAYCLIENT).

A conversation of its own rather than a pipe to smtpd's port: mail goes in over local's submission socket as all mail of
this room does, so the queue knows which uid it came from, and it works wherever that socket is. qmail-smtpd's commands,
replies and leniency to the octet; the service on the network (services/smtpd) is stricter and can more.
"""

import os
import re
import select
from collections.abc import Callable, Iterator, Mapping

from mail import control, header, limits
from programs.complaint import TEMPORARY, die
from programs.naming import line, listing
from programs.place import control_text
from programs.submit import NotQueued, submit

# qmail's are as long as memory is.
COMMAND_MAX_OCTETS = 64 * limits.KIB
ENVELOPE_MAX_OCTETS = 8 * limits.MIB
TIMEOUT_S = 1_200

_READ_OCTETS = 64 * limits.KIB
_UNPLAIN = re.compile(rb"[^A-Za-z0-9.@%+/=:\-\[\]]")
_TRACE = (b"received", b"delivered")

# What sendmail says of the caller, unless somebody who listens for the network has said it (tcp-environ(5)).
_SURROUNDINGS = {
    "RELAYCLIENT": "",
    "DATABYTES": "0",
    "PROTO": "TCP",
    "TCPLOCALIP": "127.0.0.1",
    "TCPLOCALHOST": "localhost",
    "TCPREMOTEIP": "127.0.0.1",
    "TCPREMOTEHOST": "localhost",
    "TCPREMOTEINFO": "sendmail-bs",
}


class _Over(Exception):
    """The conversation ends with this exit status."""

    def __init__(self, status: int, reply: bytes = b"") -> None:
        self.status = status
        self.reply = reply
        super().__init__(status)


class _Unwanted(Exception):
    """The message is refused after its end; the reply."""


class _Wire:
    """Descriptors 0 and 1. What is said is written before anything is waited for."""

    def __init__(self, timeout_s: int) -> None:
        self._timeout_s = timeout_s
        self._read = b""
        self._at = 0  # what stands before it has been given out
        self._said: list[bytes] = []

    def say(self, reply: bytes) -> None:
        self._said.append(reply + b"\r\n")

    def flush(self) -> None:
        octets = memoryview(b"".join(self._said))
        self._said.clear()
        try:
            while octets:
                octets = octets[os.write(1, octets) :]
        except OSError as error:
            raise _Over(1) from error

    def line(self, max_octets: int) -> bytes:
        """What there is up to an LF, or so many octets, never cut behind a CR; raises _Over at the end of input."""
        end = self._read.find(b"\n", self._at) + 1
        while not end and len(self._read) - self._at < max_octets:
            more = self._more()
            self._read, self._at = self._read[self._at :] + more, 0
            end = self._read.find(b"\n", len(self._read) - len(more)) + 1
        start, limit = self._at, self._at + max_octets
        if not 0 < end <= limit:
            end = limit - 1 if self._read[limit - 1] == b"\r"[0] else limit
        self._at = end
        return self._read[start:end]

    def _more(self) -> bytes:
        self.flush()
        try:
            if not select.select((0,), (), (), self._timeout_s)[0]:
                raise _Over(1, b"451 timeout (#4.4.2)")
            octets = os.read(0, _READ_OCTETS)
        except OSError as error:
            raise _Over(1) from error
        if not octets:
            raise _Over(1)
        return octets


def serve() -> int:
    """Talks until QUIT (0) or the end (1); 111 for a caller from the network whom nobody allowed to relay."""
    surroundings = dict(os.environ) if "PROTO" in os.environ else {**os.environ, **_SURROUNDINGS}
    if "RELAYCLIENT" not in surroundings:
        return die(TEMPORARY, "sendmail: fatal: unable to run qmail-smtpd: -bs is for this host; smtpd has the network")
    try:
        settings = _Settings(surroundings)
    except (OSError, LookupError):
        os.write(1, b"421 unable to read controls (#4.3.0)\r\n")
        return 1
    wire = _Wire(settings.timeout_s)
    try:
        return _Conversation(wire, settings).run()
    except _Over as over:
        if over.reply:
            wire.say(over.reply)
        wire.flush()
        return over.status


class _Settings:
    """What the control files and the environment say."""

    def __init__(self, surroundings: Mapping[str, str]) -> None:
        greeting = line("smtpgreeting")
        if greeting is None:
            greeting = line("me")
        if greeting is None:
            raise LookupError("me")
        self.greeting = greeting
        self.timeout_s = max(1, self._number("timeoutsmtpd", TIMEOUT_S))
        self.databytes = control.integer(surroundings.get("DATABYTES", "")) or 0
        if "DATABYTES" not in surroundings:
            self.databytes = self._number("databytes", 0)
        self.refused = {one.lower() for one in listing(control_text("badmailfrom") or b"")}
        self.suffix = os.fsencode(surroundings["RELAYCLIENT"])
        self.remote_host = os.fsencode(surroundings.get("TCPREMOTEHOST", "unknown"))
        self.remote_ip = os.fsencode(surroundings.get("TCPREMOTEIP", "unknown"))
        info = surroundings.get("TCPREMOTEINFO")
        self.remote = (b"" if info is None else _plain(os.fsencode(info)) + b"@") + _plain(self.remote_ip)
        our_ip = surroundings.get("TCPLOCALIP", "unknown")
        self.local = os.fsencode(surroundings.get("TCPLOCALHOST", our_ip))
        self._our_literal = os.fsencode(f"[{our_ip}]")
        self._literal_means = line("localiphost")
        if self._literal_means is None:
            self._literal_means = line("me")

    def named(self, address: bytes) -> bytes:
        """The address; one at the IP address that was called, at our name."""
        box, _, host = address.rpartition(b"@")
        means = self._literal_means
        return address if host != self._our_literal or means is None else b"%b@%b" % (box, means)

    @staticmethod
    def _number(name: str, otherwise: int) -> int:
        text = line(name)
        found = control.integer(text.decode("latin-1")) if text is not None else None
        return otherwise if found is None else found


class _Conversation:
    """qmail-smtpd's commands and what they have said so far."""

    def __init__(self, wire: _Wire, settings: _Settings) -> None:
        self._wire = wire
        self._settings = settings
        self._helo: bytes | None = None
        self._sender: bytes | None = None
        self._recipients: list[bytes] = []
        self._size = 0  # of the recipients

    def run(self) -> int:
        say = self._wire.say
        say(b"220 " + self._settings.greeting + b" ESMTP")
        commands: dict[bytes, Callable[[bytes], None]] = {
            b"helo": self._hello,
            b"ehlo": self._hello_extended,
            b"mail": self._mail,
            b"rcpt": self._rcpt,
            b"data": self._data,
            b"rset": self._reset,
            b"noop": lambda _: say(b"250 ok"),
            b"vrfy": lambda _: say(b"252 send some mail, i'll try my best"),
            b"help": lambda _: say(b"214 notqmail home page: https://notqmail.org"),
        }
        while True:
            words = self._wire.line(COMMAND_MAX_OCTETS)
            if not words.endswith(b"\n"):
                raise _Over(1, b"421 out of memory (#4.3.0)")
            words = words[:-1].removesuffix(b"\r").partition(b"\0")[0]
            verb, _, argument = words.partition(b" ")
            if verb.lower() == b"quit":
                raise _Over(0, b"221 " + self._settings.greeting)
            command = commands.get(verb.lower())
            if command:
                command(argument.lstrip(b" "))
            else:
                say(b"502 unimplemented (#5.5.1)")

    def _hello(self, argument: bytes) -> None:
        self._wire.say(b"250 " + self._settings.greeting)
        self._greeted(argument)

    def _hello_extended(self, argument: bytes) -> None:
        self._wire.say(b"250-" + self._settings.greeting + b"\r\n250-PIPELINING\r\n250 8BITMIME")
        self._greeted(argument)

    def _greeted(self, argument: bytes) -> None:
        self._sender = None
        self._helo = argument if argument.lower() != self._settings.remote_host.lower() else None

    def _reset(self, _: bytes) -> None:
        self._sender = None
        self._wire.say(b"250 flushed")

    def _mail(self, argument: bytes) -> None:
        address = self._settings.named(parsed(argument))
        if len(address) >= limits.ADDRESS_MAX_OCTETS:
            return self._wire.say(b"555 syntax error (#5.5.4)")
        self._sender, self._recipients, self._size = address, [], 0
        return self._wire.say(b"250 ok")

    def _rcpt(self, argument: bytes) -> None:
        if self._sender is None:
            return self._wire.say(b"503 MAIL first (#5.5.1)")
        address = self._settings.named(parsed(argument))
        if len(address) >= limits.ADDRESS_MAX_OCTETS:
            return self._wire.say(b"555 syntax error (#5.5.4)")
        box, at, host = self._sender.lower().rpartition(b"@")
        if {box + at + host, at + host if at else None} & self._settings.refused:
            return self._wire.say(b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)")
        self._size += len(address)
        if self._size > ENVELOPE_MAX_OCTETS:
            raise _Over(1, b"421 out of memory (#4.3.0)")
        self._recipients.append(address + self._settings.suffix)
        return self._wire.say(b"250 ok")

    def _data(self, _: bytes) -> None:
        if self._sender is None:
            return self._wire.say(b"503 MAIL first (#5.5.1)")
        if not self._recipients:
            return self._wire.say(b"503 RCPT first (#5.5.1)")
        sender, self._sender = self._sender, None
        self._wire.say(b"354 go ahead")
        message = self._message()
        try:
            queued = submit(sender, self._recipients, message)
            reply = b"250 ok %d qp %b" % (_unix_s(), queued.encode())
        except _Unwanted as unwanted:
            reply = unwanted.args[0]
        except NotQueued as not_queued:
            reply = (b"554 " if not_queued.permanent else b"451 ") + not_queued.text.encode()
            reply = self._rest_is_unwanted(message) or reply
        return self._wire.say(reply)

    @staticmethod
    def _rest_is_unwanted(message: Iterator[bytes]) -> bytes:
        """Reads to the end of the data, for what follows are commands."""
        try:
            for _ in message:
                pass
        except _Unwanted as unwanted:
            return bytes(unwanted.args[0])
        return b""

    def _message(self) -> Iterator[bytes]:
        """The trace line and the message with LF line ends, in pieces of some size; _Unwanted at its end."""
        held = [_received(self._settings, self._helo)]
        size = read = hops = 0
        in_header = True
        for starts, raw, text in self._lines():
            if in_header and starts:
                in_header = raw != b"\r\n"
                hops += raw.lower().startswith(_TRACE)
            held.append(text)
            size += len(text)
            read += len(text)
            if size >= _READ_OCTETS:
                yield b"".join(held)
                held, size = [], 0
        if hops >= limits.HOPS_MAX:
            raise _Unwanted(b"554 too many hops, this message is looping (#5.4.6)")
        if 0 < self._settings.databytes < read:
            raise _Unwanted(b"552 sorry, that message size exceeds my databytes limit (#5.3.4)")
        yield b"".join(held)

    def _lines(self) -> Iterator[tuple[bool, bytes, bytes]]:
        """Whether this begins a line, how it came, and what it means (RFC 5321 4.5.2); a bare LF ends everything."""
        starts = True
        while (raw := self._wire.line(_READ_OCTETS)) != b".\r\n" or not starts:
            ends = raw.endswith(b"\n")
            if ends and not raw.endswith(b"\r\n"):
                raise _Over(1, b"451 See https://cr.yp.to/docs/smtplf.html.")
            text = raw[:-2] + b"\n" if ends else raw
            if starts and text.startswith(b".") and not text.startswith(b".\r"):
                text = text[1:]
            yield starts, raw, text
            starts = ends


def parsed(argument: bytes) -> bytes:
    """The address of MAIL or RCPT as qmail-smtpd finds it: behind `<` or a colon, without route and quotes; never a
    mistake."""
    _, bracket, rest = argument.partition(b"<")
    closing = b">"[0]
    if not bracket:
        rest, closing = argument.partition(b":")[2].lstrip(b" "), b" "[0]
    if rest.startswith(b"@"):
        rest = rest.partition(b":")[2]
    found = bytearray()
    escaped = quoted = False
    for octet in rest:
        if escaped:
            found.append(octet)
            escaped = False
        elif octet == closing and not quoted:
            break
        elif octet == b"\\"[0]:
            escaped = True
        elif octet == b'"'[0]:
            quoted = not quoted
        else:
            found.append(octet)
    return bytes(found)


def _unix_s() -> int:
    from runtime.clock import SystemClock

    return SystemClock().wall_ms() // 1000


def _plain(text: bytes) -> bytes:
    return _UNPLAIN.sub(b"?", text)


def _received(settings: _Settings, helo: bytes | None) -> bytes:
    said = b"" if helo is None else b" (HELO %b)" % _plain(helo)
    return b"Received: from %b%b (%b)\n  by %b with SMTP; %b\n" % (
        _plain(settings.remote_host),
        said,
        settings.remote,
        _plain(settings.local),
        header.date(_unix_s()).encode("ascii"),
    )
