"""The failure notice, in qmail-send's words (section 2.7 of the qmail reference)."""

from mail import ids
from mail.limits import BOUNCE_BODY_MAX_OCTETS
from services.queue.bounce import BounceRules, Failure, compose

RULES = BounceRules("MAILER-DAEMON", "mail.example", "postmaster@mail.example")
MADE = (ids.make_id(812_090_814_000, bytes(10)), 812_090_814)
FAILURE = Failure("nonexistent@domain.example", "Sorry, no mailbox here by that name. (#5.1.1)\n")


def test_a_bounce_goes_to_the_sender_in_qmails_words() -> None:
    bounce = compose(RULES, "me@domain.example", [FAILURE], b"Subject: x\n\nhello\n", MADE)
    assert bounce is not None
    assert (bounce.sender, bounce.recipient) == ("", "me@domain.example")
    head, _, text = bounce.body.decode().partition("\n\n")
    assert head.split("\n") == [
        f"Received: (qmail {MADE[0]} invoked for bounce); 26 Sep 1995 04:46:54 -0000",
        "Date: 26 Sep 1995 04:46:54 -0000",
        "From: MAILER-DAEMON@mail.example",
        "To: me@domain.example",
        f"Message-ID: <{MADE[0]}@mail.example>",
        "Subject: failure notice",
    ]
    assert text == (
        "Hi. This is the qmail-send program at mail.example.\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\n"
        "\n"
        "<nonexistent@domain.example>:\n"
        "Sorry, no mailbox here by that name. (#5.1.1)\n"
        "\n"
        "--- Below this line is a copy of the message.\n"
        "\n"
        "Return-Path: <me@domain.example>\n"
        "Subject: x\n\nhello\n"
    )


def test_a_bounce_of_a_bounce_goes_to_the_postmaster() -> None:
    bounce = compose(RULES, "", [FAILURE], b"x\n", MADE)
    assert bounce is not None
    assert (bounce.sender, bounce.recipient) == ("#@[]", "postmaster@mail.example")
    assert b"but the bounce bounced!" in bounce.body
    assert b"--- Below this line is the original bounce.\n\nReturn-Path: <>\n" in bounce.body


def test_a_triple_bounce_is_discarded() -> None:
    assert compose(RULES, "#@[]", [FAILURE], b"x\n", MADE) is None


def test_a_verp_sender_gets_its_bounce_without_the_mark() -> None:
    bounce = compose(RULES, "own-@d.test-@[]", [FAILURE], b"x\n", MADE)
    assert bounce is not None
    assert bounce.recipient == "own-@d.test"
    assert b"Return-Path: <own-@d.test>\n" in bounce.body


def test_no_blank_line_stands_inside_a_paragraph() -> None:
    bounce = compose(RULES, "me@d.example", [Failure("x@y.example", "line1\n\n\nline2")], b"", MADE)
    assert bounce is not None
    assert b"<x@y.example>:\nline1\n//line2\n\n--- Below" in bounce.body


def test_a_remote_reply_brings_no_control_characters() -> None:
    bounce = compose(RULES, "me@d.example", [Failure("x@y.example", "a\r\x1b[2Jb\0c\n")], b"", MADE)
    assert bounce is not None
    assert b"a??[2Jb?c\n" in bounce.body


def test_a_large_original_is_cut() -> None:
    bounce = compose(RULES, "me@d.example", [FAILURE], b"y" * (BOUNCE_BODY_MAX_OCTETS + 1), MADE)
    assert bounce is not None
    assert bounce.body.endswith(b"y\n--- The rest of the message is left out here.\n")
    assert bounce.body.count(b"y" * 100) <= BOUNCE_BODY_MAX_OCTETS // 100
