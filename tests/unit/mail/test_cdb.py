"""The format of qmail's constant databases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import cdb

PAIRS = st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=20)), max_size=40)


@given(PAIRS)
def test_what_was_put_in_comes_out_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    made = cdb.make(pairs)
    assert list(cdb.records(made)) == pairs
    for key, _ in pairs:
        assert list(cdb.values(made, key)) == [value for other, value in pairs if other == key]


@given(PAIRS, st.binary(max_size=6))
def test_a_key_that_was_not_put_in_is_not_found(pairs: list[tuple[bytes, bytes]], key: bytes) -> None:
    expected = next((value for other, value in pairs if other == key), None)
    assert cdb.find(cdb.make(pairs), key) == expected


def test_an_empty_one_is_its_256_places() -> None:
    assert cdb.make([]) == (2_048).to_bytes(4, "little").ljust(8, b"\0") * 256


@given(PAIRS, st.data())
def test_a_part_of_one_is_never_taken_for_a_whole_one(pairs: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    made = cdb.make([*pairs, (b"last", b"value")])
    cut = made[: data.draw(st.integers(0, len(made) - 1))]
    with pytest.raises(cdb.BadCdb):
        list(cdb.records(cut))


@given(st.binary(max_size=2_200), st.binary(max_size=4))
def test_other_octets_are_refused_or_read_to_an_end(octets: bytes, key: bytes) -> None:
    for read in (lambda: list(cdb.records(octets)), lambda: list(cdb.values(octets, key))):
        try:
            read()
        except cdb.BadCdb:
            continue


def test_a_table_of_a_million_slots_that_are_not_there_is_refused() -> None:
    made = bytearray(cdb.make([(b"a", b"b")]))
    place = cdb._hash(b"a") % 256 * 8
    made[place + 4 : place + 8] = b"\xff\xff\xff\xff"
    with pytest.raises(cdb.BadCdb):
        list(cdb.records(bytes(made)))
