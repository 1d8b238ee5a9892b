"""Which messages an operator means, and how what is queued is counted."""

import pytest

from mail.routing import Channel, Route
from services.queue.census import DESTINATIONS_TOLD_MAX, ELSEWHERE, Census
from services.queue.message import Message, Recipient, State
from services.queue.names import NOWHERE
from services.queue.selection import Selection, pattern
from tests.harness.yard import an_id

NOW = 1_700_000_000_000


def a_message(*recipients: Recipient, sender: str = "Ann@There.example", age_ms: int = 0) -> Message:
    return Message(
        id=an_id(1),
        sender=sender,
        arrived_ms=NOW - age_ms,
        size=100,
        uid=0,
        envid="",
        parent="",
        large="",
        body_crc=0,
        position=NOWHERE,
        recipients=list(recipients),
    )


def to(address: str, state: State = State.WAITING, routed: str = "", channel: Channel = Channel.REMOTE) -> Recipient:
    return Recipient(address, Route(channel, routed or address), state)


def name_state(message: Message, index: int) -> str:
    return message.recipients[index].state.value


def is_meant(selection: Selection, message: Message) -> bool:
    return selection.matches(message, NOW, name_state)


@pytest.mark.parametrize(
    ("text", "matches", "does_not"),
    [
        ("a@b.example", ["a@b.example", "A@B.Example"], ["xa@b.example", "a@b.examplex", "a@bxexample"]),
        ("*@b.example", ["a@b.example", "@b.example"], ["a@c.b.example"]),
        ("*.b.*", ["a.b.c", ".b."], ["a.b", "b.c"]),
        ("a?c*", ["abc", "a*cde"], ["ac", "abbc"]),
        ("[1-9]*", ["[1-9]x"], ["5x"]),
        ("a**b", ["ab", "axb"], ["a"]),
        ("*ab", ["ab", "aab", "abab"], ["aba"]),
        ("", [""], ["a"]),
        ("*", ["", "a\nb"], []),
    ],
)
def test_a_pattern_means_whole_addresses(text: str, matches: list[str], does_not: list[str]) -> None:
    assert [one for one in [*matches, *does_not] if pattern(text).match(one)] == matches


def test_many_stars_do_not_take_for_ever() -> None:
    """This one, tried in every way, would take longer than anybody waits."""
    assert not pattern("*a" * 20 + "*b").match("a" * 256)


def test_the_null_sender_can_be_named() -> None:
    assert is_meant(Selection(sender=pattern("")), a_message(sender=""))
    assert not is_meant(Selection(sender=pattern("")), a_message())
    assert is_meant(Selection(sender=pattern("ann@*")), a_message())


def test_the_age_is_counted_from_the_arrival() -> None:
    hour = 3_600_000
    assert [is_meant(Selection(older_ms=hour), a_message(age_ms=age)) for age in (hour - 1, hour)] == [False, True]
    assert [is_meant(Selection(younger_ms=hour), a_message(age_ms=age)) for age in (hour - 1, hour)] == [True, False]


def test_what_is_said_of_a_recipient_is_true_of_one_and_the_same() -> None:
    message = a_message(to("a@x.example", State.DELIVERED), to("b@y.example"))
    waiting = frozenset({"waiting"})
    assert is_meant(Selection(domain=pattern("x.example")), message)
    assert is_meant(Selection(domain=pattern("y.example"), states=waiting), message)
    assert not is_meant(Selection(domain=pattern("x.example"), states=waiting), message)
    assert not is_meant(Selection(domain=pattern("x.example"), recipient=pattern("b@*")), message)


def test_an_address_is_found_as_it_was_given_and_as_it_was_rewritten() -> None:
    message = a_message(to("info@virtual.example", routed="ann-info@virtual.example"))
    assert is_meant(Selection(recipient=pattern("info@virtual.example")), message)
    assert is_meant(Selection(recipient=pattern("ann-info@*")), message)


def test_figures_are_of_recipients_that_are_not_settled() -> None:
    census = Census()
    message = a_message(to("a@x.example", State.DELIVERED), to("b@X.example"), to("u@h", channel=Channel.LOCAL))
    census.count(message, ["done", "waiting", "waiting"], ["", "slot", "schedule"])
    assert (census.messages, census.octets, census.oldest) == (1, 100, message)
    assert census.states == {"done": 1, "waiting": 2}
    assert census.channels == {"remote": 1, "local": 1}
    assert census.reasons == {"slot": 1, "schedule": 1}
    assert census.destinations() == {"x.example": 1, "u": 1}


def test_many_destinations_are_told_as_the_largest_and_the_rest() -> None:
    census = Census()
    for number in range(DESTINATIONS_TOLD_MAX + 10):
        census.count(a_message(to(f"a@d{number}.example")), ["waiting"], ["slot"])
    census.count(a_message(to("a@d5.example")), ["waiting"], ["slot"])
    told = census.destinations()
    assert len(told) == DESTINATIONS_TOLD_MAX + 1
    assert (told["d5.example"], told[ELSEWHERE]) == (2, 10)
