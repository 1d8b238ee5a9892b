"""The walk of a message through the stack of processes, and everything that can be asked about it on the way."""

import re

from tests.harness import walk
from tests.harness.stack import MAIL_NAME, Stack
from tests.harness.walk import SENDER, House, mail


def test_every_octet_arrives(house: House) -> None:
    walk.check_every_octet_arrives(house)


def test_pop3_hands_out_what_lies_in_the_maildir(house: House) -> None:
    walk.check_pop3_hands_out_what_lies_in_the_maildir(house)


def test_one_id_leads_from_the_reply_to_the_maildir(house: House) -> None:
    walk.check_one_id_leads_from_the_reply_to_the_maildir(house)


def test_mail_for_nobody_is_refused_at_rcpt(house: House) -> None:
    walk.check_mail_for_nobody_is_refused_at_rcpt(house)


def test_the_log_has_qmails_words_in_qmails_order(stack: Stack, house: House) -> None:
    since = stack.mark()
    message = house.send(mail("words"))
    stack.said.wait(rf"^queue-0: end msg {message}$", since)
    number = stack.said.wait(rf"^queue-0: starting delivery \d+: msg {message} ", since).split(":")[1].split()[-1]
    said = [line.removeprefix("queue-0: ") for line in stack.said.find("^queue-0: ", since)]
    wanted = [
        rf"new msg {message}",
        rf"info msg {message}: bytes \d+ from <{re.escape(SENDER)}> qp {message} uid \d+",
        rf"starting delivery {number}: msg {message} to local demo@{MAIL_NAME}",
        r"status: local 1/10 remote 0/20",
        rf"delivery {number}: success: did_1\+0\+0/",
        r"status: local 0/\d+ remote 0/\d+",
        rf"end msg {message}",
    ]
    left = iter(said)
    for pattern in wanted:
        assert any(re.fullmatch(pattern, line) for line in left), f"{pattern} is missing or too early in {said}"


def test_a_big_message_goes_through_everything(house: House) -> None:
    lines = b"".join(b"%07d %s\r\n" % (number, b"x" * 64) for number in range(72_000))
    message = house.send(mail("big", lines))
    house.wait_idle()
    (copy,) = house.copies(message)
    assert copy.read_bytes().endswith(lines.replace(b"\r\n", b"\n"))
    assert copy.stat().st_size > 5 * 1024 * 1024
    with house.pop3() as client:
        numbers = [line.split()[0] for line in client.uidl()[1] if message.encode() in line]
        assert client.retr(int(numbers[0]))[2] > 5 * 1024 * 1024
        client.dele(int(numbers[0]))


def test_several_recipients_here_get_a_copy_each(stack: Stack, house: House) -> None:
    message = house.send(mail("both"), house.address, f"friend@{MAIL_NAME}")
    house.wait_idle()
    friends = [path.name for path in (stack.home("friend") / "Maildir" / "new").iterdir()]
    assert len(house.copies(message)) == 1
    assert [name for name in friends if f"Q{message}R1I0." in name]


def test_an_alias_sends_mail_on(stack: Stack, house: House) -> None:
    (stack.directory / "alias" / ".qmail-info").write_text("&demo\n")
    message = house.send(mail("to an alias"), f"info@{MAIL_NAME}")
    house.wait_idle()
    (copy,) = [path for path in house.new_mail.glob("*") if b"Subject: to an alias\n" in path.read_bytes()]
    head = copy.read_bytes().decode().splitlines()
    assert head[0] == f"Return-Path: <{SENDER}>"
    assert head.index(f"Delivered-To: demo@{MAIL_NAME}") < head.index(f"Delivered-To: info@{MAIL_NAME}")
    assert message not in copy.name  # a forward is a message of its own
    traced = house.seapost("trace", message)
    assert traced.count("new msg") == 2, "the trace of a message shows its forward"


def test_postmaster_is_somebody(house: House) -> None:
    house.send(mail("to postmaster"), f"postmaster@{MAIL_NAME}")
    house.wait_idle()
    assert [path for path in house.new_mail.glob("*") if b"Subject: to postmaster\n" in path.read_bytes()]


def test_a_stranger_may_not_relay(stack: Stack, house: House) -> None:
    """127.0.0.1 may, by the shipped tcp.smtp; take that away and nobody may."""
    allowed = (stack.directory / "control" / "tcp.smtp").read_text()
    since = stack.mark()
    stack.control("tcp.smtp", ":allow\n")
    stack.hangup("smtpd-0")
    try:
        with house.smtp() as client:
            client.mail(SENDER)
            code, said = client.rcpt("friend@far.far.example")
    finally:
        stack.control("tcp.smtp", allowed)
        stack.hangup("smtpd-0")
    assert (code, said[:5]) == (553, b"5.7.1"), stack.said.find("", since)


def test_nothing_but_maildir_names_in_new(house: House) -> None:
    house.send(mail("names"))
    house.wait_idle()
    for path in house.new_mail.glob("*"):
        assert re.fullmatch(r"\d+\.Q[0-9a-v]{26}R\d+I\d+\.[\w-]{1,16}", path.name)
        assert len(path.name) <= 70
