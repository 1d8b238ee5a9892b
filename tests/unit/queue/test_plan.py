"""What is started next: due first, fair turns, no destination beyond its limit."""

from mail import ids
from mail.routing import Channel, Route
from services.queue.errand import (
    TRANSACTION_RECIPIENTS_MAX,
    Errand,
    Job,
    Ticket,
    begin,
    born_ms,
    errands_of,
    message_of,
    recall,
    ticket_of,
)
from services.queue.message import Message, Recipient, State
from services.queue.names import NOWHERE
from services.queue.plan import BACK_OFF_S, Plan

NOW = 1_000_000


def a_message(*routes: Route, sender: str = "a@b.example", number: int = 1) -> Message:
    return Message(
        id=ids.make_id(NOW, number.to_bytes(10, "big")),
        sender=sender,
        arrived_ms=NOW,
        size=0,
        uid=0,
        envid="",
        parent="",
        large="",
        body_crc=0,
        position=NOWHERE,
        recipients=[Recipient(route.address, route) for route in routes],
    )


def local(address: str) -> Route:
    return Route(Channel.LOCAL, address)


def remote(address: str) -> Route:
    return Route(Channel.REMOTE, address)


def an_errand(destination: str, number: int, due_ms: int = 0) -> Errand:
    message = ids.make_id(NOW + number, bytes(10))
    return Errand(ticket_of(message, 0, 1), Channel.REMOTE, destination, due_ms)


def number_of(ticket: Ticket) -> int:
    return born_ms(ticket) - NOW


def taken(plan: Plan, count: int, now_ms: int = NOW) -> list[int]:
    return [number_of(ticket) for _, ticket in plan.take(Channel.REMOTE, count, now_ms)]


def jobs_of(message: Message) -> list[Job]:
    jobs = [begin("log", message, one.ticket) for one in errands_of(message)]
    return [job for job in jobs if job]


def test_recipients_at_one_domain_travel_together() -> None:
    message = a_message(remote("a@x.example"), remote("b@y.example"), remote("c@X.example"))
    assert [job.recipients for job in jobs_of(message)] == [(0, 2), (1,)]


def test_local_recipients_travel_together_the_first_time_and_alone_after_that() -> None:
    message = a_message(local("a@here"), local("b@here"), remote("c@x.example"), local("d@there"), local("a@here"))
    assert [job.recipients for job in jobs_of(message)] == [(0, 1, 3, 4), (2,)]
    message.recipients[1].attempts = message.recipients[3].attempts = 1
    assert [job.recipients for job in jobs_of(message)] == [(0, 4), (1,), (2,), (3,)]


def test_the_only_local_recipient_waits_for_its_own_mailbox() -> None:
    message = a_message(local("Ann-news@here"))
    assert [job.destination for job in jobs_of(message)] == ["ann-news"]


def test_a_verp_sender_sends_its_recipients_alone() -> None:
    message = a_message(remote("a@x.example"), remote("b@x.example"), sender="list-@h-@[]")
    assert [job.recipients for job in jobs_of(message)] == [(0,), (1,)]


def test_settled_recipients_need_no_attempt() -> None:
    message = a_message(remote("a@x.example"), remote("b@x.example"))
    message.recipients[0].state = State.DELIVERED
    assert [job.recipients for job in jobs_of(message)] == [(1,)]


def test_a_transaction_has_a_limit_of_recipients() -> None:
    message = a_message(*(remote(f"u{n}@x.example") for n in range(TRANSACTION_RECIPIENTS_MAX + 1)))
    assert [len(job.recipients) for job in jobs_of(message)] == [TRANSACTION_RECIPIENTS_MAX, 1]


def test_the_key_of_an_attempt_is_the_same_after_a_restart() -> None:
    message = a_message(remote("a@x.example"))
    assert jobs_of(message)[0].key == jobs_of(message)[0].key == f"log/{message.id}/1/0"


def test_a_job_waits_until_it_is_due() -> None:
    plan = Plan()
    plan.put(an_errand("x", 1, due_ms=NOW + 10), NOW)
    assert taken(plan, 5) == []
    assert plan.next_due_ms() == NOW + 10
    assert taken(plan, 5, NOW + 10) == [1]


def test_alarm_makes_everything_due() -> None:
    plan = Plan()
    plan.put(an_errand("x", 1, due_ms=NOW + 1_000_000), NOW)
    plan.make_all_due()
    assert taken(plan, 5) == [1]


def test_destinations_take_turns() -> None:
    plan = Plan()
    for number in range(4):
        plan.put(an_errand("slow", number), NOW)
    plan.put(an_errand("quick", 9), NOW)
    assert taken(plan, 3) == [0, 9, 1]


def test_a_full_destination_costs_the_others_nothing() -> None:
    plan = Plan({Channel.REMOTE: 2})
    for number in range(1_000):
        plan.put(an_errand("slow", number), NOW)
    assert taken(plan, 10) == [0, 1]
    plan.put(an_errand("quick", 5_000), NOW)
    assert taken(plan, 10) == [5000]


def test_an_end_makes_room_at_its_destination() -> None:
    plan = Plan({Channel.REMOTE: 1})
    first, second = an_errand("x", 1), an_errand("x", 2)
    plan.put(first, NOW)
    plan.put(second, NOW)
    assert taken(plan, 5) == [1]
    plan.done(Channel.REMOTE, "x")
    assert taken(plan, 5) == [2]
    plan.done(Channel.REMOTE, "x")
    assert taken(plan, 5) == []


def test_nothing_is_started_twice_or_forgotten() -> None:
    plan = Plan({Channel.REMOTE: 3})
    for number in range(200):
        plan.put(an_errand(f"d{number % 7}", number, due_ms=NOW + number % 5), NOW)
    assert len(plan) == 200
    seen: list[int] = []
    while found := plan.take(Channel.REMOTE, 4, NOW + 10):
        seen += [number_of(ticket) for _, ticket in found]
        for destination, _ in found:
            plan.done(Channel.REMOTE, destination)
    assert sorted(seen) == list(range(200))
    assert len(plan) == 0


def test_a_ticket_names_its_message() -> None:
    message = a_message(remote("a@x.example"), remote("b@y.example"))
    for one in errands_of(message):
        assert message_of(one.ticket) == message.id


def test_a_ticket_that_time_has_overtaken_leads_to_nothing() -> None:
    message = a_message(remote("a@x.example"))
    [one] = errands_of(message)
    message.recipients[0].attempts = 1
    assert begin("log", message, one.ticket) is None
    message.recipients[0].attempts = 0
    message.recipients[0].state = State.DELIVERING
    assert begin("log", message, one.ticket) is None


def test_a_worker_keeps_those_recipients_that_still_wait_for_its_attempt() -> None:
    message = a_message(remote("a@x.example"), remote("b@x.example"), remote("c@x.example"))
    message.recipients[1].state = State.DELIVERED
    job = recall("log", message, "log/key/1/0", 1, [0, 1, 7])
    assert job is not None
    assert (job.key, job.recipients) == ("log/key/1/0", (0,))
    assert recall("log", message, "log/key/2/0", 2, [0]) is None


# -- destinations that cannot be reached ------------------------------------------------------------------------------


def test_a_destination_that_cannot_be_reached_is_left_alone_and_then_tried_once() -> None:
    plan = Plan()
    for number in range(5):
        plan.put(an_errand("dead", number), NOW)
    plan.put(an_errand("alive", 9), NOW)
    assert taken(plan, 1) == [0]
    assert plan.unreachable(Channel.REMOTE, "dead", NOW)
    plan.done(Channel.REMOTE, "dead")
    assert taken(plan, 10) == [9]
    over = NOW + BACK_OFF_S * 1_000
    assert plan.next_due_ms() == over
    assert taken(plan, 10, over - 1) == []
    assert taken(plan, 10, over) == [1], "one tries, the others wait for what it says"
    assert taken(plan, 10, over) == []
    plan.reached(Channel.REMOTE, "dead")
    plan.done(Channel.REMOTE, "dead")
    assert taken(plan, 10, over) == [2, 3, 4]


def test_attempts_that_fail_together_count_once_and_every_later_failure_doubles_the_wait() -> None:
    plan = Plan()
    now = NOW
    waits: list[int] = []
    for _ in range(9):
        assert plan.unreachable(Channel.REMOTE, "dead", now)
        assert not plan.unreachable(Channel.REMOTE, "dead", now + 1)
        trouble = plan.trouble(Channel.REMOTE, "dead")
        assert trouble is not None
        assert trouble.since_ms == NOW
        waits.append((trouble.until_ms - now) // 1_000)
        now = trouble.until_ms
    assert waits == [60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]


def test_what_is_too_old_does_not_wait_behind_a_dead_destination() -> None:
    plan = Plan()
    for number in range(10):
        plan.put(an_errand("dead", number), NOW)
    assert plan.unreachable(Channel.REMOTE, "dead", NOW)
    assert [number_of(ticket) for ticket in plan.give_up(Channel.REMOTE, "dead", NOW + 4)] == [0, 1, 2, 3]
    assert len(plan) == 6
    assert len(plan.give_up(Channel.REMOTE, "dead", NOW + 100)) == 6
    assert taken(plan, 10, NOW + 10_000_000) == []


def test_alarm_tries_what_could_not_be_reached() -> None:
    plan = Plan()
    plan.put(an_errand("dead", 1), NOW)
    plan.unreachable(Channel.REMOTE, "dead", NOW)
    assert taken(plan, 5) == []
    plan.make_all_due()
    assert taken(plan, 5) == [1]


def test_a_million_that_come_due_together_do_not_stop_everything_else() -> None:
    """They are put into line in portions; what is not in line yet is not forgotten, and is looked at again at once."""
    plan = Plan({Channel.REMOTE: 0})
    for number in range(5_000):
        plan.put(an_errand(f"d{number}", number, due_ms=NOW + 10), NOW)
    first = taken(plan, 10_000, NOW + 10)
    assert 0 < len(first) < 5_000
    assert plan.next_due_ms() == NOW + 10
    seen = first
    while found := taken(plan, 10_000, NOW + 10):
        seen += found
    assert sorted(seen) == list(range(5_000))


def test_alarm_is_heard_in_portions_too() -> None:
    plan = Plan({Channel.REMOTE: 0})
    for number in range(5_000):
        plan.put(an_errand(f"d{number}", number, due_ms=NOW + 1_000_000), NOW)
    plan.make_all_due()
    assert plan.next_due_ms() == 0
    assert len(plan) == 5_000
    seen: list[int] = []
    while found := taken(plan, 10_000):
        seen += found
    assert sorted(seen) == list(range(5_000))
