"""Only CRLF and doubled dots leave, one message stays one message, and nothing of it is lost."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.remote.body import END, pieces, size


def wire(body: bytes, piece_octets: int = 1 << 18) -> bytes:
    return b"".join(pieces(body, piece_octets)) + END


def decoded(octets: bytes) -> bytes:
    """What a server that obeys RFC 5321 4.5.2 stores, with LF line ends."""
    assert octets == END or octets.endswith(b"\r\n" + END)
    lines = octets.removesuffix(END).split(b"\r\n")
    return b"\n".join(line[1:] if line.startswith(b".") else line for line in lines)


def normal(body: bytes) -> bytes:
    body = re.sub(rb"\r\n|\r", b"\n", body)
    return body if not body or body.endswith(b"\n") else body + b"\n"


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        (b"", b".\r\n"),
        (b"\n", b"\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\n.\n..b\n", b"a\r\n..\r\n...b\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\nb\rc\n", b"a\r\nb\r\nc\r\n.\r\n"),
        (b"a\r.\rQUIT\r", b"a\r\n..\r\nQUIT\r\n.\r\n"),
        (b"a\r\r\n.\n", b"a\r\n\r\n..\r\n.\r\n"),
    ],
)
def test_what_is_stored_is_sent_with_crlf_and_doubled_dots(stored: bytes, sent: bytes) -> None:
    assert wire(stored) == sent


def test_every_odd_line_end_around_a_dot_stays_one_message() -> None:
    marks = (b"\r", b"\n", b".", b"\r\n", b"x", b"")
    for combination in itertools.product(marks, repeat=6):
        body = b"a" + b"".join(combination) + b"z"
        for octets in (wire(body), wire(body, 2)):
            assert octets.index(b"\r\n.\r\n") == len(octets) - 5
            assert b"\r" not in octets.replace(b"\r\n", b"")
            assert b"\n" not in octets.replace(b"\r\n", b"")


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"ab", b"\x00\xff"])), st.integers(1, 7))
def test_a_server_gets_back_what_was_stored_whatever_the_pieces(parts: list[bytes], piece_octets: int) -> None:
    body = b"".join(parts)
    assert wire(body, piece_octets) == wire(body)
    assert decoded(wire(body)) == normal(body)
    assert size(body) == len(normal(body).replace(b"\n", b"\r\n"))
