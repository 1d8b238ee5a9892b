"""The operator's day with the whole stack: mail that waits is looked at, held, tried and ended."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.sink import Sink
from tests.harness.stack import Stack, running
from tests.harness.walk import House, mail
from tests.integration.conftest import house_of

HOST = "mx.far.example"
ORDERS = {"held msg", "released msg", "retried msg", "removed msg"}
LATER = "450 4.2.1 not now"


@pytest.fixture
def patient(state: Path, world: Sink) -> Iterator[Stack]:
    """Nothing is scaled: what is deferred waits for minutes, so that what happens at once is the operator's doing."""
    stack = Stack(state, controls={"smtproutes": f"{HOST}:127.0.0.1:{world.port}\n"})
    with running(stack):
        yield stack


def deferred(stack: Stack, world: Sink, subject: str) -> str:
    """A message that the other host did not want yet; it wants what comes from now on."""
    house = house_of(stack)
    recipient = f"{subject}@{HOST}"
    world.replies[f"RCPT {recipient}"] = [LATER, "250 2.1.5 ok"]
    since = stack.mark()
    message = house.send(mail(subject), recipient, sender=house.address)
    stack.said.wait(r"deferral: .*450_4\.2\.1_not_now", since)
    return str(message)


def arrived(world: Sink, subject: str) -> list[bytes]:
    return [one.text for one in world.taken if f"Subject: {subject}\r\n".encode() in one.text]


def test_an_operator_s_day(patient: Stack, world: Sink) -> None:
    tried, held, removed = (deferred(patient, world, subject) for subject in ("tried", "held", "removed"))
    house = house_of(patient)
    _reads_as_qmail_s(patient, house, [tried, held, removed])
    assert "reason" in patient.queued()[0]["recipients"][0]

    assert "made due 1 message" in patient.seapost("queue", "retry", tried)
    since = patient.mark()
    patient.said.wait(rf"end msg {tried}")
    assert len(arrived(world, "tried")) == 1

    patient.seapost("queue", "hold", held)
    patient.seapost("queue", "remove", removed)
    patient.kill("queue-0")
    patient.wait_started("queue-0", since)
    [left] = patient.queued()
    assert (left["id"], left["recipients"][0]["state"]) == (held, "held")
    assert patient.process
    patient.process.send_signal(signal.SIGALRM)
    assert "is held by" in patient.seapost("queue", "retry", held, status=1)

    patient.seapost("queue", "release", held)
    patient.seapost("queue", "retry", held, "--force", "--yes")
    patient.wait_idle()
    assert len(arrived(world, "held")) == 1
    assert arrived(world, "removed") == []
    assert not list(house.new_mail.glob("*")), "a bounce"
    said = [(event["event"], event["msg"]) for event in patient.events("queue") if event["event"] in ORDERS]
    assert said == [
        ("retried msg", tried),
        ("held msg", held),
        ("removed msg", removed),
        ("released msg", held),
        ("retried msg", held),
    ]
    trace = patient.seapost("trace", removed)
    assert re.search(r" removed msg: msg=\S+ by=\S+ recipients=1$", trace, re.M)
    assert " end msg: " in trace


def _reads_as_qmail_s(stack: Stack, house: House, messages: list[str]) -> None:
    """qmail-qread and qmail-qstat, octet by octet; golden but for the ids, which are ours, and the times."""
    printed = stack.run("qmail-qread").stdout
    sizes = {one["id"]: one["size"] for one in stack.queued()}
    expected = "".join(
        f"DATE  #{message}  {sizes[message]}  <{house.address}> \n\tremote\t{subject}@{HOST}\n"
        for message, subject in zip(messages, ("tried", "held", "removed"), strict=True)
    )
    assert re.sub(r"^\d\d? [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", "DATE", printed, flags=re.M) == expected
    said = "messages in queue: 3\nmessages in queue but not yet preprocessed: 0\n"
    assert stack.run("qmail-qstat").stdout == said
