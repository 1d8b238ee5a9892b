"""What qbiff puts on a terminal, and on which; the octets are those of a compiled qbiff."""

import struct

import pytest

from programs.qbiff import announcement, lines_of

RECORD = struct.Struct("<h2xi32s4s32s256s52x")


def record(user: bytes, line: bytes, kind: int = 7) -> bytes:
    return RECORD.pack(kind, 1, line, b"", user, b"")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"", b"    "),
        (b"Subject: hi\n\nbody\nmore\n", b"    hi//body/more/"),
        (b"SUBJECT : a\n b\nSubject:c\nTo: x\n\n", b"    a/ b/c//"),
        (b"From x\nSubject:  \t z\n\x00\xff\n", b"    z/////"),
        (b"Subject: " + b"s" * 100 + b"\n\nb", b"    " + b"s" * 74),
        (b"\n\n\nabc", b"    ///abc/"),
    ],
)
def test_a_terminal_shows_the_beginning_of_subject_and_body(message: bytes, text: bytes) -> None:
    head = b"\r\n\a*** TO <ann-x> FROM <a__@b>\r\n"
    assert announcement(b"ann-x", b"a\x1b\xe9@b", message.splitlines(keepends=True)) == head + text + b"\r\n"


def test_the_terminals_are_those_that_the_user_is_at() -> None:
    sessions = [
        record(b"ann", b"pts/1"),
        record(b"bob", b"pts/2"),
        record(b"ann", b"tty1"),
        record(b"ann", b"pts/3", kind=8),
        record(b"ann", b"../etc/passwd"),
        record(b"ann", b"/etc/passwd"),
        record(b"ann", b""),
        record(b"annette", b"pts/4"),
    ]
    assert list(lines_of(b"ann", b"".join(sessions) + b"cut off")) == [b"pts/1", b"tty1"]
