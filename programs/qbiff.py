"""qbiff(1): tells the user's terminals that mail has come, those where `biff y` was said.

It looks for terminals where this process lives: in a container there are none, because nobody logs in there, and it
ends without a word; called on a host it does what qmail's does. Whatever goes wrong, the exit status is 0, for mail is
not to wait for a bell.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from mail import fields, limits

_UTMP = "/var/run/utmp"
_DEVICES = "/dev"
_TEXT_OCTETS = 78  # qmail's: one line of a terminal

# struct utmp of glibc (utmp(5)): the line is at 8, the user at 44, both of 32 octets. Where time_t was never 32 bits
# wide a record is longer.
_LINE, _USER, _NAME_OCTETS = 8, 44, 32
_RECORD_OCTETS = 400 if os.uname().machine in ("aarch64", "loongarch64") else 384
_RECORDS_MAX = 4_096  # of so many sessions some will do
_LOGGED_IN = 7  # USER_PROCESS


def main(words: Sequence[str]) -> int:
    """0 always."""
    del words
    told = [os.environb.get(name) for name in (b"USER", b"SENDER", b"LOCAL")]
    with contextlib.suppress(OSError, fields.TooLarge):
        user, sender, local = told
        if user is None or sender is None or local is None:
            return 0
        with open(0, "rb", closefd=False) as message:
            lines = iter(lambda: message.readline(limits.HEADER_MAX_OCTETS), b"")
            notice = announcement(local, sender, lines)
        with open(_UTMP, "rb") as utmp:
            sessions = utmp.read(_RECORD_OCTETS * _RECORDS_MAX)
        for line in lines_of(user, sessions):
            with contextlib.suppress(OSError):
                _write(os.path.join(_DEVICES, os.fsdecode(line)), notice)
    return 0


def announcement(local: bytes, sender: bytes, message: Iterable[bytes]) -> bytes:
    """What a terminal shows: to whom, from whom, the beginning of subject and body, without control characters."""
    header, body = fields.split(message, limits.HEADER_MAX_OCTETS)
    text = b"    " + b"".join(fields.value(field) for field in header if fields.name(field) == b"subject")
    for line in body:
        if len(text) >= _TEXT_OCTETS:
            break
        text += line
    head = _plain(b"*** TO <" + local + b"> FROM <" + sender + b">", b"_")
    return b"\r\n\a" + head + b"\r\n" + _plain(text[:_TEXT_OCTETS], b"/") + b"\r\n"


def _plain(text: bytes, otherwise: bytes) -> bytes:
    return b"".join(text[i : i + 1] if 32 <= text[i] <= 126 else otherwise for i in range(len(text)))


def lines_of(user: bytes, sessions: bytes) -> Iterator[bytes]:
    """The terminals that utmp(5) says the user is at, as names below /dev; names that could lead elsewhere are not."""
    for start in range(0, len(sessions) - _RECORD_OCTETS + 1, _RECORD_OCTETS):
        record = sessions[start : start + _RECORD_OCTETS]
        line = record[_LINE : _LINE + _NAME_OCTETS].partition(b"\0")[0]
        who = record[_USER : _USER + _NAME_OCTETS].partition(b"\0")[0]
        if record[0] == _LOGGED_IN and who == user and line and not line.startswith(b"/") and b"." not in line:
            yield line


def _write(path: str, notice: bytes) -> None:
    """To a terminal of this user's own that wants to hear of mail (its x bit, biff(1)) and takes the text at once."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if stat.S_ISCHR(status.st_mode) and status.st_mode & stat.S_IXUSR and status.st_uid == os.getuid():
            os.write(fd, notice)
    finally:
        os.close(fd)
