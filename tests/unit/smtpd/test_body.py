"""Where a message ends and what may be in it, for every way to cut it into pieces (faults F1, F2, F7)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.limits import HEADER_FIELDS_MAX, TEXT_LINE_MAX_OCTETS
from services.smtpd.body import Body, Fault

REST = b"MAIL FROM:<>\r\n"


def read(wire: bytes, cuts: tuple[int, ...] = (), limit: int = 10**9) -> tuple[bytes | None, Body]:
    """Feeds the pieces; returns what followed the end, None when there was none."""
    body = Body(limit)
    for start, end in itertools.pairwise((0, *cuts, len(wire))):
        rest = body.feed(wire[start:end])
        if rest is not None:
            return rest + wire[end:], body
    return None, body


def reference(wire: bytes) -> tuple[bytes | None, bytes | None]:
    """(rest, message) octet by octet as RFC 5321 says it; the message is None when it must be refused."""
    end = (b"\r\n" + wire).find(b"\r\n.\r\n")
    if end < 0:
        return None, None
    data, rest = wire[:end], wire[end + 3 :]  # with the line end before the dot
    lines = data.split(b"\r\n")
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        return rest, None
    return rest, b"\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\n"),
        (b"a\r\n.\r\n", b"a\n"),
        (b"..\r\n.\r\n", b".\n"),
        (b"...\r\n.\r\n", b"..\n"),
        (b".a\r\n.\r\n", b"a\n"),
        (b"a\r\n..b\r\n.\r\n", b"a\n.b\n"),
        (b"S: x\r\n\r\n\xff\xfe\r\n.\r\n", b"S: x\n\n\xff\xfe\n"),
    ],
)
def test_a_message_survives_every_cut(wire: bytes, message: bytes) -> None:
    whole = wire + REST
    for cuts in [(), *((cut,) for cut in range(1, len(whole))), tuple(range(1, len(whole)))]:
        rest, body = read(whole, cuts)
        assert rest == REST
        assert body.fault is None
        assert body.whole(b"R: us\n") == b"R: us\n" + message
        assert body.size == len(message)


ENDS = [b"\n", b"\r", b"\r\n", b"\r\r\n", b"\n\r", b"\0", b"\r\n\0", b""]


@pytest.mark.parametrize(("before", "after"), [*itertools.product(ENDS, ENDS)])
def test_only_crlf_dot_crlf_ends_a_message(before: bytes, after: bytes) -> None:
    wire = b"a" + before + b"." + after + b"MAIL FROM:<smuggled@x>\r\n.\r\n" + REST
    expected_rest, expected = reference(wire)
    for cuts in [(), *((cut,) for cut in range(1, len(wire))), tuple(range(1, len(wire)))]:
        rest, body = read(wire, cuts)
        assert rest == expected_rest
        assert (body.fault is None) == (expected is not None)
        if expected is not None:
            assert body.whole(b"") == expected


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"\0", b"a", b"\r\n", b"\r\n."]), max_size=24), st.data())
def test_any_bytes_are_read_as_the_reference_reads_them(parts: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(parts) + b"\r\n.\r\n" + REST
    cuts = tuple(sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=6))))
    expected_rest, expected = reference(wire)
    rest, body = read(wire, cuts)
    assert rest == expected_rest
    assert (body.fault is None) == (expected is not None)
    if expected is not None:
        assert body.whole(b"") == expected


@pytest.mark.parametrize(("octets", "fault"), [(7, None), (8, Fault.TOO_BIG)])
def test_the_limit_counts_octets_as_stored(octets: int, fault: Fault | None) -> None:
    rest, body = read(b"x" * (octets - 1) + b"\r\n.\r\n", limit=7)
    assert rest == b""
    assert body.fault == fault


def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    fits, longer = b"x" * TEXT_LINE_MAX_OCTETS, b"x" * (TEXT_LINE_MAX_OCTETS + 1)
    for before, after in itertools.product((b"", b"a\r\n", b"a\r\n" + fits + b"\r\n"), (b"", b"b\r\n" * 9)):
        for line, fault in ((fits, None), (longer, Fault.LONG_LINE)):
            wire = before + line + b"\r\n" + after + b".\r\n"
            for cuts in ((), (5, 70_000), tuple(range(1_000, len(wire), 1_000))):
                rest, body = read(wire, cuts)
                assert rest == b""
                assert body.fault == fault


def test_an_endless_line_is_not_kept() -> None:
    body = Body(10**9)
    for _ in range(100):
        assert body.feed(b"x" * 65_536) is None
    assert body.fault == Fault.LONG_LINE
    assert body.size <= TEXT_LINE_MAX_OCTETS + 65_536
    assert body.feed(b"\r\n.\r\n" + REST) == REST


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"Received: x\r\n" * 99, None),
        (b"Received: x\r\n" * 100, Fault.LOOPING),
        (b"received: x\r\nDELIVERED-TO: y\r\n" * 50, Fault.LOOPING),
        (b"X: y\r\n" * HEADER_FIELDS_MAX, None),
        (b"X: y\r\n" * (HEADER_FIELDS_MAX + 1), Fault.LONG_HEADER),
        (b"X: y\r\n" + b" folded\r\n" * (HEADER_FIELDS_MAX + 1), None),
        (b"X: " + b"y" * 60_000 + b"\r\n", None),
        ((b"X: " + b"y" * 60_000 + b"\r\n") * 5, Fault.LONG_HEADER),
        (b"text without a header\r\n" * 20_000, None),
        (b"Received: x\r\n" * 99 + b"text without an empty line before it\r\n" * 20_000, None),
        (b"Received: x\r\n" * 100 + b"text without an empty line before it\r\n" * 20_000, Fault.LOOPING),
    ],
)
def test_the_header_has_limits(header: bytes, fault: Fault | None) -> None:
    for text in (b"", b"Received: in the body\r\n" * 200):
        _, body = read(header + b"\r\n" + text + b".\r\n")
        assert body.fault is None
        body.whole(b"Received: ours\n")
        assert body.fault == fault
