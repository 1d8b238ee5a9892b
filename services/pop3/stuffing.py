"""How a message file becomes the lines of a POP3 reply, and how long it then is. Pure: pieces of octets in and out.

A Maildir file ends its lines with LF, some foreign ones with CR LF; both are sent as CR LF (RFC 1939 section 3). A line
that begins with a dot gets a second one, and a lone dot ends the reply. A file without a final newline is sent with
one. Everything works on large pieces, cut anywhere, without a loop over lines.
"""

import re

_END_OF_HEADER = re.compile(rb"\n\r?\n")
_END_OF_REPLY = b".\r\n"


class Stuffer:
    """Makes the reply's lines of one message, piece by piece; `finish` ends it with the lone dot."""

    def __init__(self) -> None:
        self._held = b""  # a CR at the end of a piece: whether it belongs to a line end, only the next piece knows
        self._at_line_start = True

    def stuff(self, piece: bytes) -> bytes:
        """The octets to send for this piece of the file."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        piece = piece[: len(piece) - len(self._held)]
        if not piece:
            return b""
        sent = piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n").replace(b"\n.", b"\n..")
        if self._at_line_start and sent.startswith(b"."):
            sent = b"." + sent
        self._at_line_start = piece.endswith(b"\n")
        return sent

    def finish(self) -> bytes:
        """What follows the last piece."""
        if self._held or not self._at_line_start:
            return self._held + b"\r\n" + _END_OF_REPLY
        return _END_OF_REPLY


class TopCut:
    """Keeps of a file what TOP asks for: the header, the empty line and the first `lines` lines after it."""

    def __init__(self, lines: int) -> None:
        self.done = False
        self._lines_left = lines
        self._in_header = True
        self._tail = b"\n"  # as if a line had just ended: a file may begin with the empty line

    def cut(self, piece: bytes) -> bytes:
        """The part of this piece that is wanted; `done` is set when nothing after it is."""
        if not self._in_header:
            return self._cut_body(piece)
        window = self._tail + piece
        end = _END_OF_HEADER.search(window)
        if end is None:
            self._tail = window[-2:]
            return piece
        self._in_header = False
        body = end.end() - len(self._tail)
        return piece[:body] + self._cut_body(piece[body:])

    def _cut_body(self, piece: bytes) -> bytes:
        parts = piece.split(b"\n", self._lines_left) if self._lines_left else [piece]
        if len(parts) <= self._lines_left:  # fewer line ends here than are still wanted
            self._lines_left -= len(parts) - 1
            return piece
        self.done = True
        return piece[: len(piece) - len(parts[-1])]


class OctetCount:
    """Counts what a client will have when it has taken the dots out again (RFC 1939 section 11)."""

    def __init__(self) -> None:
        self._octets = 0
        self._last = b"\n"

    def add(self, piece: bytes) -> None:
        if not piece:
            return
        self._octets += len(piece) + piece.count(b"\n") - piece.count(b"\r\n")
        if self._last == b"\r" and piece.startswith(b"\n"):
            self._octets -= 1
        self._last = piece[-1:]

    def total(self) -> int:
        """Octets of the whole message, each line end counted as two."""
        return self._octets + (0 if self._last == b"\n" else 2)
