"""The walk of a message through the composed stack: docker compose up, in by SMTP, out by POP3, on to another host."""

import json
import poplib
import smtplib
from collections.abc import Iterator

import pytest

from tests.conftest import free_port
from tests.harness.composed import ACCOUNT, DOMAIN, ELSEWHERE, PASSWORD, ComposedStack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SENDER = "somebody@sender.example"


@pytest.fixture(scope="module")
def stack(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedStack]:
    """Up and healthy; taken down with its volumes at the end."""
    running = ComposedStack(engine, tmp_path_factory.mktemp("composed"), free_port(), free_port())
    running.prepare()
    try:
        running.up()
        yield running
    finally:
        running.down()


def send(stack: ComposedStack, recipient: str, subject: str) -> str:
    """Hands in a message and returns the id in the 250 reply."""
    with smtplib.SMTP("127.0.0.1", stack.smtp_port, timeout=60) as client:
        client.ehlo("client.example")
        assert client.mail(SENDER)[0] == 250
        code, text = client.rcpt(recipient)
        assert code == 250, text
        code, text = client.data(f"Subject: {subject}\r\n\r\n.a line that begins with a dot\r\n")
    words = text.decode().split()
    assert (code, words[:2], words[-2]) == (250, ["2.0.0", "ok"], "qp"), text
    return words[-1]


def fetch(stack: ComposedStack, subject: str) -> list[str]:
    """Every message of that subject, taken out of the maildrop by POP3."""
    client = poplib.POP3("127.0.0.1", stack.pop3_port, timeout=60)
    client.user(ACCOUNT)
    client.pass_(PASSWORD)
    found = []
    for number in range(1, client.stat()[0] + 1):
        text = b"\n".join(client.retr(number)[1]).decode()
        if f"Subject: {subject}\n" in text:
            found.append(text)
            client.dele(number)
    client.quit()
    return found


def test_a_message_walks_from_smtp_to_pop3(stack: ComposedStack) -> None:
    message = send(stack, f"{ACCOUNT}@{DOMAIN}", "walk")
    stack.seapost("queue", "wait-idle", "--timeout", "30")
    (text,) = fetch(stack, "walk")
    assert text.startswith(f"Return-Path: <{SENDER}>\nDelivered-To: {ACCOUNT}@{DOMAIN}\n")
    assert message in text
    assert text.endswith("\n\n.a line that begins with a dot")


def test_one_id_leads_from_the_reply_to_the_maildir(stack: ComposedStack) -> None:
    message = send(stack, f"{ACCOUNT}@{DOMAIN}", "one id")
    stack.seapost("queue", "wait-idle", "--timeout", "30")
    assert [path.name for path in stack.new_mail.iterdir() if f".Q{message}R0I0." in path.name]
    traced = stack.seapost("trace", message)
    for event in ("accepted", "new msg", "starting delivery", "published", "success", "end msg"):
        assert event in traced, traced


def test_a_message_reaches_a_host_elsewhere(stack: ComposedStack) -> None:
    send(stack, f"friend@{ELSEWHERE}", "far away")
    stack.seapost("queue", "wait-idle", "--timeout", "30")
    assert "Subject: far away" in stack.logs("elsewhere")


def test_mail_for_nobody_is_refused_at_rcpt(stack: ComposedStack) -> None:
    with smtplib.SMTP("127.0.0.1", stack.smtp_port, timeout=60) as client:
        client.ehlo("client.example")
        client.mail(SENDER)
        code, text = client.rcpt(f"nobody@{DOMAIN}")
    assert (code, text[:5]) == (550, b"5.1.1")


def test_everybody_has_the_privilege_that_it_needs_and_no_more(stack: ComposedStack) -> None:
    """What the processes have in fact: CapEff of process 1, and no way to write beside the volumes."""
    for service in ("smtpd", "queue", "remote", "local", "pop3"):
        status = stack.compose("exec", "-T", service, "cat", "/proc/1/status")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(facts["CapEff"], 16) == 0, f"{service}: {facts['CapEff']}"
        assert facts["Uid"].split()[0] != "0", f"{service}: {facts['Uid']}"
        assert facts["NoNewPrivs"] == "1"
        written = stack.compose("exec", "-T", service, "sh", "-c", "touch /here /srv/seapost/here 2>&1 || echo refused")
        assert written.endswith("refused\n"), f"{service} has a root that can be written"


def test_replicas_share_the_work(stack: ComposedStack) -> None:
    stack.up("--no-recreate", "--scale", "queue=2", "--scale", "remote=3")
    replicas = [json.loads(line) for line in stack.compose("ps", "--format", "json").splitlines()]
    services = [one["Service"] for one in replicas if one["Health"] == "healthy"]
    assert (services.count("queue"), services.count("remote")) == (2, 3)
    for number in range(10):
        send(stack, f"{ACCOUNT}@{DOMAIN}", f"shared {number}")
    stack.seapost("queue", "wait-idle", "--timeout", "30")
    assert [len(fetch(stack, f"shared {number}")) for number in range(10)] == [1] * 10
