"""users/assign: whose an address is before passwd is asked."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import assign, cdb
from mail.assign import Assigned, Assignments, BadAssign

TEXT = b"""\
=joe:joe:1001:100:/home/joe:::
+joe-:joe:1001:100:/home/joe:-::
+joe-list-:list:1002:100:/home/list:-:pre-:
=Joe-List-Boss:boss:1003:100:/home/boss:::
=joe:other:1004:100:/home/other:::
xodd:odd:1005:100:/home/odd:-:odd:and:more
+:alias:7790:2108:/var/qmail/alias:-::
.
=never:read:1006:100:/home/never:::
"""
KINDS = pytest.mark.parametrize("read", [assign.parse, lambda text: assign.read_cdb(assign.compiled(text))])


@KINDS
@pytest.mark.parametrize(
    ("local", "key", "dash", "ext"),
    [
        ("joe", "=joe", "", ""),
        ("JOE", "=joe", "", ""),
        ("joe-", "+joe-", "-", ""),
        ("Joe-Foo.Bar", "+joe-", "-", "Foo.Bar"),
        ("joe-list", "+joe-", "-", "list"),
        ("joe-LIST-Sub", "+joe-list-", "-", "pre-Sub"),
        ("joe-list-boss", "=joe-list-boss", "", ""),
        ("odd", "=odd", "-", "odd"),
        ("Anybody", "+", "-", "Anybody"),
        ("never", "+", "-", "never"),
        ("", "+", "-", ""),
        ("J\u00f6rg", "+", "-", "J\u00f6rg"),
    ],
)
def test_an_address_is_found_by_itself_then_by_its_longest_prefix(
    read: Callable[[bytes], Assignments], local: str, key: str, dash: str, ext: str
) -> None:
    found = read(TEXT).find(local)
    assert found is not None
    assert (found.key, found.dash, found.ext) == (key, dash, ext)
    assert read(TEXT).get(key) is not None


def test_of_two_lines_for_one_address_the_first_counts() -> None:
    assert assign.parse(TEXT).find("joe") == Assigned("=joe", "joe", 1001, 100, "/home/joe", "", "")


def test_without_a_wildcard_for_all_an_address_may_be_nobodys() -> None:
    assert assign.parse(b"=joe:joe:1:1:/:::\n.\n").find("ann") is None
    assert assign.parse(b".\n").find("ann") is None


def test_a_prefix_that_ends_in_upper_case_is_found_only_beside_one_in_lower_case() -> None:
    """qmail-newu keeps the last letters as they are written, qmail-lspawn looks for those of the lower-case address."""
    line = b"+LISTX:list:1002:100:/home/list:-::\n"
    assert assign.parse(line + b".\n").find("listxy") is None
    found = assign.parse(line + b"+ax:a:1:1:/:-::\n.\n").find("listxy")
    assert found is not None
    assert found.ext == "y"


def test_the_kelvin_sign_is_no_k() -> None:
    assert assign.parse(b"=kim:kim:1:1:/:::\n.\n").find("\u212aim") is None


@pytest.mark.parametrize(
    ("field", "number"), [("7", 7), ("7x", 7), ("", 0), ("x", 0), ("-1", 0), ("4294967295", 0), ("99999999999", 0)]
)
def test_an_id_that_no_account_has_is_roots_and_so_refused(field: str, number: int) -> None:
    found = assign.parse(f"=a:a:{field}:{field}:/:::\n.\n".encode()).find("a")
    assert found is not None
    assert (found.uid, found.gid) == (number, number)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "missing"),
        (b"=joe:joe:1:1:/:::\n", "missing"),
        (b"=joe:joe:1:1:/:::", "missing"),
        (b"\n", "line 1"),
        (b"=joe:joe:1:1:/::\n.\n", "line 1 has fewer than 6 colons"),
        (b"=joe:joe:1:1:/:::\n\n.\n", "line 2"),
        (b"=joe:joe:1:1:/:::\njoe\n.\n", "line 2"),
        (b":joe:1:1:/:::\n.\n", "line 1"),
        (b"=jo\0e:joe:1:1:/:::\n.\n", "line 1 has a NUL"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_the_line(text: bytes, word: str) -> None:
    for read in (assign.parse, assign.compiled):
        with pytest.raises(BadAssign, match=word):
            read(text)


@pytest.mark.parametrize(
    "records", [[], [(b"!joe\0", b"joe")], [(b"!joe\0", b"joe\0001"), (b"", b"")], [(b"!+", b"a\0b\0c\0d\0e\0f")]]
)
def test_a_cdb_that_qmail_newu_did_not_make_is_refused(records: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadAssign):
        assign.read_cdb(cdb.make(records))


def test_octets_that_are_no_cdb_are_refused() -> None:
    with pytest.raises(BadAssign):
        assign.read_cdb(b"=joe:joe:1:1:/:::\n.\n")


LOCALS = st.text(alphabet="ab-AB", max_size=5)
LINES = st.lists(st.tuples(st.sampled_from("=+"), LOCALS), max_size=8)


@given(LINES, LOCALS)
def test_text_and_cdb_say_the_same(lines: list[tuple[str, str]], local: str) -> None:
    """And both what qmail-lspawn finds by looking in the cdb, octet by octet from the end."""
    made = "".join(f"{kind}{name}:u{number}:1:1:/:-:e:\n" for number, (kind, name) in enumerate(lines)) + ".\n"
    compiled = assign.compiled(made.encode())
    found = assign.parse(made.encode()).find(local)
    assert found == assign.read_cdb(compiled).find(local)
    assert (found and (found.user, found.ext)) == _lspawn(compiled, local.encode())


def _lspawn(compiled: bytes, local: bytes) -> tuple[str, str] | None:
    """nughde_get of qmail-lspawn.c, told by its manual page qmail-users(5)."""
    key, last = b"!" + local.lower() + b"\0", cdb.find(compiled, b"") or b""
    for end in range(len(key), 0, -1):
        wild = end < len(key)
        if not wild or end == 1 or key[end - 1] in last:
            value = cdb.find(compiled, key[:end])
            if value is not None:
                fields = (value + (local[end - 1 :] if wild else b"")).decode().split("\0")
                return fields[0], fields[5]
    return None
