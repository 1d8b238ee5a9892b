"""The packed map of ids: it answers as a dict does, in the order of the ids."""

from hypothesis import given
from hypothesis import strategies as st

from mail import ids
from mail.ids import MessageId
from services.queue.shelf import Shelf

BORN = 1_790_000_000_000

messages = st.builds(
    lambda ms, chance: ids.make_id(BORN + ms, chance), st.integers(0, 5), st.binary(min_size=10, max_size=10)
)
steps = st.lists(st.tuples(st.sampled_from(["put", "pop", "get", "old", "young"]), messages), max_size=200)


@given(steps)
def test_it_answers_as_a_dict_does(steps: list[tuple[str, MessageId]]) -> None:
    shelf: Shelf[int] = Shelf()
    plain: dict[MessageId, int] = {}
    for number, (what, message) in enumerate(steps):
        if what == "put":
            shelf.put(message, number)
            plain[message] = number
        elif what == "pop":
            assert shelf.pop(message) == plain.pop(message, None)
        elif what == "get":
            assert shelf.get(message) == plain.get(message)
        elif what == "young":
            after = ids.born_ms(message)
            young = [one for one in plain if ids.born_ms(one) > after]
            assert shelf.pop_born_after(after) == len(young)
            for one in young:
                del plain[one]
        else:
            before = ids.born_ms(message)
            old = [one for one in plain if ids.born_ms(one) < before]
            assert shelf.pop_born_before(before) == len(old)
            for one in old:
                del plain[one]
        assert len(shelf) == len(plain)
    assert list(shelf) == sorted(plain)


def test_thousands_in_any_order_come_back_in_order() -> None:
    made = [ids.make_id(BORN + number * 7_919 % 10_007, number.to_bytes(10, "big")) for number in range(10_000)]
    shelf: Shelf[int] = Shelf()
    for number, message in enumerate(made):
        shelf.put(message, number)
    assert list(shelf) == sorted(made)
    assert all(shelf.get(message) == number for number, message in enumerate(made))
    for message in made[::2]:
        assert shelf.pop(message) is not None
    assert list(shelf) == sorted(made[1::2])
    assert not any(message in shelf for message in made[::2])


def test_what_is_taken_out_while_it_is_walked_through_hides_nothing_else() -> None:
    made = sorted(ids.make_id(BORN, number.to_bytes(10, "big")) for number in range(3_000))
    shelf: Shelf[int] = Shelf()
    for message in made:
        shelf.put(message, 0)
    seen = []
    for message in shelf:
        seen.append(message)
        shelf.pop(message)
    assert seen == made
    assert len(shelf) == 0


def test_thousands_that_are_too_young_are_taken_out() -> None:
    shelf: Shelf[int] = Shelf()
    for number in range(5_000):
        shelf.put(ids.make_id(BORN + number, bytes(10)), number)
    assert shelf.pop_born_after(BORN + 99) == 4_900
    assert [ids.born_ms(message) for message in shelf] == list(range(BORN, BORN + 100))
    assert shelf.pop_born_after(1 << 60) == 0
    assert shelf.pop_born_after(0) == 100
    shelf.put(ids.make_id(BORN, bytes(10)), 0)
    assert len(shelf) == 1
