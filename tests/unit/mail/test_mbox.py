"""The format of an mbox."""

import pytest

from mail import mbox


@pytest.mark.parametrize(
    ("message", "stands"),
    [
        (b"", b"\n"),
        (b"\n", b"\n\n"),
        (b"Subject: x\n\nhello\n", b"Subject: x\n\nhello\n\n"),
        (b"Subject: x\n\nno end", b"Subject: x\n\nno end\n\n"),
        (b"From a\nFroma\n From b\n", b">From a\nFroma\n From b\n\n"),
        (b"x\n>From a\n>>From b\n>Fro", b"x\n>>From a\n>>>From b\n>Fro\n\n"),
        (b"a\r\nFrom b\r\n\xff\0\n", b"a\r\n>From b\r\n\xff\0\n\n"),
    ],
)
def test_a_message_is_quoted_and_ended(message: bytes, stands: bytes) -> None:
    assert b"".join(mbox.body(message)) == stands
    assert b"".join(mbox.body(memoryview(message))) == stands


def test_a_large_message_is_quoted_line_by_line_wherever_its_pieces_end() -> None:
    lines = [b"From %d\n" % number for number in range(70_000)]
    pieces = list(mbox.body(b"".join(lines)))
    assert len(pieces) > 2
    assert b"".join(pieces) == b"".join(b">" + line for line in lines) + b"\n"


def test_a_line_that_never_ends_is_one_piece() -> None:
    message = b"From " + b"From " * 200_000
    assert b"".join(mbox.body(message)) == b">" + message + b"\n\n"


@pytest.mark.parametrize(
    ("sender", "line"),
    [
        (b"ann@x.test", b"From ann@x.test Sun Nov 22 12:36:30 2026\n"),
        (b"", b"From MAILER-DAEMON Sun Nov 22 12:36:30 2026\n"),
        (b"a b\tc\nd@x", b"From a-b-c-d@x Sun Nov 22 12:36:30 2026\n"),
    ],
)
def test_the_from_line_is_qmails(sender: bytes, line: bytes) -> None:
    assert mbox.from_line(sender, 1_795_350_990) == line


def test_a_day_has_two_digits() -> None:
    assert mbox.ctime(0) == b"Thu Jan 01 00:00:00 1970\n"


@pytest.mark.parametrize(
    ("line", "answer"), [(b"From x", True), (b">>From x", True), (b"From", False), (b" From x", False)]
)
def test_what_is_a_from_line(line: bytes, answer: bool) -> None:
    assert mbox.is_from(line) is answer
