"""What a session's child does, as the user and in the home: keeps the maildrop and answers the front's requests.

Blocking, one request at a time, no threads, nothing imported that would make forking dear. It ends when the front
hangs up, and with it the lock; then nothing has been deleted unless QUIT asked for it. Also checks a password, in a
child of the spawner that lives for one check.
"""

import contextlib
import os
import socket

from mail.accounts import Account, Shadow
from runtime import passwords
from runtime.clock import SystemClock
from runtime.durable import Disk
from runtime.offspring import Work
from services.pop3 import exchange
from services.pop3.config import Pop3Config
from services.pop3.exchange import ExchangeError, OpenMaildrop, OpenMessage, Settle
from services.pop3.maildrop import MaildropError, OpenMaildir

_READ_OCTETS = 64 * 1024
_DAY_MS = 86_400_000
# Sessions that have logged in. Each is a process with about 3 MB of its own.
CHILDREN_MAX = 192


def work(config: Pop3Config) -> Work:
    """What pop3's spawner makes children for."""
    del config
    return Work(serve, CHILDREN_MAX, authenticate)


def serve(line: socket.socket, account: Account) -> None:
    """Answers the front until it hangs up or says something that has no place."""
    del account  # we are that user already, and in the home
    with contextlib.suppress(ExchangeError, BrokenPipeError, ConnectionResetError):
        _Session(line).run()


class _Session:
    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._maildir: OpenMaildir | None = None
        self._buffer = bytearray()

    def run(self) -> None:
        while (request := self._next_line()) is not None:
            self._answer(request)

    def _next_line(self) -> bytes | None:
        scanned = 0
        while (end := self._buffer.find(b"\n", scanned)) < 0:
            scanned = len(self._buffer)
            data = self._line.recv(_READ_OCTETS)
            if not data or scanned > exchange.LINE_MAX_OCTETS:
                return None
            self._buffer += data
        request = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return request

    def _answer(self, raw: bytes) -> None:
        maildir = self._maildir
        match exchange.parse_request(raw, len(maildir.maildrop.uids) if maildir else 0):
            case OpenMaildrop() if maildir is None:
                self._open()
            case OpenMessage(number) if maildir is not None:
                self._pass_message(maildir.open_message(number))
            case Settle(deleted) if maildir is not None:
                done = maildir.settle(deleted)
                maildir.close()  # before the answer: whoever has +OK to QUIT may log in again at once
                self._maildir = None
                self._line.sendall(exchange.done_line(done))
            case _:
                raise ExchangeError("out of order")

    def _open(self) -> None:
        try:
            self._maildir = OpenMaildir(Disk())
        except MaildropError as error:
            return self._line.sendall(exchange.refusal_line(error.why))
        for one in exchange.listing_lines(self._maildir.maildrop):
            self._line.sendall(one)

    def _pass_message(self, fd: int | None) -> None:
        if fd is None:
            return self._line.sendall(exchange.done_line(False))
        try:
            socket.send_fds(self._line, [exchange.done_line(True)], [fd])
        finally:
            os.close(fd)


def authenticate(entry: Shadow | None, password: bytes, reference: str) -> bool:
    """Whether the password opens the account of this shadow(5) entry; it takes as long when it does not.

    `reference` is what an account without a hash is checked against (runtime/passwords.py). An account whose day of
    expiry has come is closed.
    """
    right = passwords.check(password, entry.password_hash if entry else None, reference)
    today = SystemClock().wall_ms() // _DAY_MS
    return right and entry is not None and (entry.expires_day is None or today < entry.expires_day)
