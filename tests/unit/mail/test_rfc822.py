"""qmail's reading and writing of addresses in header fields. The expected octets are what compiled qmail wrote."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail import rfc822
from mail.rfc822 import AT, ATOM, COLON, COMMENT, DOT, LITERAL, QUOTE, Token


def rewritten(field: bytes) -> tuple[bytes, list[bytes]]:
    """The field after a rewrite that changes nothing, and the addresses in the order in which they were found."""
    found: list[bytes] = []

    def note(address: list[Token]) -> list[Token]:
        found.append(rfc822.unquoted(address))
        return address

    return rfc822.unparse(rfc822.addresses(rfc822.tokenise(field), note)), found


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (b"a.b@c", [(ATOM, b"a"), (DOT, b""), (ATOM, b"b"), (AT, b""), (ATOM, b"c")]),
        (b'"a b\\"c"', [(QUOTE, b'a b"c')]),
        (b"[1.2.3.4]", [(LITERAL, b"1.2.3.4")]),
        (b"(a (b\\)) c)", [(COMMENT, b"a b) c")]),
        (b"a\\ b", [(ATOM, b"a b")]),
        (b"x)y]z", [(QUOTE, b"x)y]z")]),
        (b"J\xc3\xbcrg", [(QUOTE, b"J\xc3\xbcrg")]),
        (b"a\\", [(ATOM, b"a")]),
        (b"\\", [(ATOM, b"")]),
        (b" \t\r\n", []),
    ],
)
def test_text_becomes_tokens_as_in_qmail(text: bytes, tokens: list[Token]) -> None:
    assert rfc822.tokenise(text) == tokens


@pytest.mark.parametrize("text", [b"(a", b'"a', b"[a", b"a )", b"]", b'"a\\"', b"(()", b"(\\", b'a "'])
def test_what_is_not_closed_is_unparsable(text: bytes) -> None:
    with pytest.raises(rfc822.Unparsable):
        rfc822.tokenise(text)


@pytest.mark.parametrize("field", [b"To: a: b\n", b"To: a: b, c: d;\n", b"To: a; b;\n", b"To: a>\n"])
def test_groups_and_brackets_that_do_not_match_are_unparsable(field: bytes) -> None:
    with pytest.raises(rfc822.Unparsable):
        rewritten(field)


@pytest.mark.parametrize(
    ("field", "line", "found"),
    [
        (b"To: djb fred\n", b"To: djb, fred\n", [b"fred", b"djb"]),
        (b"To: g: a, b;, c\n", b"To: g: a, b;, c\n", [b"c", b"b", b"a"]),
        (b"To: a, b;\n", b"To: a, b;\n", [b"b", b"a"]),
        (b'Cc: "Q R" <x@y>\n', b'Cc: "Q R" <x@y>\n', [b"x@y"]),
        (b"Cc: (one) f (two)@g\n", b"Cc: f@g (one) (two)\n", [b"f@g"]),
        (b"Cc:<>\n", b"Cc: <>\n", [b""]),
        (b"Cc: <@r1,@r2:z@w>\n", b"Cc: <@r1, @r2: z@w>\n", [b"@r1,@r2:z@w"]),
        (b"TO :\n", b"TO:\n", []),
        (b"To: a@[1.2.3.4]\n", b"To: a@[1.2.3.4]\n", [b"a@[1.2.3.4]"]),
    ],
)
def test_a_list_is_walked_from_right_to_left(field: bytes, line: bytes, found: list[bytes]) -> None:
    assert rewritten(field) == (line, found)


def test_a_rewritten_address_takes_the_place_of_the_old_one() -> None:
    def elsewhere(address: list[Token]) -> list[Token]:
        return [*address, (AT, b""), (ATOM, b"h")]

    tokens = rfc822.addresses(rfc822.tokenise(b"To: A B <a>, b c"), elsewhere)
    assert rfc822.unparse(tokens) == b"To: A B <a@h>, b@h, c@h\n"


def test_a_line_is_folded_after_the_comma_before_the_eightieth_octet() -> None:
    field = b"To: " + b", ".join([b"abcdefgh@ijklmnop"] * 9) + b"\n"
    folded, _ = rewritten(field)
    assert folded == (
        b"To: abcdefgh@ijklmnop, abcdefgh@ijklmnop, abcdefgh@ijklmnop,\n"
        b"  abcdefgh@ijklmnop, abcdefgh@ijklmnop, abcdefgh@ijklmnop, abcdefgh@ijklmnop,\n"
        b"  abcdefgh@ijklmnop, abcdefgh@ijklmnop\n"
    )
    assert rfc822.unparse(rfc822.tokenise(field), 0) == field


def test_a_field_is_left_alone_from_its_name_to_its_colon() -> None:
    assert rewritten(b"Reply-To: a\n")[0] == b"Reply-To: a\n"
    assert rfc822.addresses([(ATOM, b"a"), (COLON, b"")], lambda address: address) == [(ATOM, b"a"), (COLON, b"")]


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (b"", b""),
        (b"a@b", b"a@b"),
        (b"a b@c", b'"a b"@c'),
        (b"a@b@c", b'"a@b"@c'),
        (b".a@b", b'".a"@b'),
        (b"a..b", b'"a..b"'),
        (b"@h", b'""@h'),
        (b'a"\\\n', b'"a\\"\\\\\\\n"'),
        (b"\xe4@h", b'"\xe4"@h'),
    ],
)
def test_a_box_is_quoted_only_when_it_must_be(address: bytes, written: bytes) -> None:
    assert rfc822.quoted(address) == written


# Without the backslash: qmail writes an atom `\@` as `@`, and so do we.
_pieces = st.lists(st.sampled_from([*b'abc@.,:;<>()[]" \t\n+\x80\x00']), max_size=60).map(bytes)


@given(_pieces)
@settings(max_examples=400, deadline=None)
def test_what_is_written_reads_as_the_same_tokens(text: bytes) -> None:
    try:
        tokens = rfc822.tokenise(b"To:" + text)
    except rfc822.Unparsable:
        return
    kept = [one for one in tokens if one != (ATOM, b"")]
    again = rfc822.tokenise(rfc822.unparse(kept))
    assert [text for _, text in again] == [text for _, text in kept]


@pytest.mark.parametrize(
    "text",
    [b"(" * 262_144, b'"' + b"a" * 262_144, b"<" * 262_144, b'"' + b'\\"' * 131_072, b"a " * 131_072, b"a@b," * 65_536],
    ids=["parentheses", "quote", "brackets", "escapes", "blanks", "addresses"],
)
@pytest.mark.timeout(20)
def test_a_quarter_of_a_mebibyte_of_anything_is_read_in_one_pass(text: bytes) -> None:
    """Linear: what takes longer than the timeout is quadratic or worse."""
    try:
        rewritten(b"To:" + text)
    except rfc822.Unparsable:
        assert text[:1] in b'("'
