"""What a sender is told: qmail-send's words to the byte (section 2.7 of the qmail reference), and the other notices."""

from dataclasses import replace

from mail import ids
from mail.limits import BOUNCE_BODY_MAX_OCTETS
from services.queue.bounce import BounceRules, compose_delay, compose_failure, compose_success, has_ear
from services.queue.report import Action, Fate, Original

RULES = BounceRules("MAILER-DAEMON", "mail.example", "postmaster@mail.example")
MADE = (ids.make_id(812_090_814_000, bytes(10)), 812_090_814)
ID = MADE[0]
TEXT = b"Received: (qmail x); then\nSubject: x\n\nhello\n"
NO_MAILBOX = "Sorry, no mailbox here by that name. (#5.1.1)\n"
FAILURE = Fate("nonexistent@domain.example", Action.FAILED, NO_MAILBOX)


def original(sender: str = "me@domain.example", content: bytes = TEXT) -> Original:
    return Original(sender, content, 812_000_000, len(content))


def failure(of: Original, *fates: Fate) -> str:
    bounce = compose_failure(RULES, of, list(fates or (FAILURE,)), MADE)
    assert bounce is not None
    return bounce.body.decode()


def words(message: str) -> str:
    """The part for people."""
    return message.split(f"--=_{ID}.0\n")[1].split("\n\n", 1)[1].removesuffix("\n")


BOUNCE = f"""\
Received: (qmail {ID} invoked for bounce); 26 Sep 1995 04:46:54 -0000
Date: 26 Sep 1995 04:46:54 -0000
From: MAILER-DAEMON@mail.example
To: me@domain.example
Message-ID: <{ID}@mail.example>
Subject: failure notice
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary="=_{ID}.0"

--=_{ID}.0
Content-Type: text/plain; charset=us-ascii

Hi. This is the qmail-send program at mail.example.
I'm afraid I wasn't able to deliver your message to the following addresses.
This is a permanent error; I've given up. Sorry it didn't work out.

<nonexistent@domain.example>:
Sorry, no mailbox here by that name. (#5.1.1)

<full@far.example>:
192.0.2.1 does not like recipient.
Remote host said: 552-5.2.2 The mailbox
552 5.2.2 is full
Giving up on 192.0.2.1.

--- Below this line is a copy of the message.


--=_{ID}.0
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example
Original-Envelope-Id: QQ=1
Arrival-Date: 25 Sep 1995 03:33:20 -0000

Final-Recipient: rfc822;nonexistent@domain.example
Action: failed
Status: 5.1.1
Diagnostic-Code: x-qmail; Sorry, no mailbox here by that name. (#5.1.1)

Original-Recipient: rfc822;Full House@old.example
Final-Recipient: rfc822;full@far.example
Action: failed
Status: 5.2.2
Diagnostic-Code: smtp; 552-5.2.2 The mailbox 552 5.2.2 is full

--=_{ID}.0
Content-Type: message/rfc822

Return-Path: <me@domain.example>
Received: (qmail x); then
Subject: x

hello

--=_{ID}.0--
"""


def test_a_bounce_is_qmails_text_a_status_for_programs_and_the_message() -> None:
    reply = "192.0.2.1 does not like recipient.\nRemote host said: 552-5.2.2 The mailbox\n552 5.2.2 is full\n"
    full = Fate(
        "full@far.example", Action.FAILED, f"{reply}Giving up on 192.0.2.1.\n", "rfc822;Full+20House@old.example"
    )
    assert failure(replace(original(), envid="QQ+3D1"), FAILURE, full) == BOUNCE


def test_the_text_for_people_is_qmails_to_the_byte() -> None:
    assert words(failure(original())) == (
        "Hi. This is the qmail-send program at mail.example.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\n"
        "\n"
        "<nonexistent@domain.example>:\n"
        "Sorry, no mailbox here by that name. (#5.1.1)\n"
        "\n"
        "--- Below this line is a copy of the message.\n"
        "\n"
    )


def test_a_bounce_of_a_bounce_goes_to_the_postmaster() -> None:
    bounce = compose_failure(RULES, original(sender=""), [FAILURE], MADE)
    assert bounce is not None
    assert (bounce.sender, bounce.recipient) == ("#@[]", "postmaster@mail.example")
    assert words(bounce.body.decode()) == (
        "Hi. This is the qmail-send program at mail.example.\n"
        "I tried to deliver a bounce message to this address, but the bounce bounced!\n"
        "\n"
        "<nonexistent@domain.example>:\n"
        "Sorry, no mailbox here by that name. (#5.1.1)\n"
        "\n"
        "--- Below this line is the original bounce.\n"
        "\n"
    )
    assert b"Content-Type: message/rfc822\n\nReturn-Path: <>\n" in bounce.body


def test_a_triple_bounce_is_discarded() -> None:
    assert compose_failure(RULES, original(sender="#@[]"), [FAILURE], MADE) is None


def test_a_bounce_has_no_sender_and_goes_to_the_one_of_the_message() -> None:
    bounce = compose_failure(RULES, original(), [FAILURE], MADE)
    assert bounce is not None
    assert (bounce.sender, bounce.recipient) == ("", "me@domain.example")


def test_a_verp_sender_gets_its_bounce_without_the_mark() -> None:
    bounce = compose_failure(RULES, original(sender="own-@d.test-@[]"), [FAILURE], MADE)
    assert bounce is not None
    assert bounce.recipient == "own-@d.test"
    assert b"\n\nReturn-Path: <own-@d.test>\n" in bounce.body


def test_no_blank_line_stands_inside_a_paragraph() -> None:
    text = failure(original(), Fate("x@y.example", Action.FAILED, "line1\n\n\nline2"))
    assert "<x@y.example>:\nline1\n//line2\n\n--- Below" in text


def test_a_remote_reply_brings_no_control_characters() -> None:
    assert "a??[2Jb?c\n" in words(failure(original(), Fate("x@y.example", Action.FAILED, "a\r\x1b[2Jb\0c\n")))


def test_a_line_that_smtp_cannot_carry_is_broken() -> None:
    text = failure(original(), Fate("x@y.example", Action.FAILED, "é" * 1_400 + "\n" + "y" * 998 + "\n"))
    assert max(len(line.encode()) for line in text.split("\n")) == 998
    assert text.count("é") == 1_400


def test_a_large_message_comes_back_as_its_header() -> None:
    large = TEXT + b"y" * (BOUNCE_BODY_MAX_OCTETS - len(TEXT) + 1)
    text = failure(replace(original(content=large), content=large[: BOUNCE_BODY_MAX_OCTETS + 1]))
    assert words(text).endswith("\n--- Below this line is a copy of the header of the message.\n\n")
    assert text.endswith(
        "Content-Type: text/rfc822-headers\n\nReturn-Path: <me@domain.example>\n"
        f"Received: (qmail x); then\nSubject: x\n\n--=_{ID}.0--\n"
    )
    assert "yyy" in failure(original(content=large[:-1])), "one octet less comes back whole"


def test_ret_hdrs_brings_the_header_back() -> None:
    text = failure(replace(original(), ret="HDRS"))
    assert "Content-Type: text/rfc822-headers\n" in text
    assert "hello" not in text
    assert "hello" in failure(replace(original(), ret="FULL"))


def test_a_message_that_cannot_be_read_is_not_in_its_bounce() -> None:
    text = failure(replace(original(content=b""), size=7))
    assert words(text).endswith("\n--- There is no copy of the message: it is damaged in the queue.\n\n")
    assert text.count(f"--=_{ID}.0") == 3


def test_a_success_notice_says_how_far_each_recipient_came_and_never_brings_the_message_back() -> None:
    fates = [
        Fate("here@mail.example", Action.DELIVERED, "did 1+0+0\n"),
        Fate("there@far.example", Action.RELAYED, "192.0.2.1 accepted message.\nRemote host said: 250 2.6.0 taken\n"),
    ]
    notice = compose_success(RULES, replace(original(), ret="FULL"), fates, MADE)
    assert (notice.sender, notice.recipient) == ("", "me@domain.example")
    text = notice.body.decode()
    assert text.startswith(f"Received: (qmail {ID} invoked for notice); ")
    assert "Subject: success notice\n" in text
    assert words(text) == (
        "This is the qmail-send program at mail.example.\n"
        "Your message has reached the following addresses.\n"
        "Where I say `relayed' it went to a host that does not tell what becomes of it.\n"
        "\n"
        "<here@mail.example>:\ndelivered\ndid 1+0+0\n"
        "\n"
        "<there@far.example>:\nrelayed\n192.0.2.1 accepted message.\nRemote host said: 250 2.6.0 taken\n"
        "\n"
    )
    assert "rfc822;here@mail.example\nAction: delivered\nStatus: 2.0.0\n\n" in text
    assert "rfc822;there@far.example\nAction: relayed\nStatus: 2.6.0\n\n" in text
    assert "Content-Type: text/rfc822-headers\n" in text
    assert "hello" not in text


def test_a_delay_notice_says_until_when_it_is_tried() -> None:
    waiting = Fate(
        "slow@far.example", Action.DELAYED, "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
    )
    notice = compose_delay(RULES, original("own-@d.test-@[]"), [waiting], MADE, 812_604_800)
    assert (notice.sender, notice.recipient) == ("", "own-@d.test")
    text = notice.body.decode()
    assert "Subject: delay notice\n" in text
    assert words(text).startswith(
        "This is the qmail-send program at mail.example.\n"
        "Your message has not reached the following addresses yet. You need not send it again:\n"
        "I keep trying until 2 Oct 1995 03:33:20 -0000.\n"
        "\n<slow@far.example>:\nSorry, I wasn't"
    )
    assert "Action: delayed\nStatus: 4.4.1\n" in text
    assert "\nWill-Retry-Until: 2 Oct 1995 03:33:20 -0000\n" in text


def test_only_failures_look_like_qmails_to_a_reader_of_bounces() -> None:
    arrived = compose_success(RULES, original(), [Fate("a@b.example", Action.DELIVERED, "did 1+0+0\n")], MADE)
    waiting = compose_delay(RULES, original(), [Fate("a@b.example", Action.DELAYED, "later\n")], MADE, 812_604_800)
    assert "\nHi. This is the qmail-send program" in failure(original())
    assert b"Hi. This is the" not in arrived.body + waiting.body


def test_a_bounce_hears_of_nothing_but_its_failure() -> None:
    assert [has_ear(sender) for sender in ("", "#@[]", "a@b.example", "own-@d.test-@[]")] == [False, False, True, True]
