"""Reports as programs read them: Python's own email package is the independent reader."""

import email
import email.policy
import re
from dataclasses import replace
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import dsn, ids
from mail.address import acceptable
from mail.limits import BOUNCE_BODY_MAX_OCTETS, ENVID_MAX_OCTETS
from services.queue.bounce import BounceRules, compose_failure
from services.queue.report import Action, Fate, Original, status

RULES = BounceRules("MAILER-DAEMON", "mail.example", "postmaster@mail.example")
MADE = (ids.make_id(812_090_814_000, bytes(10)), 812_090_814)
HEADER = b"Received: (qmail x); then\nSubject: x\n"
FIELD = re.compile(r"[A-Za-z-]+:(?: [ -~]+|\n [ -~]+)(?:\n [ -~]+)*\Z")


def original(content: bytes = HEADER + b"\nhello\n", sender: str = "me@domain.example") -> Original:
    return Original(sender, content, 812_000_000, len(content))


def failed(report: str, recipient: str = "x@y.example", orcpt: str = "") -> Fate:
    return Fate(recipient, Action.FAILED, report, orcpt)


def bounced(of: Original, *fates: Fate) -> bytes:
    bounce = compose_failure(RULES, of, list(fates or (failed("no\n"),)), MADE)
    assert bounce is not None
    return bounce.body


def read(message: bytes) -> list[Message]:
    """The parts of a bounce, each as the email package reads it."""
    found = email.message_from_bytes(message)
    assert not found.defects
    assert found.get_content_type() == "multipart/report"
    assert found.get_param("report-type") == "delivery-status"
    parts = found.get_payload()
    assert isinstance(parts, list)
    assert not any(part.defects for part in parts if isinstance(part, Message))
    return [part for part in parts if isinstance(part, Message)]


def groups(message: bytes) -> list[Message]:
    """The groups of fields of the second part: the message's first, then one for each recipient."""
    part = read(message)[1]
    assert part.get_content_type() == "message/delivery-status"
    found = part.get_payload()
    assert isinstance(found, list)
    return [one for one in found if isinstance(one, Message)]


def of_recipient(*fates: Fate) -> Message:
    return groups(bounced(original(), *fates))[1]


@pytest.mark.parametrize(
    ("action", "report", "code"),
    [
        (Action.FAILED, "Sorry, no mailbox here by that name. (#5.1.1)\n", "5.1.1"),
        (Action.FAILED, "1.2.3.4 does not like recipient.\nRemote host said: 550 5.7.1 no (#5.9.9)\n", "5.7.1"),
        (Action.FAILED, "1.2.3.4 does not like recipient.\nRemote host said: 550-5.7.1 no\n550 5.7.1 no\n", "5.7.1"),
        (Action.FAILED, "1.2.3.4 does not like recipient.\nRemote host said: 554 no\nGiving up on 1.2.3.4.\n", "5.0.0"),
        (Action.FAILED, "Remote host said: 550 5.7.1.9 odd\n", "5.0.0"),
        (Action.FAILED, "Remote host said: 550 5.07.1 odd\n", "5.0.0"),
        (Action.FAILED, "Remote host said: 550 5.1111.1 odd\n", "5.0.0"),
        (Action.FAILED, "Remote host said: 550 ５.7.1 odd\n", "5.0.0"),
        (Action.FAILED, "Remote host said: 450 4.2.1 busy\nI'm not going to try again; (...) too long.\n", "4.2.1"),
        (Action.FAILED, "did not work", "5.0.0"),
        (Action.FAILED, "", "5.0.0"),
        (Action.DELAYED, "Connected to 1.2.3.4 but connection died. (#4.4.2)\n", "4.4.2"),
        (Action.DELAYED, "Remote host said: 451 later\n", "4.0.0"),
        (Action.DELAYED, "Remote host said: 550 5.1.1 no\n", "4.0.0"),
        (Action.DELIVERED, "did 1+0+0\n", "2.0.0"),
        (Action.RELAYED, "1.2.3.4 accepted message.\nRemote host said: 250 2.6.0 ok\n", "2.6.0"),
        (Action.RELAYED, "1.2.3.4 accepted message.\nRemote host said: 250 ok (#5.1.1)\n", "2.0.0"),
    ],
)
def test_the_status_is_the_one_that_the_report_speaks_of(action: Action, report: str, code: str) -> None:
    assert status(Fate("x@y.example", action, report)) == code


def test_a_program_reads_what_was_said_of_message_and_recipients() -> None:
    about = replace(original(), envid="QQ+3D314+2B159")
    fates = [failed("a (#5.1.1)\n", "a@b.example", "rfc822;A+2Bx@old.example"), failed("b (#5.2.2)\n", "c@d.example")]
    message, first, second = groups(bounced(about, *fates))
    assert message.items() == [
        ("Reporting-MTA", "dns; mail.example"),
        ("Original-Envelope-Id", "QQ=314+159"),
        ("Arrival-Date", "25 Sep 1995 03:33:20 -0000"),
    ]
    assert first.items() == [
        ("Original-Recipient", "rfc822;A+x@old.example"),
        ("Final-Recipient", "rfc822;a@b.example"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Diagnostic-Code", "x-qmail; a (#5.1.1)"),
    ]
    assert second["Final-Recipient"] == "rfc822;c@d.example"


def test_the_message_comes_back_octet_by_octet() -> None:
    content = HEADER + b"\n\n--=_x\n.dot\n\xff\xfe trailing \t\n\nno line end"
    message = bounced(original(content))
    part = read(message)[2]
    assert part.get_content_type() == "message/rfc822"
    assert part["Content-Transfer-Encoding"] == email.message_from_bytes(message)["Content-Transfer-Encoding"] == "8bit"
    assert b"\n\nReturn-Path: <me@domain.example>\n" + content + b"\n--=_" in message


def test_a_bounce_of_a_bounce_holds_it_whole() -> None:
    inner = bounced(original())
    outer_made = (ids.child_id(MADE[0], 0, 1, "x"), MADE[1])
    outer = compose_failure(RULES, original(b"Received: x\n" + inner, ""), [failed("no\n")], outer_made)
    assert outer is not None
    held = read(outer.body)[2].get_payload(0)
    assert isinstance(held, Message)
    assert [part.get_content_type() for part in read(bytes(held))] == [
        "text/plain",
        "message/delivery-status",
        "message/rfc822",
    ]


def test_no_part_can_hold_the_boundary() -> None:
    guessed = "".join(f"--=_{MADE[0]}.{number}\n" for number in range(3))
    fate = failed(f"no\n{guessed}Content-Type: text/html\n")
    text, _, returned = read(bounced(original(HEADER + b"\n" + guessed.encode()), fate))
    assert guessed in str(text.get_payload())
    assert guessed in returned.as_string()


def test_an_address_beyond_ascii_is_written_in_seven_bits() -> None:
    """RFC 6533 section 3, and the words for people keep it as it is."""
    message = bounced(original(), failed("no\n", "jörg+a=b\\c€@bücher.example"))
    text, status_part, _ = read(message)
    assert text.get_param("charset") == "utf-8"
    assert "<jörg+a=b\\c€@bücher.example>:\n".encode() in (text.get_payload(decode=True) or b"")
    assert status_part.as_string().isascii()
    assert groups(message)[1]["Final-Recipient"] == (
        r'utf-8;"j\x{F6}rg\x{2B}a\x{3D}b\x{5C}\x{5C}c\x{20AC}"@b\x{FC}cher.example'
    )


@pytest.mark.parametrize(
    ("subject", "kinds"),
    [
        (b"x", ("message/rfc822", "text/rfc822-headers")),
        ("für".encode(), ("message/global", "message/global-headers")),
        ("für".encode("latin-1"), ("message/rfc822", "text/rfc822-headers")),
    ],
)
def test_a_header_in_utf_8_is_returned_as_one(subject: bytes, kinds: tuple[str, str]) -> None:
    about = original(HEADER + b"Subject: " + subject + b"\n\nhello\n")
    returned = [read(bounced(replace(about, ret=ret)))[2].get_content_type() for ret in (dsn.FULL, dsn.HDRS)]
    assert tuple(returned) == kinds


@pytest.mark.parametrize(
    "header",
    [
        HEADER + b"X: " + b"y" * BOUNCE_BODY_MAX_OCTETS + b"\n",
        HEADER + b"X: y\n" + b" z\n" * BOUNCE_BODY_MAX_OCTETS,
        HEADER + b"X: y\n" * BOUNCE_BODY_MAX_OCTETS,
    ],
)
def test_a_header_that_is_too_large_ends_with_a_whole_field(header: bytes) -> None:
    content = header + b"\nhello\n"
    about = replace(original(content), content=content[: BOUNCE_BODY_MAX_OCTETS + 1])
    part = read(bounced(about))[2]
    assert part.get_content_type() == "text/rfc822-headers"
    kept = str(part.get_payload()).encode()
    assert len(kept) <= BOUNCE_BODY_MAX_OCTETS + 1
    whole = b"Return-Path: <me@domain.example>\n" + header
    assert whole.startswith(kept)
    assert kept == whole or whole[len(kept) : len(kept) + 1] not in (b" ", b"\t")
    assert b"Subject: x\n" in kept


def test_a_header_that_begins_in_the_middle_of_a_field_is_still_cut() -> None:
    content = b" " + b"y" * (BOUNCE_BODY_MAX_OCTETS + 1)
    assert read(bounced(replace(original(content), size=len(content) + 1)))[2].get_content_type()


ODD = (
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\u2028",
    "\x85",
    "é",
    "€",
    "x" * 1_200,
    "--",
    "=_" + MADE[0],
    ".0",
    "boundary",
    ":",
)
FIELDS = ("Remote host said: ", "550 5.1.1 ", "550-", "Final-Recipient: rfc822;evil@x", "Content-Type: text/html")
HOSTILE = st.text(max_size=300) | st.lists(st.sampled_from(ODD + FIELDS), max_size=30).map("".join)
XTEXT = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30).map(
    lambda text: "".join(f"+{ord(one):02X}" if one in "+= " else one for one in text)
)
ADDRESSES = st.text(max_size=60).map(lambda text: f"{text}@x.example").filter(acceptable)


@given(
    st.lists(st.tuples(HOSTILE, ADDRESSES, st.none() | XTEXT, st.sampled_from(list(Action))), min_size=1, max_size=3),
    XTEXT,
    st.binary(max_size=200),
)
def test_nothing_that_a_stranger_wrote_breaks_the_form(
    said: list[tuple[str, str, str | None, Action]], envid: str, body: bytes
) -> None:
    assert dsn.is_envid(envid) or len(envid) > ENVID_MAX_OCTETS
    fates = [Fate(who, action, report, f"rfc822;{orcpt}" if orcpt else "") for report, who, orcpt, action in said]
    message = bounced(replace(original(HEADER + b"\n" + body), envid=envid), *fates)
    text, machine, returned = read(message)
    assert [one.get_content_type() for one in (text, returned)] == ["text/plain", "message/rfc822"]
    found = groups(message)
    assert len(found) == 1 + len(fates)
    for group, fate in zip(found[1:], fates, strict=True):
        assert group["Action"] == fate.action
        assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", group["Status"])
        assert set(group) <= {"Original-Recipient", "Final-Recipient", "Action", "Status", "Diagnostic-Code"}
    raw = message.split(b"Content-Type: message/delivery-status\n\n")[1].split(f"\n--=_{MADE[0]}".encode())[0]
    fields = re.split(r"\n(?![ \t])", raw.decode("ascii").removesuffix("\n"))
    assert all(FIELD.match(field) or not field for field in fields), fields
    assert max(map(len, raw.split(b"\n"))) <= 998
    assert machine.as_string().isascii()
