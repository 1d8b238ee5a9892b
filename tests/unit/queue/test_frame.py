"""Frames count whole or not at all, and only where they were written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.queue import frame
from services.queue.frame import Place, Record

HERE = Place(log=7, token=3, segment=1, offset=0)

records = st.lists(
    st.builds(Record, st.integers(0, 255), st.binary(max_size=200), st.binary(max_size=2_000)), min_size=1, max_size=8
)


def written(place: Place, said: list[Record], sequence: int = 1) -> bytes:
    return b"".join(frame.encode(place, sequence, said)[0])


@given(records)
def test_what_was_written_is_read(said: list[Record]) -> None:
    octets = written(HERE, said)
    found = frame.decode(memoryview(octets), HERE)
    assert found is not None
    assert list(found.records) == said
    assert found.end == len(octets)


@given(records)
def test_spans_name_the_fields_and_the_bodies_behind_them(said: list[Record]) -> None:
    octets = written(HERE, said)
    found = frame.decode(memoryview(octets), HERE, with_bodies=False)
    assert found is not None
    ends = [span.offset + span.octets for span in found.fields]
    assert [octets[span.offset : end] for span, end in zip(found.fields, ends, strict=True)] == [
        record.fields for record in said
    ]
    bodies = [octets[end : end + length] for end, length in zip(ends, found.bodies, strict=True)]
    assert bodies == [record.body for record in said]


@given(records, st.data())
def test_a_flipped_bit_anywhere_voids_the_frame(said: list[Record], data: st.DataObject) -> None:
    octets = bytearray(written(HERE, said))
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= 1 << data.draw(st.integers(0, 7))
    assert frame.decode(memoryview(bytes(octets)), HERE) is None


@given(records, st.data())
def test_a_torn_frame_does_not_count(said: list[Record], data: st.DataObject) -> None:
    octets = written(HERE, said)
    cut = data.draw(st.integers(0, len(octets) - 1))
    assert frame.decode(memoryview(octets[:cut]), HERE) is None
    assert frame.decode(memoryview(octets[:cut].ljust(len(octets), b"\0")), HERE) in (
        None,
        frame.decode(memoryview(octets), HERE) if octets[cut:].strip(b"\0") == b"" else None,
    )


@pytest.mark.parametrize(
    "elsewhere",
    [Place(8, 3, 1, 0), Place(7, 4, 1, 0), Place(7, 3, 2, 0)],
    ids=["another log", "another token", "another segment"],
)
def test_a_recycled_block_is_no_frame_of_ours(elsewhere: Place) -> None:
    octets = written(elsewhere, [Record(1, b"x")])
    assert frame.decode(memoryview(octets), HERE) is None


def test_a_frame_at_another_offset_is_none_of_here() -> None:
    octets = written(Place(7, 3, 1, 100), [Record(1, b"x")])
    assert frame.decode(memoryview(octets), HERE) is None


def test_damage_is_told_from_a_torn_tail() -> None:
    first = written(HERE, [Record(1, b"first")])
    second = written(Place(7, 3, 1, len(first)), [Record(1, b"second")], sequence=2)
    damaged = memoryview(b"\0" * len(first) + second)
    torn = memoryview(first[:-1] + b"\0" * 50)
    assert frame.next_whole(damaged, HERE) == len(first)
    assert frame.next_whole(torn, HERE) is None
