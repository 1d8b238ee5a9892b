"""Where qmail ends a header, and what it takes for a field."""

import pytest

from mail import fields


def split(message: bytes, header_max_octets: int = 1_000) -> tuple[list[bytes], bytes]:
    header, body = fields.split(message.splitlines(keepends=True), header_max_octets)
    return header, b"".join(body)


@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        (b"To: a\n b\nX:\n\nhi\n", [b"To: a\n b\n", b"X:\n"], b"\nhi\n"),
        (b"To: a", [b"To: a\n"], b""),
        (b"To: a\n\nhi", [b"To: a\n"], b"\nhi\n"),
        (b"To: a\nno field\nX: y\n", [b"To: a\n"], b"\nno field\nX: y\n"),
        (b" To: a\n", [], b"\n To: a\n"),
        (b"From me today\nTo: a\n", [b"MBOX-Line: From me today\n", b"To: a\n"], b""),
        (b"\n", [], b"\n"),
        (b"", [], b""),
        (b"a: b\r\n\r\nhi\n", [b"a: b\r\n"], b"\n\r\nhi\n"),
        (b"a: b\n\t\n\n", [b"a: b\n\t\n"], b"\n"),
    ],
)
def test_a_message_is_taken_apart_as_in_qmail(message: bytes, header: list[bytes], body: bytes) -> None:
    assert split(message) == (header, body)


@pytest.mark.parametrize("line", [b"To: a", b"To \t: a", b"!~: a", b"a:"])
def test_a_name_is_printable_and_blanks_may_follow_it(line: bytes) -> None:
    assert fields.valid(line)


@pytest.mark.parametrize("line", [b"T o: a", b": a", b" : a", b" a: b", b"To a", b"T\xf6: a", b"T\x7f: a", b""])
def test_what_has_another_name_is_no_field(line: bytes) -> None:
    assert not fields.valid(line)


def test_a_name_is_compared_without_case_and_blanks_and_a_value_starts_at_its_first_word() -> None:
    assert fields.name(b"SuBject \t:\n x \n") == b"subject"
    assert fields.value(b"SuBject \t:\n x \n") == b"x \n"


def test_a_header_has_a_limit_and_a_body_has_none() -> None:
    with pytest.raises(fields.TooLarge):
        split(b"To: a\n" * 3, 17)
    header, body = fields.split(iter([b"To: a\n", b"x" * 100, b"y" * 100]), 17)
    assert (header, b"".join(body)) == ([b"To: a\n"], b"\n" + b"x" * 100 + b"y" * 100 + b"\n")
