"""Who is told what, and when (RFC 3461): decided from the state of a message alone."""

from dataclasses import replace

import pytest

from mail import ids
from mail.dsn import DELAY, FAILURE, NEVER, NO_WISH, SUCCESS, Wish
from mail.routing import RoutingTable
from services.queue import notices, records
from services.queue.bounce import BounceRules
from services.queue.message import Message, Recipient, State
from services.queue.names import NOWHERE
from services.queue.notices import DELAY_ASKED_S, Notices
from services.queue.rules import Rules

ID = ids.make_id(1_700_000_000_000, bytes(10))
RULES = Rules(
    RoutingTable(frozenset({"here.example"}), {"v.example": "bob"}, frozenset(), "here.example"),
    BounceRules("MAILER-DAEMON", "here.example", "postmaster@here.example"),
    604_800,
    1.0,
)
NOW_MS = 1_700_000_400_000
HOUR_S = 3_600


def recipient(address: str, notify: int = 0, state: State = State.WAITING, attempts: int = 0) -> Recipient:
    return Recipient(address, RULES.routing.route(address), state, attempts, wish=Wish(notify))


def message(*recipients: Recipient, sender: str = "me@far.example") -> Message:
    made = Message(ID, sender, 1_700_000_000_000, 20, 0, "", "", "", 0, NOWHERE, list(recipients))
    made.asks_success = any(one.wish.notify & SUCCESS for one in recipients)
    return made


def composer(report: str = "why (#4.4.1)\n") -> Notices:
    return Notices(RULES, lambda message, index: report, lambda message: b"Subject: x\n\nbody\n", _second, NOW_MS)


def _second(ms: int) -> int:
    return ms // 1_000


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "is_told"),
    [(0, True), (FAILURE, True), (FAILURE | DELAY, True), (NEVER, False), (SUCCESS, False), (DELAY, False)],
)
def test_a_failure_is_told_unless_notify_says_otherwise(notify: int, is_told: bool) -> None:
    assert notices.failed(message(recipient("a@here.example", notify, State.FAILED, 1))) == [0] * is_told


def test_of_several_only_those_that_failed_are_told() -> None:
    several = message(
        recipient("a@here.example", 0, State.DELIVERED, 1),
        recipient("b@here.example", NEVER, State.FAILED, 1),
        recipient("c@here.example", 0, State.FAILED, 1),
    )
    assert notices.failed(several) == [2]


# -- arrivals ---------------------------------------------------------------------------------------------------------


def test_an_arrival_is_told_to_who_asked_for_it() -> None:
    assert notices.arrived(message(recipient("a@here.example", SUCCESS, State.DELIVERED, 1)), 0, True) == [0]
    for notify in (0, NEVER, FAILURE | DELAY):
        assert notices.arrived(message(recipient("a@here.example", notify, State.DELIVERED, 1)), 0, True) == []


@pytest.mark.parametrize("sender", ["", "#@[]"])
def test_a_bounce_is_not_told_of_its_arrival(sender: str) -> None:
    arrived = message(recipient("a@here.example", SUCCESS | DELAY, State.DELIVERED, 1), sender=sender)
    assert notices.arrived(arrived, 0, True) == []
    arrived.recipients[0].state = State.WAITING
    assert notices.delayed(arrived, 1e9, 1) == []


def test_a_remote_arrival_is_told_only_when_the_next_server_does_not() -> None:
    away = message(recipient("a@far.example", SUCCESS, State.DELIVERED, 1))
    assert notices.arrived(away, 0, True) == []
    away.recipients[0].relayed = True
    assert notices.arrived(away, 0, True) == [0]


def test_recipients_at_one_destination_are_told_together_once_each_was_tried() -> None:
    several = message(
        recipient("a@here.example", SUCCESS, State.DELIVERED, 1),
        recipient("b@v.example", SUCCESS),
        recipient("c@here.example", 0, State.DELIVERED, 1),
        recipient("d@far.example", SUCCESS),
    )
    assert notices.arrived(several, 0, True) == []
    several.recipients[1] = recipient("b@v.example", SUCCESS, State.WAITING, 1)
    assert notices.arrived(several, 1, True) == [0], "the last one tried brings the notice, though it is not in it"
    several.recipients[1] = recipient("b@v.example", SUCCESS, State.DELIVERED, 2)
    assert notices.arrived(several, 1, False) == [1], "who comes later is told alone, and nobody twice"


# -- delays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notify", "age_s", "after_s", "is_told"),
    [
        (0, 1e9, 0, False),
        (0, HOUR_S, HOUR_S, True),
        (0, HOUR_S - 1, HOUR_S, False),
        (DELAY, DELAY_ASKED_S, 0, True),
        (DELAY, DELAY_ASKED_S - 1, 0, False),
        (DELAY | FAILURE, HOUR_S, HOUR_S, True),
        (FAILURE, 1e9, HOUR_S, False),
        (NEVER, 1e9, HOUR_S, False),
    ],
)
def test_a_delay_is_told_when_the_file_says_so_or_the_sender_asked(
    notify: int, age_s: float, after_s: int, is_told: bool
) -> None:
    assert notices.delayed(message(recipient("a@far.example", notify, attempts=1)), age_s, after_s) == [0] * is_told


def test_a_delay_is_told_once_and_only_of_who_waits() -> None:
    several = message(
        recipient("a@far.example", attempts=1),
        recipient("b@far.example", 0, State.DELIVERED, 1),
        recipient("c@far.example", 0, State.FAILED, 1),
        recipient("d@far.example"),
        recipient("e@far.example", 0, State.DELIVERING, 2),
    )
    assert notices.delayed(several, HOUR_S, HOUR_S) == [0, 4]
    several.recipients[0].warned = True
    assert notices.delayed(several, HOUR_S, HOUR_S) == [4]


# -- forwards ---------------------------------------------------------------------------------------------------------


def test_a_forward_inherits_nothing_but_never_and_that_only_under_the_same_sender() -> None:
    asked = replace(recipient("a@here.example"), wish=Wish(SUCCESS | DELAY, "rfc822;x@y"))
    never = replace(recipient("a@here.example"), wish=Wish(NEVER, "rfc822;x@y"))
    assert notices.wishes_of_forward(asked, True, 2) == ()
    assert notices.wishes_of_forward(never, True, 2) == (Wish(NEVER), Wish(NEVER))
    assert notices.wishes_of_forward(never, False, 2) == ()


# -- records ----------------------------------------------------------------------------------------------------------


def test_a_notice_has_the_same_id_however_often_it_is_made() -> None:
    several = message(recipient("a@here.example"), recipient("b@here.example"))
    made: list[records.Accepted | None] = []
    for _ in range(2):
        made += [composer().failure(several, [0]), composer().failure(several, [0, 1])]
        made += [composer().success(several, [0]), composer().success(several, [1])]
        made += [composer().delay(several, [0], 0), composer().delay(several, [1], 0)]
    names = [one.id for one in made if one]
    assert names[:6] == names[6:]
    assert len(set(names)) == 5, "a message has one bounce, and each recipient at most one notice of each kind"
    assert names[0] == notices.failure_id(ID)


def test_a_notice_shows_addresses_as_they_were_written_to_and_asks_for_nothing() -> None:
    virtual = replace(recipient("k@v.example"), wish=Wish(FAILURE, "rfc822;old@far.example"))
    made = composer().failure(message(virtual), [0])
    assert made is not None
    assert b"\n<k@v.example>:\nwhy (#4.4.1)\n" in made.body
    assert b"\nOriginal-Recipient: rfc822;old@far.example\nFinal-Recipient: rfc822;k@v.example\n" in made.body
    assert (made.sender, made.recipients, made.parent, made.size) == ("", ("me@far.example",), ID, len(made.body))
    assert (made.wishes, made.ret, made.envid) == ((), "", "")


def test_what_a_local_delivery_did_is_not_told() -> None:
    made = composer("did 0+1+0\n").success(message(recipient("a@here.example", SUCCESS, State.DELIVERED, 1)), [0])
    assert b"<a@here.example>:\ndelivered\n\n" in made.body
    assert b"did" not in made.body


def test_a_delay_counts_from_when_the_lifetime_began() -> None:
    made = composer().delay(message(recipient("a@far.example", attempts=1)), [0], 1_700_000_100_000)
    assert b"\nWill-Retry-Until: 21 Nov 2023 22:15:00 -0000\n" in made.body
    assert b"\nArrival-Date: 14 Nov 2023 22:13:20 -0000\n" in made.body


def test_nobody_wishes_for_success_without_saying_so() -> None:
    assert [NO_WISH.allows(what) for what in (SUCCESS, FAILURE, DELAY)] == [False, True, True]
