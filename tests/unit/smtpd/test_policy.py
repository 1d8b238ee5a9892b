"""Who may connect, which recipient is taken: one row a rule."""

from dataclasses import replace

import pytest

from services.smtpd import policy, tcprules
from services.smtpd.policy import Client, Rules, Verdict

RULES = Rules(
    me="mail.example.test",
    greeting="mail.example.test",
    localiphost="here.example.test",
    rcpthosts=frozenset({"example.test", ".sub.test"}),
    badmailfrom=frozenset({"bad@example.test", "@spam.test"}),
    databytes=1_000,
    timeout_s=1_200,
    connections=10,
    connections_per_ip=5,
    peers=tcprules.parse(
        '127.:allow,RELAYCLIENT=""\n10.0.0.1:allow,DATABYTES="0"\n10.0.0.2:allow,DATABYTES="7"\n9.:deny'
    ),
)
NO_FILE = replace(RULES, rcpthosts=None)
EMPTY = replace(RULES, rcpthosts=frozenset[str]())
STRANGER = Client("192.0.2.1", None, 1_000)
FRIEND = Client("127.0.0.1", "", 1_000)


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", Client("127.0.0.1", "", 1_000)),
        ("192.0.2.1", Client("192.0.2.1", None, 1_000)),
        ("10.0.0.1", Client("10.0.0.1", None, 64 * 1024 * 1024)),
        ("10.0.0.2", Client("10.0.0.2", None, 7)),
        ("9.9.9.9", None),
    ],
)
def test_tcp_smtp_decides_at_connect(ip: str, expected: Client | None) -> None:
    assert policy.greet(RULES, ip) == expected


def test_no_file_promises_more_than_the_queue_takes() -> None:
    client = policy.greet(replace(RULES, databytes=10**12), "192.0.2.1")
    assert client == Client("192.0.2.1", None, 64 * 1024 * 1024)


@pytest.mark.parametrize(
    ("rules", "client", "sender", "recipient", "expected"),
    [
        (RULES, STRANGER, "a@b.test", "x@example.test", None),
        (RULES, STRANGER, "a@b.test", "x@EXAMPLE.test", None),
        (RULES, STRANGER, "a@b.test", "x@deep.er.sub.test", None),
        (RULES, STRANGER, "a@b.test", "x@sub.test", policy.NOT_HERE),
        (RULES, STRANGER, "a@b.test", "x@other.example.test", policy.NOT_HERE),
        (RULES, STRANGER, "a@b.test", "x@notexample.test", policy.NOT_HERE),
        (RULES, STRANGER, "a@b.test", "x@example.test.", policy.NOT_HERE),
        (RULES, STRANGER, "a@b.test", "x@example.test@far.test", policy.NOT_HERE),
        (RULES, STRANGER, "a@b.test", "x@[127.0.0.1]", policy.NOT_HERE),
        (RULES, STRANGER, "a@b.test", "far.test!x", None),  # no domain: ours, and the keeper says nobody
        (RULES, STRANGER, "a@b.test", "postmaster", None),
        (RULES, FRIEND, "a@b.test", "x@far.test", None),
        (EMPTY, STRANGER, "a@b.test", "x@example.test", policy.NOT_HERE),
        (NO_FILE, STRANGER, "a@b.test", "x@far.test", None),  # the keeper decides, see below
        (RULES, STRANGER, "bad@example.test", "x@example.test", policy.BAD_SENDER),
        (RULES, STRANGER, "BAD@Example.test", "x@example.test", policy.BAD_SENDER),
        (RULES, FRIEND, "any@SPAM.test", "x@far.test", policy.BAD_SENDER),
        (RULES, STRANGER, "any@a.spam.test", "x@example.test", None),
        (RULES, STRANGER, "", "x@example.test", None),
        (RULES, STRANGER, "bad@example.test", "x@far.test", policy.BAD_SENDER),
        (RULES, STRANGER, "a@b.test", f"{'x' * 900}@example.test", policy.TOO_LONG),
    ],
)
def test_a_recipient_before_the_keeper_is_asked(
    rules: Rules, client: Client, sender: str, recipient: str, expected: str | None
) -> None:
    assert policy.refuse_recipient(rules, client, sender, recipient, 0) == expected


def test_the_thousand_and_first_recipient_waits_for_another_message() -> None:
    assert policy.refuse_recipient(RULES, FRIEND, "", "x@example.test", 999) is None
    assert policy.refuse_recipient(RULES, FRIEND, "", "x@example.test", 1_000) == policy.TOO_MANY


@pytest.mark.parametrize(
    ("rules", "client", "verdict", "expected"),
    [
        (RULES, STRANGER, Verdict.DELIVERABLE, None),
        (RULES, STRANGER, Verdict.NOBODY, policy.NOBODY),
        (RULES, STRANGER, Verdict.UNSURE, policy.UNSURE),
        (RULES, STRANGER, Verdict.ELSEWHERE, None),  # in rcpthosts and not local: we are its backup
        (RULES, FRIEND, Verdict.ELSEWHERE, None),
        (RULES, FRIEND, Verdict.NOBODY, policy.NOBODY),
        (RULES, FRIEND, Verdict.UNSURE, policy.UNSURE),
        (NO_FILE, STRANGER, Verdict.DELIVERABLE, None),
        (NO_FILE, STRANGER, Verdict.ELSEWHERE, policy.NOT_HERE),  # no rcpthosts is no open relay
        (NO_FILE, STRANGER, Verdict.UNSURE, policy.UNSURE),
        (NO_FILE, FRIEND, Verdict.ELSEWHERE, None),
    ],
)
def test_what_the_keeper_says_decides(rules: Rules, client: Client, verdict: Verdict, expected: str | None) -> None:
    assert policy.refuse_verdict(rules, client, verdict) == expected


def test_the_value_of_relayclient_is_appended() -> None:
    fixing = Client("127.0.0.1", "@fixme", 0)
    assert policy.addressed(RULES, fixing, "x@far.test", "127.0.0.1") == "x@far.test@fixme"
    assert policy.addressed(RULES, FRIEND, "x@far.test", "127.0.0.1") == "x@far.test"


def test_our_own_address_literal_has_a_name_and_no_other_has() -> None:
    assert policy.addressed(RULES, STRANGER, "x@[192.0.2.25]", "192.0.2.25") == "x@here.example.test"
    assert policy.addressed(RULES, STRANGER, "x@[IPv6:2001:DB8::1]", "2001:db8::1") == "x@here.example.test"
    assert policy.addressed(RULES, STRANGER, "x@[192.0.2.26]", "192.0.2.25") == "x@[192.0.2.26]"


def test_a_declared_size_beyond_the_limit_is_refused_at_mail() -> None:
    assert policy.refuse_sender(STRANGER, 1_000, True) is None
    assert policy.refuse_sender(STRANGER, 1_001, True) == policy.TOO_BIG
    assert policy.refuse_sender(STRANGER, 2**63, True) == policy.TOO_BIG
    assert policy.refuse_sender(STRANGER, 0, False) == policy.NO_QUEUE


@pytest.mark.parametrize("text", ["", "250 ok", "451 a\r\n250 ok", "552 ü", "200"])
def test_a_strange_text_is_no_reply(text: str) -> None:
    assert not policy.is_reply(text)
    assert policy.is_reply("451 4.3.0 later")
