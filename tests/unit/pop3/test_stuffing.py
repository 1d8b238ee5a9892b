"""Stuffing is undone by what RFC 1939 tells clients to do, however the file is cut into pieces."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pop3.stuffing import OctetCount, Stuffer, TopCut

# Mostly the octets that matter, so that line ends and dots meet at every seam.
pieces = st.lists(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\r\n", b"\n\n", b"\xff"])).map(b"".join))


def stuffed(parts: list[bytes]) -> bytes:
    stuffer = Stuffer()
    return b"".join([stuffer.stuff(part) for part in parts] + [stuffer.finish()])


def as_a_client_reads(reply: bytes) -> bytes:
    lines = reply.split(b"\r\n")
    assert lines[-2:] == [b".", b""], "the reply ends with the lone dot"
    assert b"." not in lines[:-2], "and no line before it is a lone dot"
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])


def canonical(file: bytes) -> bytes:
    text = file.replace(b"\r\n", b"\n")
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text.replace(b"\n", b"\r\n")


@given(pieces)
def test_a_client_reads_the_file_with_its_line_ends_as_crlf(parts: list[bytes]) -> None:
    assert as_a_client_reads(stuffed(parts)) == canonical(b"".join(parts))


@given(pieces)
def test_the_counted_octets_are_those_that_the_client_has(parts: list[bytes]) -> None:
    count = OctetCount()
    for part in parts:
        count.add(part)
    assert count.total() == len(canonical(b"".join(parts)))


@given(pieces, st.integers(0, 5))
def test_top_keeps_the_header_and_the_first_lines_wherever_it_is_cut(parts: list[bytes], lines: int) -> None:
    cut = TopCut(lines)
    kept = b""
    for part in parts:
        if cut.done:
            break
        kept += cut.cut(part)
    assert kept == top_by_lines(b"".join(parts), lines)


def top_by_lines(file: bytes, lines: int) -> bytes:
    kept: list[bytes] = []
    body_lines = -1  # -1: still in the header
    for line in re.findall(rb"[^\n]*\n|[^\n]+", file):
        if body_lines == lines:
            break
        kept.append(line)
        if body_lines >= 0:
            body_lines += 1
        elif line in (b"\n", b"\r\n"):
            body_lines = 0
    return b"".join(kept)


@pytest.mark.parametrize(
    ("file", "reply"),
    [
        (b"", b".\r\n"),
        (b"a\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\n", b"..\r\n.\r\n"),
        (b"a\n.b\n..\n", b"a\r\n..b\r\n...\r\n.\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n.\r\n"),
        (b"a\n\n", b"a\r\n\r\n.\r\n"),
    ],
)
def test_files_become_these_replies(file: bytes, reply: bytes) -> None:
    assert stuffed([file]) == reply
    assert stuffed([file[i : i + 1] for i in range(len(file))]) == reply
