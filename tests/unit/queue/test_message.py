"""A message at rest: octets from which the same message comes back, and that are few."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mail import ids
from mail.routing import Channel, Route
from services.queue.frame import Span
from services.queue.message import Message, Recipient, State
from services.queue.names import Position, SegmentName
from services.queue.rest import pack, segment_of, unpack

BORN = 1_790_000_000_000

numbers = st.integers(0, 2**31)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
positions = st.builds(
    Position,
    st.builds(SegmentName, st.integers(1, 10**10 - 1), st.integers(1, 999_999)),
    st.builds(Span, numbers, st.integers(1, 2**20)),
    numbers,
)
addresses = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
routes = st.builds(Route, st.sampled_from(Channel), addresses)


@st.composite
def recipients(draw: st.DrawFn) -> Recipient:
    found = Recipient(draw(addresses), draw(routes))
    if draw(st.booleans()):
        found.state = draw(st.sampled_from([State.WAITING, State.DELIVERED, State.FAILED]))
        found.attempts = draw(st.integers(1, 200))
        found.next_attempt_ms = draw(st.integers(0, 2**45))
        found.done = tuple(draw(st.lists(st.integers(0, 100), max_size=3)))
        found.told = draw(positions)._replace(body_octets=0)  # a report has none
    return found


@st.composite
def messages(draw: st.DrawFn) -> Message:
    return Message(
        id=ids.make_id(BORN, draw(st.binary(min_size=10, max_size=10))),
        sender=draw(text),
        arrived_ms=draw(st.integers(0, 2**45)),
        size=draw(numbers),
        uid=draw(numbers),
        envid=draw(text),
        parent=draw(text),
        large=draw(text),
        body_crc=draw(st.integers(1, 2**32 - 1)),
        position=draw(positions),
        recipients=draw(st.lists(recipients(), min_size=1, max_size=5)),
    )


@given(messages())
def test_the_same_message_comes_back(message: Message) -> None:
    octets = pack(message)
    assert unpack(message.id, octets) == message
    assert segment_of(octets) == message.position.segment


@given(messages(), text)
def test_a_report_rests_in_the_log_and_not_in_memory(message: Message, report: str) -> None:
    told = replace(message, recipients=[replace(one, report=report) for one in message.recipients])
    assert pack(told) == pack(message)


def test_a_usual_message_takes_little_more_than_a_hundred_octets() -> None:
    address = "someone12345@domain123.example"
    message = Message(
        id=ids.make_id(BORN, bytes(10)),
        sender="sender@home.example",
        arrived_ms=BORN,
        size=4_096,
        uid=7791,
        envid="",
        parent="",
        large="",
        body_crc=1 << 31,
        position=Position(SegmentName(17, 3), Span(50_000_000, 120), 4_096),
        recipients=[Recipient(address, Route(Channel.REMOTE, address))],
    )
    assert len(pack(message)) < 110
