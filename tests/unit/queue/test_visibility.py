"""How the asking is judged: what one machine sees of another's renaming, look by look."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.queue import visibility
from services.queue.visibility import (
    ANSWERED_MAX,
    PATIENCE_BEATS,
    STILL_S,
    WAIT_S,
    Answer,
    Asking,
    Beat,
    Proof,
    Replica,
    Sight,
)

THEM = Replica("b" * 32, "queue-1")
NONCE = "0123456789abcdef" * 2


def sight(count: int, *, new: bool = False, old: bool = True, told: bool = False) -> Sight:
    return Sight({THEM: Beat("there", count, (NONCE,) if told else ())}, new, old)


def looks(*sights: Sight, every_s: float = 0.5) -> tuple[Answer, str]:
    proof = Proof(NONCE, 100.0)
    answer = Answer.OPEN
    for number, one in enumerate(sights):
        assert answer is Answer.OPEN, "the look before was the last"
        answer = proof.look(one, 100.0 + number * every_s)
    return answer, proof.reason


def test_a_renaming_that_is_seen_at_once_proves_it() -> None:
    assert looks(sight(1), sight(2, new=True, old=False, told=True)) == (Answer.PROVEN, "")
    assert looks(sight(1), sight(1, new=True, old=False), sight(2, new=True, old=False, told=True))[0] is Answer.PROVEN


def test_who_did_it_is_not_waited_for_for_long() -> None:
    done = sight(1, new=True, old=False)
    assert looks(sight(1), done, done, every_s=STILL_S / 2)[0] is Answer.PROVEN


def test_a_renaming_between_two_looks_of_one_sight_is_no_mistake() -> None:
    assert looks(sight(1, old=False), sight(2, new=True, old=False, told=True))[0] is Answer.PROVEN


@pytest.mark.parametrize(
    "last",
    [sight(2, new=True, old=True), sight(2, told=True), sight(2, new=True, told=True)],
    ids=["both names", "told, old name", "told, both names"],
)
def test_an_old_name_that_stays_is_a_cache(last: Sight) -> None:
    answer, reason = looks(sight(1), last)
    assert answer is Answer.BROKEN
    assert "still has its old name" in reason
    assert "lookupcache=none,actimeo=0" in visibility.refusal(reason)


def test_a_new_name_that_does_not_come_is_a_cache() -> None:
    answer, reason = looks(sight(1), sight(2, old=False), sight(3, old=False, told=True))
    assert answer is Answer.BROKEN
    assert "has no new name" in reason


def test_a_new_name_is_not_waited_for_for_ever() -> None:
    assert looks(sight(1), sight(1, old=False), sight(1, old=False), every_s=WAIT_S / 2)[0] is Answer.BROKEN


def test_who_lives_and_does_not_answer_does_not_see() -> None:
    answer, reason = looks(*(sight(count) for count in range(1, PATIENCE_BEATS + 3)))
    assert answer is Answer.BROKEN
    assert "queue-1 lives on another machine and does not see" in reason


def test_who_does_not_move_is_not_there() -> None:
    assert looks(sight(7), sight(7), sight(7), every_s=STILL_S / 2)[0] is Answer.NOBODY


def test_a_file_that_cannot_be_read_is_waited_for_as_long() -> None:
    nothing = Sight({}, new_name=False, old_name=True)
    assert looks(nothing, nothing, nothing, every_s=STILL_S / 2)[0] is Answer.NOBODY
    assert looks(nothing, nothing, every_s=STILL_S / 2)[0] is Answer.OPEN


def test_a_neighbour_that_is_too_slow_proves_nothing() -> None:
    assert looks(sight(1), sight(2), sight(2), every_s=WAIT_S / 2)[0] is Answer.UNPROVEN


@given(st.text(max_size=80), st.integers(0, 10**20 - 1), st.lists(st.binary(min_size=16, max_size=16), max_size=12))
def test_a_beat_reads_as_it_was_written_and_is_always_of_one_length(host: str, count: int, nonces: list[bytes]) -> None:
    answered = tuple(nonce.hex() for nonce in nonces)
    written = visibility.write_beat(Beat(host, count, answered))
    assert len(written) == len(visibility.write_beat(Beat("x", 0)))
    assert len(written) <= visibility.BEAT_MAX_OCTETS
    read = visibility.read_beat(written)
    assert read is not None
    assert (read.count, read.answered) == (count, answered[-ANSWERED_MAX:])


@given(st.binary(max_size=600))
def test_no_octets_break_the_reading(octets: bytes) -> None:
    visibility.read_beat(octets)
    visibility.read_beat(visibility.write_beat(Beat("x", 1))[:20] + octets)


def test_names_read_as_they_were_written() -> None:
    name = visibility.asking_name(True, NONCE, THEM)
    assert visibility.parse_asking(name) == Asking(True, NONCE, str(THEM))
    assert visibility.parse_replica(str(THEM)) == THEM


@pytest.mark.parametrize(
    "name", ["", ".", "..", "x", f"{'b' * 32}.a.b", f"{'b' * 32}.", f"ask.{NONCE}.queue", "ask..x"]
)
def test_other_names_are_none_of_ours(name: str) -> None:
    assert visibility.parse_replica(name) is None
    assert visibility.parse_asking(name) is None
