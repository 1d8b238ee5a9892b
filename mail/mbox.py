"""The format of an mbox (mbox(5) of qmail): a From_ line, the message with its own From_ lines quoted, an empty line.

Pure: octets in, octets out, a large message in pieces. Locking and writing are services/local/mbox.py.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

NOBODY = b"MAILER-DAEMON"  # stands in a From_ line for the empty sender
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# A message is quoted in pieces of about this size, so that one of 64 MiB is not held twice.
_PIECE_OCTETS = 256 * 1024
_FROM_ = re.compile(rb"^(?=>*From )", re.MULTILINE)
_LINE_END = re.compile(rb"\n")
_BLANKS = bytes.maketrans(b" \t\n", b"---")


def from_line(sender: bytes, unix_s: int) -> bytes:
    """qmail's UFLINE: `From sender Sun Nov 22 12:36:30 2026`, the time in UTC."""
    return b"From %b %b" % (sender.translate(_BLANKS) or NOBODY, ctime(unix_s))


def ctime(unix_s: int) -> bytes:
    """The date of a From_ line, with the newline after it; days have two digits, in every locale."""
    when = datetime.fromtimestamp(unix_s, UTC)
    return f"{_DAYS[when.weekday()]} {_MONTHS[when.month - 1]} {when:%d %H:%M:%S} {when.year}\n".encode()


def is_from(line: bytes) -> bool:
    """Whether a line would be taken for the beginning of a message, or for such a line quoted."""
    return line.lstrip(b">").startswith(b"From ")


def body(message: bytes | memoryview) -> Iterator[bytes]:
    """The message as it stands in an mbox, in pieces: quoted, its last line ended, an empty line after it."""
    start, size, last = 0, len(message), b"\n"
    while start < size:
        found = _LINE_END.search(message, min(start + _PIECE_OCTETS, size))
        end = found.end() if found else size
        piece = bytes(message[start:end])
        start, last = end, piece[-1:]
        yield _FROM_.sub(b">", piece) if b"From " in piece else piece
    yield b"\n" if last == b"\n" else b"\n\n"
