"""A stored message as it stands on the wire between DATA and the final dot (RFC 5321 2.3.8, 4.5.2).

Pure. The store has LF line ends; the wire has CRLF and nothing else, because a bare CR or LF is a line end to some
servers and none to others, and that difference smuggles mail. A CR goes out as notqmail sends it: CRLF once, and a CR
alone as CRLF too. Lines are never folded: a signature over them would break.
"""

from collections.abc import Iterator

# A piece is written at once and has its own time limit (RFC 5321 4.5.3.2.5).
PIECE_OCTETS = 256 * 1024

END = b".\r\n"


def pieces(body: bytes, piece_octets: int = PIECE_OCTETS) -> Iterator[bytes]:
    """The encoded message in pieces, without END; the last one ends with CRLF, added where the message has no end."""
    at_line_start = True
    start = 0
    while start < len(body):
        end = start + piece_octets
        if body[end - 1 : end + 1] == b"\r\n":  # one line end, one piece
            end += 1
        piece = body[start:end]
        yield _encoded(piece, at_line_start)
        at_line_start = piece[-1] in b"\r\n"
        start = end
    if not at_line_start:
        yield b"\r\n"


def size(body: bytes) -> int:
    """Octets on the wire for the SIZE parameter, dots not doubled (RFC 1870 section 5)."""
    pairs = body.count(b"\r\n")
    lone = body.count(b"\n") + body.count(b"\r") - 2 * pairs  # each becomes CRLF
    return len(body) + lone + (0 if not body or body[-1] in b"\r\n" else 2)


def _encoded(piece: bytes, at_line_start: bool) -> bytes:
    if b"\r" in piece:
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    dot = b"." if at_line_start and piece.startswith(b".") else b""
    return dot + piece.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
