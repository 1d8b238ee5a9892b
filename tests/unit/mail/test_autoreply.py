"""When a program may answer somebody's mail, and with what (RFC 3834)."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import fields
from mail.autoreply import SUBJECT_MAX_CHARACTERS, Arrival, Person, Stamp, addressed, answer, correspondent, why_not

JOE = Person(names=[b"joe", b"j.doe@work.example"], recipients=[b"joe-x@d.test", b"info@v.test"], host=b"d.test")
STAMP = Stamp(1_000_000_000, b"1.2.vacation@d.test")


def came(*header: bytes, sender: bytes = b"bob@far.example") -> Arrival:
    return Arrival(sender, [line + b"\n" for line in header])


@pytest.mark.parametrize(
    "header",
    [
        b"List-Id: <x.y>",
        b"List-Unsubscribe: <https://x>",
        b"LIST-HELP : x",
        b"Mailing-List: contact x@y; run by ezmlm",
        b"Precedence: bulk",
        b"precedence:  JUNK (really)",
        b"Precedence: list",
        b"Auto-Submitted: auto-replied",
        b"Auto-Submitted: auto-generated; owner-email=x@y",
        b"Auto-Submitted: (no) something",
        b"Auto-Submitted:",
        b"X-Auto-Response-Suppress: DR, OOF, AutoReply",
        b"X-Auto-Response-Suppress: All",
        b"X-Autoreply: yes",
        b"X-Spam-Flag: YES",
        b"Content-Type: multipart/report; report-type=delivery-status",
    ],
)
def test_what_a_program_or_a_list_sent_is_not_answered(header: bytes) -> None:
    assert why_not(came(b"Subject: x", header), JOE)


@pytest.mark.parametrize(
    "header",
    [
        b"Auto-Submitted: no",
        b"Auto-Submitted: (a person) No; x=y",
        b"Precedence: first-class",
        b"X-Auto-Response-Suppress: DR, RN",
        b"Content-Type: multipart/mixed",
        b"X-Spam-Flag: no",
        b"Subject: List-Id: x",
        b"Listed: x",
    ],
)
def test_what_a_person_sent_is_answered(header: bytes) -> None:
    assert why_not(came(header), JOE) == ""


@pytest.mark.parametrize(
    "sender",
    [
        b"",
        b"#@[]",
        b"list-return-@h.example-@[]",
        b"MAILER-DAEMON@h.example",
        b"Postmaster@h.example",
        b"owner-list@h.example",
        b"list-owner@h.example",
        b"List-Request@h.example",
        b"list-bounces@h.example",
        b"bounces+17-joe=d.test@h.example",
        b"list-return-17-joe=d.test@h.example",
        b"no-reply@h.example",
        b"joe",
        b"@h.example",
        b"joe@d.test",
        b"JOE-x@D.test",
        b"info@v.test",
        b"j.doe@work.example",
        b"prvs=2345abcdef=joe@d.test",
        b"prvs=2345abcdef=postmaster@h.example",
        b"bob\n@h.example",
        b"bob\0@h.example",
        b"bob\xff@h.example",
        b"b" * 900 + b"@h.example",
    ],
)
def test_these_senders_are_never_answered(sender: bytes) -> None:
    assert why_not(came(sender=sender), JOE)


def test_a_correspondent_is_the_same_tomorrow() -> None:
    assert correspondent(b"Bob@H.example") == b"bob@h.example"
    assert correspondent(b"prvs=1234abcdef=bob@h.example") == b"bob@h.example"
    assert correspondent(b"SRS0=x+Yz=4Q=h.example=bob@f.example") == b"srs0=h.example=bob@f.example"
    assert correspondent(b"prvs@h.example") == b"prvs@h.example"


@pytest.mark.parametrize("sender", [b"joe@elsewhere.example", b"owner@h.example", b"return@h.example", b"b@h.example"])
def test_people_are(sender: bytes) -> None:
    assert why_not(came(sender=sender), JOE) == ""


@pytest.mark.parametrize(
    ("header", "own"),
    [
        (b"To: joe@d.test", b"joe@d.test"),
        (b"Cc: x@y, Joe D <JOE@other.example>", b"JOE@other.example"),
        (b'To: "Doe, Joe" (at work) <j.doe@work.example>', b"j.doe@work.example"),
        (b"To: friends: ann@x,\n joe@d.test;", b"joe@d.test"),
        (b"Resent-To: joe-x@d.test", b"joe-x@d.test"),
        (b"To: info@v.test", b"info@v.test"),
        (b"To: joe", b"joe"),
        (b'To: "somebody <x@y>, joe@d.test', b"joe@d.test"),
        (b"To: Joe <ann@d.test>", b""),
        (b"To: joe-y@d.test", b""),
        (b"To: j.doe@d.test", b""),
        (b'To: "joe@d.test" <ann@d.test>', b""),
        (b"To: (joe@d.test) ann@d.test", b""),
        (b"Subject: joe@d.test", b""),
        (b"To: undisclosed-recipients:;", b""),
        (b"To:", b""),
        (b"From: joe@d.test", b""),
    ],
)
def test_the_person_must_be_among_those_it_is_addressed_to(header: bytes, own: bytes) -> None:
    assert addressed(came(header), JOE) == own


# -- the answer -------------------------------------------------------------------------------------------------------


def parts(message: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Fields by name, unfolded, and the body. Fails on a line in the header that is none."""
    head, body = fields.split(message.splitlines(keepends=True), len(message) + 1)
    names = [fields.name(field) for field in head]
    assert len(names) == len(set(names)), f"a field stands twice: {names}"
    text = b"".join(body)
    assert text.startswith(b"\n")
    assert message.endswith(text), "the header ended before its end"
    return {fields.name(field): fields.value(field).strip().replace(b"\n", b"") for field in head}, text[1:]


def answered(template: bytes, *header: bytes, sender: bytes = b"bob@far.example") -> tuple[dict[bytes, bytes], bytes]:
    return parts(answer(template, came(*header, sender=sender), b"joe@d.test", STAMP))


def test_an_answer_has_all_that_the_rfc_asks_for() -> None:
    message = (b"Subject: the plan", b"Message-ID: <c@x>", b"References: <a@x> <b@x>")
    head, body = answered(b"I am away.\n", *message)
    assert head == {
        b"from": b"joe@d.test",
        b"to": b"bob@far.example",
        b"subject": b"Auto: the plan",
        b"date": b"9 Sep 2001 01:46:40 -0000",
        b"message-id": b"<1.2.vacation@d.test>",
        b"in-reply-to": b"<c@x>",
        b"references": b"<a@x> <b@x> <c@x>",
        b"auto-submitted": b"auto-replied (vacation)",
        b"precedence": b"bulk",
    }
    assert body == b"I am away.\n"


def test_an_answer_is_never_answered() -> None:
    reply = answer(b"x\n", came(), b"joe@d.test", STAMP)
    head, _ = fields.split(reply.splitlines(keepends=True), 10_000)
    bob = Person([b"bob"], [b"bob@far.example"], b"far.example")
    assert why_not(Arrival(b"joe@d.test", head), bob)


def test_the_template_has_its_own_header_but_not_all_of_it() -> None:
    template = (
        b"From: Joe <joe@d.test>\r\nSubject: away: $SUBJECT\r\nTo: all@x\r\nBcc: spy@x\r\nAuto-Submitted: no\r\n"
        b"Reply-To: ann@d.test\r\nPrecedence: junk\r\n\r\nAbout $SUBJECT, or $SUBJECT: later.\r\n"
    )
    head, body = answered(template, b"Subject: lunch")
    assert head[b"from"] == b"Joe <joe@d.test>"
    assert (head[b"subject"], head[b"to"], head[b"precedence"]) == (b"away: lunch", b"bob@far.example", b"junk")
    assert (head[b"auto-submitted"], head[b"reply-to"]) == (b"auto-replied (vacation)", b"ann@d.test")
    assert b"bcc" not in head
    assert body == b"About lunch, or lunch: later.\n"


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        (b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=", "grüße"),
        (b"Subject: =?ISO-8859-1?B?Z3L832U=?=\n =?utf-8?Q?_an_alle?=", "grüße an alle"),
        (b"Subject: =?utf-8?B?bm90IGJhc2U2NA=?=", "=?utf-8?B?bm90IGJhc2U2NA=?="),
        (b"Subject: =?no-such-charset?Q?x?=", "=?no-such-charset?Q?x?="),
        (b"Subject: \xc3\xbcber", "über"),
        (b"Subject: \xff", "\N{REPLACEMENT CHARACTER}"),
        (b"Subject: =?utf-8?Q?a=0D=0ABcc:_x@y?=", "a Bcc: x@y"),
        (b"Subject: a\r\n\tb\x00\x1b[31mc", "a b [31mc"),
        (b"X: y", ""),
    ],
)
def test_the_subject_is_read_and_cannot_begin_a_line(subject: bytes, shown: str) -> None:
    head, body = answered(b"Subject: re $SUBJECT\n\n<$SUBJECT>\n", subject)
    assert body == f"<{shown}>\n".encode()
    assert b"bcc" not in head
    if not shown.isascii():
        assert head[b"content-type"] == b"text/plain; charset=utf-8"
        assert head[b"subject"].isascii()
        assert all(len(line) <= 76 for line in answer(b"x", came(subject), b"joe@d.test", STAMP).split(b"\n"))


def test_a_text_in_another_charset_is_left_alone() -> None:
    head, body = answered(b"Content-Type: text/plain; charset=iso-8859-1\n\n\xfcber $SUBJECT\n", "Subject: ß".encode())
    assert head[b"content-type"] == b"text/plain; charset=iso-8859-1"
    assert body == b"\xfcber ?\n"


@pytest.mark.parametrize(
    "header",
    [b"Message-ID: <a@b>\r\nBcc: x@y", b"Message-ID: <a b@c>", b"Message-ID: x@y", b"Message-ID: <\xff@y>", b"X: y"],
)
def test_a_message_id_that_is_none_is_not_repeated(header: bytes) -> None:
    head, _ = answered(b"x\n", header)
    assert set(head) <= {b"from", b"to", b"subject", b"date", b"message-id", b"auto-submitted", b"precedence"} | (
        {b"in-reply-to", b"references"} if b"<a@b>" in header else set()
    )
    assert head.get(b"in-reply-to", b"<a@b>") == b"<a@b>"


def test_a_long_thread_is_cut() -> None:
    before = b"References: " + b" ".join(b"<%d@x>" % one for one in range(1_000))
    head, _ = answered(b"x\n", before, b"Message-ID: <last@x>")
    assert head[b"references"].split() == [b"<%d@x>" % one for one in range(981, 1_000)] + [b"<last@x>"]


def test_what_is_too_long_is_cut_or_left_out() -> None:
    head, body = answered(b"$SUBJECT\n", b"Subject: " + b"x" * 5_000, b"Message-ID: <" + b"y" * 300 + b"@z>")
    assert len(head[b"subject"]) == SUBJECT_MAX_CHARACTERS
    assert len(body) == SUBJECT_MAX_CHARACTERS + 1
    assert b"in-reply-to" not in head


def test_an_odd_sender_is_quoted() -> None:
    assert answered(b"x\n", sender=b'a "b"@far.example')[0][b"to"] == b'"a \\"b\\""@far.example'


octets = st.binary(max_size=60) | st.sampled_from(
    [b"=?utf-8?B?DQo=?=", b"=?utf-7?Q?+AAoACg-?=", b"\r\n\r\n", b"$SUBJECT", b"<a@b>\n <c@d>", b"=?utf-8?q?=0a=0a?="]
)


@given(st.lists(octets, max_size=4), st.lists(octets, max_size=4), st.lists(octets, max_size=3))
def test_nothing_foreign_begins_a_line_of_the_header(
    subject: Sequence[bytes], ids: Sequence[bytes], template: Sequence[bytes]
) -> None:
    foreign = came(b"Subject: " + b"".join(subject), b"Message-ID: " + b"".join(ids), b"References: " + b" ".join(ids))
    own = re.sub(rb"[\r\n:]", b"", b"".join(template))
    message = answer(b"Subject: x " + own + b"\n\nbody\n", foreign, b"joe@d.test", STAMP)
    head, body = parts(message)
    assert body == b"body\n"
    known = {b"from", b"to", b"subject", b"date", b"message-id", b"auto-submitted", b"precedence"}
    assert set(head) - {b"in-reply-to", b"references"} == known
