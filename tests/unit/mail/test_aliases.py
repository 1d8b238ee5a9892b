"""/etc/aliases, :include: files, and the tables and lists around fastforward. What they look like stands in
tests/cases/programs; here is what is true of all of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import aliases, cdb, forwarding, forwardtable
from mail.aliases import Names
from mail.forwarding import BadFormat, BadLine

NAMES = Names(host=b"h.test", domain=b"d.test", plus=b"p.test")
# What means something to one of the parsers, and some that does not.
SIGNS = st.binary(max_size=8) | st.sampled_from(
    [*':,;@<>#\\"()[]|/&?!. ', "\n", "\n ", ":include:", "owner-", "bob", "h.dom", "+", "\0", "j" * 800]
).map(str.encode)
TEXT = st.lists(SIGNS, max_size=30).map(b"".join)
OCTETS = st.binary(max_size=12)
WORD = st.text("abcXYZ089.-_=\xe9 ,:;\\#\t", min_size=1, max_size=9).map(lambda text: text.encode("latin-1"))


@pytest.mark.parametrize(
    ("address", "complete"),
    [
        (b"a@b.c", b"a@b.c"),
        (b"a@b", b"a@b.d.test"),
        (b"a@b+", b"a@b.p.test"),
        (b"a.b@c", b"a.b@c.d.test"),
        (b"a@[1.2.3.4]", b"a@[1.2.3.4]"),
        (b"a@b@c", b"a@b@c.d.test"),
    ],
)
def test_an_address_is_completed(address: bytes, complete: bytes) -> None:
    assert NAMES.complete(address) == complete


@given(TEXT)
def test_any_table_is_compiled_or_refused(text: bytes) -> None:
    for instruction in aliases.instructions(text + b"\n"):
        try:
            records = list(aliases.records(instruction, NAMES))
        except BadLine:
            continue
        for key, value in records:
            assert key == key.lower()
            assert key[:1] in (b":", b"?")
            if key.startswith(b":"):
                assert value == b"".join(one + b"\0" for one in forwarding.commands(value)) != b""


@given(TEXT)
def test_any_include_file_is_compiled_or_refused(line: bytes) -> None:
    try:
        found = b"".join(command + b"\0" for command in aliases.included(line, NAMES))
    except BadLine:
        return
    assert list(forwarding.mailing_list_printed(found)) == [one + b"\n" for one in found.split(b"\0")[:-1]]


@given(st.binary(max_size=200))
def test_every_octet_of_a_table_is_in_a_line_a_comment_or_the_end(text: bytes) -> None:
    whole = text[: text.rfind(b"\n") + 1]
    lines = b"".join(aliases.instructions(text))
    assert set(lines.split()) <= set(whole.split())


COMMAND = st.one_of(
    WORD.map(lambda word: b"&" + word), WORD.map(lambda word: b"|" + word), WORD.map(lambda word: b"./" + word)
)


@given(st.lists(st.tuples(WORD, st.lists(COMMAND, min_size=1, max_size=4), st.none() | WORD), max_size=5))
def test_a_database_is_printed_as_the_table_that_makes_it(
    instructions: list[tuple[bytes, list[bytes], bytes | None]],
) -> None:
    records = []
    for target, commands, owner in instructions:
        if owner is not None:
            records.append((b"?" + target.lower(), owner))
        records.append((b":" + target.lower(), b"".join(command + b"\0" for command in commands)))
    table = b"".join(forwarding.printed(key, value) for key, value in records)
    assert list(forwardtable.records(table)) == records
    assert list(cdb.records(cdb.make(forwardtable.records(table)))) == records


@given(TEXT)
def test_any_text_is_a_table_of_setforward_or_is_refused_for_ever(text: bytes) -> None:
    refusals: list[bool] = []
    records: list[tuple[bytes, bytes]] = []
    try:
        records += forwardtable.records(text)
    except BadLine as error:
        refusals.append(error.permanent)
    assert all(refusals)
    assert all(b"\0" not in key for key, _ in records)


@given(OCTETS, OCTETS)
def test_any_record_is_printed_or_refused(key: bytes, value: bytes) -> None:
    try:
        printed = forwarding.printed(key, value)
    except BadFormat:
        return
    assert printed.endswith(b";\n")


@given(st.lists(WORD, max_size=6))
def test_a_list_is_printed_as_the_lines_that_make_it(words: list[bytes]) -> None:
    try:
        made = b"".join(forwarding.mailing_list(b"&x" + word for word in words))
    except BadLine:
        return
    again = b"".join(forwarding.mailing_list(forwarding.mailing_list_printed(made)))
    assert again == made


def test_what_fastforward_does_not_know_it_passes_over() -> None:
    long = b"&" + b"j" * forwarding.COMMAND_MAX_OCTETS
    value = b"\0".join([b"&a", b"", b"x", long, b"|p", b"!q", b"./f", b"/g", b"&unfinished"])
    assert list(forwarding.commands(value)) == [b"&a", b"|p", b"!q", b"./f", b"/g"]
