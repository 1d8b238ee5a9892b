"""The end of a message on the wire, and what may be in it: bytes in, the message with LF out (RFC 5321 4.1.1.4).

Pure. Only CR LF . CR LF ends the data, wherever the pieces are cut. A lone CR, a lone LF or a NUL spoils the message,
which is then read to its true end without being kept, so that nothing in it can be taken for a command. There is no
loop over lines: the work is done by a handful of searches over each piece.
"""

import re
from enum import StrEnum

from mail.limits import HEADER_FIELDS_MAX, HEADER_MAX_OCTETS, HOPS_MAX, TEXT_LINE_MAX_OCTETS

_END = b"\r\n.\r\n"
_FIELDS = re.compile(rb"(?:[!-9;-~]+[ \t]*:[^\n]*(?:\n|\Z)(?:[ \t][^\n]*(?:\n|\Z))*)*")


class Fault(StrEnum):
    """Why a message is refused after its end, as the whole reply."""

    BARE_LINE_END = "550 5.6.0 sorry, a CR or an LF without the other is not taken: end lines with CRLF"
    NUL = "550 5.6.0 sorry, NUL is not taken"
    LONG_LINE = "550 5.6.0 sorry, a line is longer than I take"
    TOO_BIG = "552 5.3.4 sorry, that message size exceeds my databytes limit"
    NO_ROOM = "452 4.3.1 sorry, too much mail is coming in at once, try again later"
    LONG_HEADER = "554 5.6.0 sorry, the header is larger than I take"
    LOOPING = "554 5.4.6 too many hops, this message is looping"


class Body:
    """One message as it comes in. Feed it until it has ended; then `fault` or `whole` says what it is."""

    __slots__ = ("_carry", "_limit", "_line", "_pieces", "fault", "read", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit  # the most octets to store
        self._carry = b"\r\n"  # the line end of DATA itself: a message may begin with its final dot
        self._line = -1  # octets in the line that is being received; that first line end is not of the message
        self._pieces: list[bytes] = []
        self.fault: Fault | None = None
        self.size = -1  # octets as they will be stored; likewise
        self.read = 0  # octets taken from the wire

    def feed(self, piece: bytes) -> bytes | None:
        """None while the end is not in sight; then what follows it."""
        self.read += len(piece)
        window = self._carry + piece
        end = window.find(_END)
        if end >= 0:
            self._take(window[: end + 2])
            return window[end + 5 :]
        cut = len(window) - _undecided(window)
        self._carry = window[cut:]
        self._take(window[:cut])
        return None

    @property
    def held(self) -> int:
        """What the message costs in memory; it does not shrink when the message is spoiled, so count by difference."""
        return max(0, self.size)

    def spoil(self, fault: Fault) -> None:
        """Refuses the message; what was kept of it is let go. The first fault counts."""
        if self.fault is None:
            self.fault = fault
        self._pieces.clear()

    def whole(self, received: bytes) -> bytes:
        """The message with our trace line on top. Checks the header; ask `fault` afterwards."""
        self._pieces[0] = self._pieces[0][1:]
        message = b"".join((received, *self._pieces))
        self._pieces.clear()
        fault = header_fault(message, len(received))
        if fault is not None:
            self.spoil(fault)
        return message

    def _take(self, chunk: bytes) -> None:
        """A chunk that ends between characters: never within CRLF or between CRLF and a stuffed dot."""
        if self.fault is not None:
            return
        unstuffed = chunk.replace(b"\r\n.", b"\r\n")
        text = unstuffed.replace(b"\r\n", b"\n")
        if text.count(b"\n") != len(unstuffed) - len(text) or b"\r" in text:
            self.spoil(Fault.BARE_LINE_END)
            return
        self.size += len(text)
        if b"\0" in text:
            self.spoil(Fault.NUL)
        elif self._has_long_line(text):
            self.spoil(Fault.LONG_LINE)
        elif self.size > self._limit:
            self.spoil(Fault.TOO_BIG)
        elif text:
            self._pieces.append(text)

    def _has_long_line(self, text: bytes) -> bool:
        last = text.rfind(b"\n")
        if last < 0:
            self._line += len(text)
            return self._line > TEXT_LINE_MAX_OCTETS
        first = text.find(b"\n")
        too_long = self._line + first > TEXT_LINE_MAX_OCTETS
        position = first + 1
        while position < last and not too_long:
            # The last line end within reach; when there is none, a line is longer than that.
            position = text.rfind(b"\n", position, position + TEXT_LINE_MAX_OCTETS + 1) + 1
            too_long = position == 0
        self._line = len(text) - last - 1
        return too_long or self._line > TEXT_LINE_MAX_OCTETS


def _undecided(window: bytes) -> int:
    """How many octets at the end may be the beginning of the end."""
    for length in (4, 3, 2, 1):
        if window.endswith(_END[:length]):
            return length
    return 0


def header_fault(message: bytes, start: int) -> Fault | None:
    """Whether the header from `start` on is too large, or has been through too many hands (qmail-smtpd's hundred)."""
    end = message.find(b"\n\n", max(0, start - 1), start + HEADER_MAX_OCTETS + 2)
    if end < 0:
        end = min(len(message), start + HEADER_MAX_OCTETS + 2)
    if message.count(b"\n", start, end) < HOPS_MAX - 1 and end - start <= HEADER_MAX_OCTETS:
        return None
    # Long for a header: it may be text without one, which ends where the first line is no field.
    fields = _FIELDS.match(message, start, end)
    end = fields.end() if fields else start
    header = b"\n" + message[start:end].lower()
    if header.count(b"\nreceived") + header.count(b"\ndelivered") >= HOPS_MAX:
        return Fault.LOOPING
    count = header.count(b"\n") - header.count(b"\n ") - header.count(b"\n\t")
    return Fault.LONG_HEADER if count > HEADER_FIELDS_MAX or end - start > HEADER_MAX_OCTETS else None
