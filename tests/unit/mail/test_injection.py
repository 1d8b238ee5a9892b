"""What qmail-inject makes of a header. The expected octets are those of compiled qmail; more are in tests/cases."""

import pytest

from mail.injection import Author, Injection
from mail.qualify import Qualification
from mail.rfc822 import Unparsable

NAMES = {"defaulthost": b"host1", "defaultdomain": b"example.org", "plusdomain": b"plus.net"}
STAMPS = (
    b"Date: 22 Nov 2026 12:37:09 -0000\n"
    b"Message-ID: <20261122123709.7.qmail@id.test>\n"
    b"From: anonymous@host1.example.org\n"
)


def author(**said: object) -> Author:
    who = Author(Qualification(NAMES), 1_795_351_029, 7, b"id.test")
    for name, value in said.items():
        setattr(who, name, value)
    return who


def injected(header: bytes, who: Author | None = None) -> Injection:
    injection = Injection(who or author())
    for field in header.splitlines(keepends=True):
        injection.field(field)
    return injection


def test_what_is_missing_stands_first_and_what_was_given_keeps_its_order_and_spelling() -> None:
    injection = injected(b"X-First : 1\nto: ann\nsubject: x\n")
    assert injection.head() == STAMPS + b"X-First : 1\nto: ann@host1.example.org\nsubject: x\n"
    assert injection.recipients() == [b"ann@host1.example.org"]
    assert injection.sender() == b"anonymous@host1.example.org"


def test_a_message_to_nobody_visible_says_so() -> None:
    injection = injected(b"Bcc: ann\nSubject: x\n")
    assert injection.head() == STAMPS + b"Cc: recipient list not shown: ;\nSubject: x\n"
    assert injection.recipients() == [b"ann@host1.example.org"]


def test_fields_that_are_always_deleted() -> None:
    head = injected(b"To: a\nBcc: b\nResent-Bcc: c\nReturn-Path: <d>\nContent-Length: 5\nX: y\n").head()
    assert head.endswith(b"\nTo: a@host1.example.org\nX: y\n")


def test_a_resent_message_is_stamped_anew_and_goes_to_its_resent_recipients() -> None:
    injection = injected(b"To: old\nResent-Bcc: new\nDate: then\n")
    assert injection.recipients() == [b"new@host1.example.org"]
    assert injection.head() == (
        STAMPS.replace(b"Date", b"Resent-Date").replace(b"Message", b"Resent-Message").replace(b"From", b"Resent-From")
        + b"Resent-Cc: recipient list not shown: ;\nTo: old@host1.example.org\nDate: then\n"
    )


def test_a_return_path_is_the_sender_and_the_last_address_of_the_first_one_counts() -> None:
    injection = injected(b"Return-Path: <a@x>, <b@y>\nReturn-Path: <c@z>\nTo: d\n")
    assert injection.sender() == b"b@y.example.org"
    assert injected(b"Return-Path: <>\nTo: d\n").sender() == b""
    assert injected(b"Return-Path: <a@x>\n", author(letters=b"s")).sender() == b"anonymous@host1.example.org"
    assert injected(b"Return-Path: <a@x>\n", author(sender=b"f@g.h")).sender() == b"f@g.h"


@pytest.mark.parametrize(
    ("letters", "sender"),
    [
        (b"", b"joe@h.example.org"),
        (b"r", b"joe-@h.example.org-@[]"),
        (b"m", b"joe-1795351029.7@h.example.org"),
        (b"mr", b"joe-1795351029.7-@h.example.org-@[]"),
    ],
)
def test_a_sender_that_tells_bounces_apart(letters: bytes, sender: bytes) -> None:
    assert injected(b"To: a\n", author(letters=letters, user=b"joe", host=b"h")).sender() == sender


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"user": b"joe", "name": b"Joe S."}, b'From: "Joe S." <joe@host1.example.org>\n'),
        ({"user": b"joe", "name": b"Joe (S.)", "letters": b"c"}, b"From: joe@host1.example.org (Joe \\(S.\\))\n"),
        ({"user": b"joe s", "host": b"h.k"}, b'From: "joe s"@h.k\n'),
        ({"user": b"joe", "name": b""}, b'From: "" <joe@host1.example.org>\n'),
    ],
)
def test_the_author_is_named_in_the_from_field(said: dict[str, bytes], field: bytes) -> None:
    assert field in injected(b"To: a\n", author(**said)).head()


def test_letters_delete_fields_that_are_made_anew() -> None:
    head = injected(b"From: x\nMessage-Id: <y>\nTo: a\n", author(letters=b"fi")).head()
    assert head == STAMPS + b"To: a@host1.example.org\n"


def test_a_bounce_goes_to_another_address_when_the_environment_says_so() -> None:
    who = author(user=b"joe", host=b"h", bounce_user=b"list owner", bounce_host=b"l.k")
    assert injected(b"To: a\n", who).sender() == b"list owner@l.k"


def test_answers_go_to_everybody_when_a_list_is_among_them() -> None:
    lists = frozenset((b"list@l.org",))
    injection = injected(b"To: LIST@L.org, a\nCc: b c@d\n", author(lists=lists))
    assert (
        b"Mail-Followup-To: b@host1.example.org,\n  c@d.example.org,\n  LIST@L.org,\n  a@host1.example.org\n"
    ) in injection.head()
    assert b"Followup" not in injected(b"To: a\n", author(lists=lists)).head()
    assert injected(b"To: list@l.org\nMail-Followup-To: me\n", author(lists=lists)).head().count(b"Followup") == 1


def test_a_senders_field_that_cannot_be_read_ends_it() -> None:
    with pytest.raises(Unparsable) as unparsable:
        injected(b"From: a (b\n")
    assert unparsable.value.args == (b"From: a (b\n",)


def test_a_recipients_field_that_cannot_be_read_stays_and_counts_up_to_where_it_breaks() -> None:
    injection = injected(b"To: a, b: c, d\nCc: e (f\n")
    assert injection.head() == STAMPS + b"To: a, b: c, d\nCc: e (f\n"
    assert injection.recipients() == [b"d@host1.example.org", b"c@host1.example.org"]


def test_an_address_ends_at_a_nul() -> None:
    assert injected(b'To: "a\0b"@h\n').recipients() == [b"a"]
