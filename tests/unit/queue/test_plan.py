"""What is started next: due first, fair turns, no destination beyond its limit."""

from mail import ids
from mail.ids import MessageId
from mail.routing import Channel, Route
from services.queue.message import Message, Recipient, State
from services.queue.names import NOWHERE
from services.queue.plan import TRANSACTION_RECIPIENTS_MAX, Job, Plan, jobs_of

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


def a_job(destination: str, number: int, due_ms: int = 0) -> Job:
    message = MessageId(f"m{number}")
    return Job(f"log/{message}/1/0", "log", message, Channel.REMOTE, destination, (0,), 1, due_ms)


def taken(plan: Plan, count: int, now_ms: int = NOW) -> list[str]:
    return [job.id for job in plan.take(Channel.REMOTE, count, now_ms)]


def test_recipients_at_one_domain_travel_together() -> None:
    message = a_message(remote("a@x.example"), remote("b@y.example"), remote("c@X.example"))
    assert [job.recipients for job in jobs_of("log", message)] == [(0, 2), (1,)]


def test_local_recipients_travel_alone() -> None:
    message = a_message(local("a@here"), local("b@here"))
    assert [job.recipients for job in jobs_of("log", message)] == [(0,), (1,)]


def test_a_verp_sender_sends_its_recipients_alone() -> None:
    message = a_message(remote("a@x.example"), remote("b@x.example"), sender="list-@h-@[]")
    assert [job.recipients for job in jobs_of("log", message)] == [(0,), (1,)]


def test_settled_recipients_need_no_attempt() -> None:
    message = a_message(remote("a@x.example"), remote("b@x.example"))
    message.recipients[0].state = State.DELIVERED
    assert [job.recipients for job in jobs_of("log", message)] == [(1,)]


def test_a_transaction_has_a_limit_of_recipients() -> None:
    message = a_message(*(remote(f"u{n}@x.example") for n in range(TRANSACTION_RECIPIENTS_MAX + 1)))
    assert [len(job.recipients) for job in jobs_of("log", message)] == [TRANSACTION_RECIPIENTS_MAX, 1]


def test_the_key_of_an_attempt_is_the_same_after_a_restart() -> None:
    message = a_message(remote("a@x.example"))
    assert jobs_of("log", message)[0].key == jobs_of("log", message)[0].key == f"log/{message.id}/1/0"


def test_a_job_waits_until_it_is_due() -> None:
    plan = Plan()
    plan.put(a_job("x", 1, due_ms=NOW + 10), NOW)
    assert taken(plan, 5) == []
    assert plan.next_due_ms() == NOW + 10
    assert taken(plan, 5, NOW + 10) == ["m1"]


def test_alarm_makes_everything_due() -> None:
    plan = Plan()
    plan.put(a_job("x", 1, due_ms=NOW + 1_000_000), NOW)
    plan.make_all_due()
    assert taken(plan, 5) == ["m1"]


def test_destinations_take_turns() -> None:
    plan = Plan()
    for number in range(4):
        plan.put(a_job("slow", number), NOW)
    plan.put(a_job("quick", 9), NOW)
    assert taken(plan, 3) == ["m0", "m9", "m1"]


def test_a_full_destination_costs_the_others_nothing() -> None:
    plan = Plan({Channel.REMOTE: 2})
    for number in range(1_000):
        plan.put(a_job("slow", number), NOW)
    assert taken(plan, 10) == ["m0", "m1"]
    plan.put(a_job("quick", 5_000), NOW)
    assert taken(plan, 10) == ["m5000"]


def test_an_end_makes_room_at_its_destination() -> None:
    plan = Plan({Channel.REMOTE: 1})
    first, second = a_job("x", 1), a_job("x", 2)
    plan.put(first, NOW)
    plan.put(second, NOW)
    assert taken(plan, 5) == ["m1"]
    plan.done(first)
    assert taken(plan, 5) == ["m2"]
    plan.done(second)
    assert taken(plan, 5) == []


def test_nothing_is_started_twice_or_forgotten() -> None:
    plan = Plan({Channel.REMOTE: 3})
    jobs = {f"m{number}": a_job(f"d{number % 7}", number, due_ms=NOW + number % 5) for number in range(200)}
    for job in jobs.values():
        plan.put(job, NOW)
    seen: list[str] = []
    while found := plan.take(Channel.REMOTE, 4, NOW + 10):
        seen += [job.id for job in found]
        for job in found:
            plan.done(job)
    assert sorted(seen) == sorted(jobs)
