"""On to another host: several recipients in one transaction, an outcome for each, later tries, and the bounce."""

import json
import re

from tests.harness.sink import Sink, Transaction
from tests.harness.stack import MAIL_NAME, Stack
from tests.harness.walk import House, mail

HOST = "mx.far.example"


def of(world: Sink, subject: str) -> list[Transaction]:
    """The transactions in which the sink saw the message of that subject."""
    return [one for one in world.transactions if f"Subject: {subject}\r\n".encode() in one.text]


def bounces(house: House, subject: str) -> list[str]:
    """The failure notices in the account's Maildir about the message of that subject."""
    texts = [path.read_text() for path in house.new_mail.glob("*")]
    return [text for text in texts if "Subject: failure notice\n" in text and f"Subject: {subject}\n" in text]


def test_a_message_reaches_another_host_octet_by_octet(house: House, world: Sink) -> None:
    text = mail("far away", b".a dot\r\n..\r\n\xe9\r\n" + b"x" * 1_500 + b"\r\n\r\n")
    message = house.send(text, f"friend@{HOST}", sender=house.address)
    house.wait_idle()
    (seen,) = of(world, "far away")
    assert (seen.sender, seen.recipients) == (house.address, (f"friend@{HOST}",))
    assert seen.text.endswith(text)
    assert f"with ESMTP id {message};".encode() in seen.text.removesuffix(text)


def test_every_recipient_has_an_outcome_of_its_own(house: House, world: Sink, stack: Stack) -> None:
    """Taken, later and never, in one transaction: delivered once, tried again alone, bounced alone."""
    world.replies[f"RCPT later@{HOST}"] = ["450 4.2.1 busy", "250 2.1.5 now"]
    world.replies[f"RCPT never@{HOST}"] = "550 5.1.1 nobody of that name"
    recipients = [f"{name}@{HOST}" for name in ("one", "later", "never", "two")]
    message = house.send(mail("mixed"), *recipients, sender=house.address)
    house.wait_idle()
    first, second = of(world, "mixed")
    assert first.recipients == (f"one@{HOST}", f"two@{HOST}")
    assert second.recipients == (f"later@{HOST}",)
    (bounce,) = bounces(house, "mixed")
    assert bounce.startswith(f"Return-Path: <>\nDelivered-To: {house.address}\n")
    assert f"Hi. This is the qmail-send program at {MAIL_NAME}.\n" in bounce
    about, _, copy = bounce.partition("--- Below this line is a copy of the message.\n")
    assert re.findall(r"^<(\S+)>:$", about, re.M) == [f"never@{HOST}"]
    assert "Remote host said: 550 5.1.1 nobody of that name\n" in about
    assert f"\nContent-Type: message/rfc822\n\nReturn-Path: <{house.address}>\n" in copy
    words = [
        event["outcome"] for event in stack.events("queue") if event["event"] == "delivery" and event["msg"] == message
    ]
    assert sorted(words) == ["deferral", "failure", "success", "success", "success"]
    traced = house.seapost("trace", message)
    assert "bounce msg" in traced
    assert traced.count("end msg") == 2, "of the message and of its bounce"


def test_a_host_that_tears_the_connection_is_tried_again(house: House, world: Sink) -> None:
    world.replies[f"RCPT torn@{HOST}"] = ["reset", "250 2.1.5 sorry"]
    house.send(mail("torn"), f"torn@{HOST}", sender=house.address)
    house.wait_idle()
    (seen,) = of(world, "torn")
    assert seen.taken
    assert not bounces(house, "torn")


def test_the_queue_can_be_listed_while_mail_waits(house: House, world: Sink, stack: Stack) -> None:
    world.replies[f"RCPT waits@{HOST}"] = "450 4.2.2 full"
    since = stack.mark()
    message = house.send(mail("waits"), f"waits@{HOST}", sender=house.address)
    stack.said.wait(r"deferral: .*450_4\.2\.2_full", since)
    (listed,) = [one for one in stack.queued() if one["id"] == message]
    (recipient,) = listed["recipients"]
    assert set(listed) >= {"id", "log", "sender", "recipients", "size"}
    assert listed["sender"] == house.address
    assert (recipient["address"], recipient["channel"]) == (f"waits@{HOST}", "remote")
    assert recipient["attempts"] >= 1
    assert "450 4.2.2 full" in recipient["why"]
    assert "still holds" in stack.seapost("queue", "wait-idle", "--timeout", "0.1", status=1)
    world.replies[f"RCPT waits@{HOST}"] = "250 2.1.5 room again"
    house.wait_idle()
    assert of(world, "waits")
    assert not stack.queued()


def test_trace_can_be_read_by_machines(house: House) -> None:
    message = house.send(mail("machines"))
    house.wait_idle()
    records = [json.loads(line) for line in house.seapost("trace", message, "--json").splitlines()]
    assert records == sorted(records, key=lambda record: record["time"])
    assert {record["service"] for record in records} == {"smtpd-0", "queue-0", "local-0"}
