"""What is tried when: a stuck domain holds up nobody, a dead one is left alone and given up in its time."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.queue.plan import REMOTE_DESTINATION_MAX
from tests.harness import sink
from tests.harness.stack import MAIL_NAME, Stack, running
from tests.harness.walk import mail
from tests.integration.conftest import house_of

STUCK, DEAD, WELL = "stuck.example", "dead.example", "mx.far.example"


@contextmanager
def a_stack(state: Path, routes: dict[str, int], **environment: str) -> Iterator[Stack]:
    lines = "".join(f"{domain}:127.0.0.1:{port}\n" for domain, port in routes.items())
    controls = {"smtproutes": lines, "concurrencyremote": "20\n"}
    if "LIFETIME" in environment:
        controls["queuelifetime"] = environment.pop("LIFETIME")
    with running(Stack(state, environment=environment, controls=controls)) as up:
        yield up


def send(stack: Stack, subject: str, domain: str, count: int, sender: str = "somebody@sender.example") -> list[str]:
    """So many messages over one connection; their ids."""
    found = []
    with house_of(stack).smtp() as client:
        for number in range(count):
            client.mail(sender)
            client.rcpt(f"user{number}@{domain}")
            code, said = client.data(mail(f"{subject} {number}"))
            assert code == 250, said
            found.append(said.split()[-1].decode())
    return found


@pytest.fixture
def silence() -> Iterator[socket.socket]:
    """Somebody listens and never says a word, until it is closed."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server


def test_a_stuck_domain_holds_up_nobody(state: Path, silence: socket.socket) -> None:
    with sink.running() as world, a_stack(state, {STUCK: silence.getsockname()[1], WELL: world.port}) as stack:
        stuck = send(stack, "stuck", STUCK, 300)
        stack.said.wait(rf"starting delivery \d+: msg \S+ to remote \S+@{STUCK}", count=REMOTE_DESTINATION_MAX)
        send(stack, "well", WELL, 60)
        world.wait(lambda seen: len(seen.taken) == 60)
        listed = stack.queued()
        assert {one["id"] for one in listed} == set(stuck)
        why = [recipient["why"] for one in listed for recipient in one["recipients"]]
        assert sum("under way" in text and "transactions" not in text for text in why) == REMOTE_DESTINATION_MAX
        waiting = [text for text in why if f"{REMOTE_DESTINATION_MAX} transactions with {STUCK}" in text]
        assert len(waiting) == 300 - REMOTE_DESTINATION_MAX
        silence.close()  # else the end of the stack waits for those that are under way


def test_a_dead_domain_is_left_alone_until_it_answers(state: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        port = reserved.getsockname()[1]
        with a_stack(state, {DEAD: port}, TIME_SCALE="0.02") as stack:
            sent = send(stack, "dead", DEAD, 100)
            stack.said.wait(r"deferral: .*establish_an_SMTP_connection")
            why = [recipient["why"] for one in stack.queued() for recipient in one["recipients"]]
            assert any(f"{DEAD} cannot be reached since" in text for text in why)
            started = stack.said.find(rf"starting delivery \d+: msg \S+ to remote \S+@{DEAD}")
            assert len(started) < 50, "a dead host burns no slot for each message"
            reserved.close()
            with sink.running(port) as world:
                world.wait(lambda seen: len(seen.taken) == 100)
                stack.wait_idle()
                assert len({one.recipients for one in world.taken}) == len(world.taken) == len(sent)


def test_what_waits_for_a_dead_domain_too_long_is_bounced_once(state: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        routes = {DEAD: reserved.getsockname()[1]}
        with a_stack(state, routes, TIME_SCALE="0.002", LIFETIME="3600") as stack:
            sent = send(stack, "dead", DEAD, 40, sender=f"demo@{MAIL_NAME}")
            stack.wait_idle()
            texts = [path.read_text() for path in house_of(stack).new_mail.glob("*")]
            subjects = [re.findall(r"^Subject: (dead \d+)$", text, re.M) for text in texts]
            assert sorted(subject for (subject,) in subjects) == sorted(f"dead {number}" for number in range(40))
            assert all("this message has been in the queue too long" in text for text in texts)
            assert len(sent) == 40
