"""What a sender is told, by the whole stack: asked for by SMTP, fetched by POP3, read by Python's email package."""

import email
from collections.abc import Iterator
from email.message import Message

import pytest

from tests.harness import sink
from tests.harness.sink import Sink
from tests.harness.stack import MAIL_NAME, Stack
from tests.harness.walk import House, mail

HOST = "mx.far.example"
REPORTING_HOST = "mx.reporting.example"


@pytest.fixture(scope="module")
def reporting(stack: Stack, world: Sink) -> Iterator[Sink]:
    """Another mail server of the world, which announces DSN."""
    with sink.running(EHLO="250-sink.example\r\n250-PIPELINING\r\n250 DSN") as server:
        before = (stack.directory / "control" / "smtproutes").read_text()
        stack.control("smtproutes", f"{before}{REPORTING_HOST}:127.0.0.1:{server.port}\n")
        stack.hangup("remote-0")
        yield server
        stack.control("smtproutes", before)
        stack.hangup("remote-0")


def send(house: House, subject: str, recipient: str, wish: str, about: str = "") -> str:
    """Sends from the account; `wish` stands behind RCPT, `about` behind MAIL. The id."""
    with house.smtp() as client:
        assert "dsn" in client.esmtp_features
        code, said = client.mail(house.address, about.split())
        assert code == 250, said
        code, said = client.rcpt(recipient, wish.split())
        assert code == 250, said
        code, said = client.data(mail(subject, b"the body\r\n"))
        assert code == 250, said
    return said.decode().split()[-1]


def fetched(house: House, subject: str) -> list[Message]:
    """The reports in the account's mailbox on the message of that subject, by POP3; they are removed."""
    found = []
    with house.pop3() as client:
        for number in range(1, len(client.list()[1]) + 1):
            octets = b"\r\n".join(client.retr(number)[1]) + b"\r\n"
            read = email.message_from_bytes(octets)
            if read.get_content_type() == "multipart/report" and f"Subject: {subject}\r\n".encode() in octets:
                found.append(read)
                client.dele(number)
    return found


def parts(read: Message) -> list[Message]:
    assert not read.defects
    found = read.get_payload()
    assert isinstance(found, list)
    return [one for one in found if isinstance(one, Message)]


def test_a_bounce_is_read_by_people_and_by_programs(house: House, world: Sink) -> None:
    world.replies[f"RCPT never@{HOST}"] = "550 5.1.1 nobody of that name"
    send(
        house,
        "report on a failure",
        f"never@{HOST}",
        "NOTIFY=FAILURE ORCPT=rfc822;old+20name@here.example",
        "RET=HDRS ENVID=QQ+3D1",
    )
    house.wait_idle()
    (bounce,) = fetched(house, "report on a failure")
    assert bounce["Return-Path"] == "<>"
    assert (bounce["From"], bounce["To"]) == (f"MAILER-DAEMON@{MAIL_NAME}", house.address)
    assert bounce["Subject"] == "failure notice"
    text, status, header = parts(bounce)
    words = str(text.get_payload()).replace("\r\n", "\n")
    assert words.startswith(f"Hi. This is the qmail-send program at {MAIL_NAME}.\nI'm afraid I wasn't able to deliver")
    assert f"\n\n<never@{HOST}>:\n127.0.0.1 does not like recipient.\nRemote host said: 550 5.1.1 nobody" in words
    about, recipient = parts(status)
    assert about["Reporting-MTA"] == f"dns; {MAIL_NAME}"
    assert about["Original-Envelope-Id"] == "QQ=1"
    assert recipient.items() == [
        ("Original-Recipient", "rfc822;old name@here.example"),
        ("Final-Recipient", f"rfc822;never@{HOST}"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 nobody of that name"),
    ]
    assert header.get_content_type() == "text/rfc822-headers"
    returned = str(header.get_payload())
    assert returned.startswith(f"Return-Path: <{house.address}>\r\nReceived: from client.example")
    assert "the body" not in returned


def test_a_bounce_that_bounces_comes_to_the_postmaster(house: House, world: Sink) -> None:
    """And names the one who could not be told; `postmaster` is the account."""
    world.replies[f"RCPT never@{HOST}"] = "550 5.1.1 nobody of that name"
    house.send(mail("report on a report"), f"never@{HOST}", sender=f"nobody@{MAIL_NAME}")
    house.wait_idle()
    (double,) = fetched(house, "report on a report")
    assert double["Return-Path"] == "<#@[]>"
    assert f"postmaster@{MAIL_NAME}" in (double.get_all("Delivered-To") or [])
    text, status, original = parts(double)
    assert "but the bounce bounced!" in str(text.get_payload())
    assert parts(status)[1]["Final-Recipient"] == f"rfc822;nobody@{MAIL_NAME}"
    (bounce,) = parts(original)
    assert [part.get_content_type() for part in parts(bounce)] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]


def test_never_means_no_bounce(house: House, world: Sink, stack: Stack) -> None:
    world.replies[f"RCPT never@{HOST}"] = "550 5.1.1 nobody of that name"
    since = stack.mark()
    message = send(house, "report on nothing", f"never@{HOST}", "NOTIFY=NEVER")
    house.wait_idle()
    stack.said.wait(rf"^queue-0: end msg {message}$", since)
    assert "failure" in house.seapost("trace", message)
    assert not stack.said.find(rf"^queue-0: (bounce|notice) msg {message}", since)
    assert not fetched(house, "report on nothing")


def test_success_here_is_told(house: House, stack: Stack) -> None:
    message = send(house, "report on an arrival", f"friend@{MAIL_NAME}", "NOTIFY=SUCCESS", "RET=FULL ENVID=7")
    house.wait_idle()
    (notice,) = fetched(house, "report on an arrival")
    assert notice["Subject"] == "success notice"
    _, status, header = parts(notice)
    about, recipient = parts(status)
    assert about["Original-Envelope-Id"] == "7"
    assert (recipient["Final-Recipient"], recipient["Action"]) == (f"rfc822;friend@{MAIL_NAME}", "delivered")
    assert header.get_content_type() == "text/rfc822-headers"
    assert "notice msg" in house.seapost("trace", message)
    assert house.seapost("trace", message).count("end msg") == 2


def test_success_elsewhere_is_told_as_relayed_when_nobody_else_will(house: House, world: Sink) -> None:
    send(house, "report on a relay", f"friend@{HOST}", "NOTIFY=SUCCESS,FAILURE")
    house.wait_idle()
    (notice,) = fetched(house, "report on a relay")
    (recipient,) = parts(parts(notice)[1])[1:]
    assert (recipient["Final-Recipient"], recipient["Action"]) == (f"rfc822;friend@{HOST}", "relayed")


def test_a_server_that_reports_itself_is_told_what_to_report(house: House, reporting: Sink) -> None:
    wish = "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;old+20name@here.example"
    send(house, "report of another", f"friend@{REPORTING_HOST}", wish, "RET=HDRS ENVID=QQ+3D1")
    house.wait_idle()
    assert [command for command in reporting.commands if command[:4] in ("MAIL", "RCPT")] == [
        f"MAIL FROM:<{house.address}> RET=HDRS ENVID=QQ+3D1",
        f"RCPT TO:<friend@{REPORTING_HOST}> {wish}",
    ]
    assert not fetched(house, "report of another")


def test_a_delay_is_told_once(house: House, world: Sink, stack: Stack) -> None:
    """The first try is at once, the second after 400 s of qmail's, the third after 1,600 s."""
    world.replies[f"RCPT slow@{HOST}"] = ["450 4.2.1 busy", "450 4.2.1 busy", "450 4.2.1 busy", "250 2.1.5 now"]
    stack.control("delaywarning", "60\n")
    stack.hangup("queue-0")
    try:
        send(house, "report on a delay", f"slow@{HOST}", "")
        house.wait_idle()
    finally:
        (stack.directory / "control" / "delaywarning").unlink()
        stack.hangup("queue-0")
    (notice,) = fetched(house, "report on a delay")
    assert notice["Subject"] == "delay notice"
    (recipient,) = parts(parts(notice)[1])[1:]
    assert (recipient["Action"], recipient["Status"]) == ("delayed", "4.2.1")
    assert recipient["Diagnostic-Code"] == "smtp; 450 4.2.1 busy"


def test_nothing_is_told_to_who_did_not_ask(house: House, world: Sink) -> None:
    send(house, "report on nothing asked", f"friend@{HOST}", "")
    send(house, "report on nothing asked", f"friend@{MAIL_NAME}", "NOTIFY=DELAY,FAILURE")
    house.wait_idle()
    assert not fetched(house, "report on nothing asked")
