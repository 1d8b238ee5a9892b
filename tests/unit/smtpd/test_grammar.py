"""The grammar of MAIL and RCPT: the corpora F10 and F11 of the fault list, and the shortcut against the grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.smtpd import grammar
from services.smtpd.grammar import Refused, Sender

LONG_LOCAL = "x" * 641

SENDERS = [
    ("FROM:<>", Sender("")),
    ("from:<a@b.example>", Sender("a@b.example")),
    ("FROM: <a@b.example>", Sender("a@b.example")),
    ("FROM:<a@b.example> SIZE=100", Sender("a@b.example", 100)),
    ("FROM:<a@b.example> size=100 body=8bitmime", Sender("a@b.example", 100)),
    ("FROM:<a@b.example> BODY=7BIT SIZE=7", Sender("a@b.example", 7)),
    ("FROM:<a@b.example>  SIZE=7", Sender("a@b.example", 7)),
    ("FROM:<a@b.example> SIZE=9223372036854775808", Sender("a@b.example", 2**63)),
    ("FROM:<a@localhost>", Sender("a@localhost")),
    ("FROM:<a=b+c@d_e.example>", Sender("a=b+c@d_e.example")),
    (f"FROM:<{LONG_LOCAL}@b.example>", Sender(f"{LONG_LOCAL}@b.example")),
    ('FROM:<"a b"@c.example>', Sender("a b@c.example")),
    ('FROM:<"a>b"@c.example>', Sender("a>b@c.example")),
    (r'FROM:<"a\"b\\c"@d.example>', Sender(r'a"b\c@d.example')),
    ("FROM:<@r1.example,@r2.example:x@h.example>", Sender("x@h.example")),
    ("FROM:<a@[192.0.2.1]>", Sender("a@[192.0.2.1]")),
    ("FROM:<a@[IPv6:2001:db8::1]>", Sender("a@[IPv6:2001:db8::1]")),
    # things that look like commands are addresses, and nothing more (CVE-2020-7247, Shellshock)
    ("FROM:<|cmd@x.example>", Sender("|cmd@x.example")),
    ("FROM:</etc/passwd@x.example>", Sender("/etc/passwd@x.example")),
    ("FROM:<-froot@x.example>", Sender("-froot@x.example")),
    ("FROM:<a!b!c@x.example>", Sender("a!b!c@x.example")),
    ("FROM:<a%b@x.example>", Sender("a%b@x.example")),
    ('FROM:<"() { :;}; cmd"@x.example>', Sender("() { :;}; cmd@x.example")),
]

BAD_SENDERS = [
    ("", "501 5.5.4"),
    ("FROM", "501 5.5.4"),
    ("FROM:", "501 5.5.4"),
    ("FROM:a@b.example", "501 5.5.4"),
    ("FROM a@b.example", "501 5.5.4"),
    ("TO:<a@b.example>", "501 5.5.4"),
    ("FROM:<a@b.example", "501 5.5.4"),
    ("FROM:<a@b.example>SIZE=1", "501 5.5.4"),
    ('FROM:<"a@b.example>', "501 5.5.4"),
    ("FROM:<;cmd;>", "553 5.1.7"),
    ("FROM:<() { :;}; cmd>", "553 5.1.7"),
    ("FROM:<|cmd>", "553 5.1.7"),
    ("FROM:<|touch file@x.example>", "553 5.1.7"),
    ("FROM:</file>", "553 5.1.7"),
    ("FROM:<-froot>", "553 5.1.7"),
    ("FROM:<root>", "553 5.1.7"),
    ("FROM:<a@b@c.example>", "553 5.1.7"),
    ("FROM:<@>", "553 5.1.7"),
    ("FROM:<@b.example>", "553 5.1.7"),
    ("FROM:<a@>", "553 5.1.7"),
    ('FROM:<""@b.example>', "553 5.1.7"),
    ('FROM:<"a"b@c.example>', "553 5.1.7"),
    ("FROM:<a b@c.example>", "553 5.1.7"),
    ("FROM:<.a@b.example>", "553 5.1.7"),
    ("FROM:<a.@b.example>", "553 5.1.7"),
    ("FROM:<a..b@c.example>", "553 5.1.7"),
    ("FROM:<a@b..example>", "553 5.1.7"),
    ("FROM:<a@b.example.>", "553 5.1.7"),
    ("FROM:<a@-b.example>", "553 5.1.7"),
    ("FROM:<a@[300.1.1.1]>", "553 5.1.7"),
    ("FROM:<a@[IPv6:1.2.3.4]>", "553 5.1.7"),
    ("FROM:<a@[1.2.3.4>", "553 5.1.7"),
    ("FROM:<a\tb@c.example>", "553 5.1.7"),
    ("FROM:<a\x7fb@c.example>", "553 5.1.7"),
    ('FROM:<"a\tb"@c.example>', "553 5.1.7"),
    (f"FROM:<a@{'b' * 64}.example>", "553 5.1.7"),
    (f"FROM:<a@{'b.' * 128}example>", "553 5.1.7"),
    (f"FROM:<{'x' * 901}@b.example>", "553 5.1.7"),
    ("FROM:<grün@b.example>", "553 5.6.7"),
    ("FROM:<a@grün.example>", "553 5.6.7"),
    ("FROM:<\udcff@b.example>", "553 5.6.7"),
    ("FROM:<grün@b.example> SMTPUTF8", "553 5.6.7"),
    ("FROM:<a@b.example> SMTPUTF8", "555 5.5.4"),
    ("FROM:<a@b.example> AUTH=<>", "555 5.5.4"),
    ("FROM:<a@b.example> AUTH=a+0Ab", "555 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+0Ay", "555 5.5.4"),
    ("FROM:<a@b.example> RET=FULL", "555 5.5.4"),
    ("FROM:<a@b.example> SIZE=1 SIZE=1", "501 5.5.4"),
    ("FROM:<a@b.example> SIZE", "501 5.5.4"),
    ("FROM:<a@b.example> SIZE=", "501 5.5.4"),
    ("FROM:<a@b.example> SIZE=-1", "501 5.5.4"),
    ("FROM:<a@b.example> SIZE=1e3", "501 5.5.4"),
    (f"FROM:<a@b.example> SIZE={'9' * 21}", "501 5.5.4"),
    ("FROM:<a@b.example> SIZE=٣", "501 5.5.4"),
    ("FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
    ("FROM:<a@b.example> BODY", "501 5.5.4"),
    ("FROM:<a@b.example> =1", "501 5.5.4"),
    ("FROM:<a@b.example> X=a\x00b", "501 5.5.4"),
    ("FROM:<a@b.example> " + "X=" + "y" * 65_536, "555 5.5.4"),
]

RECIPIENTS = [
    ("TO:<a@b.example>", "a@b.example"),
    ("to: <a@b.example>", "a@b.example"),
    ("TO:<Postmaster>", "Postmaster"),
    ("TO:<@relay.example:a@b.example>", "a@b.example"),
    ('TO:<"a@b.example"@c.example>', "a@b.example@c.example"),
    ('TO:<"a"@c.example>', "a@c.example"),
]

BAD_RECIPIENTS = [
    ("TO:<>", "501 5.5.4"),
    ("TO:a@b.example", "501 5.5.4"),
    ("FROM:<a@b.example>", "501 5.5.4"),
    ("TO:<a>", "553 5.1.3"),
    ("TO:<a@b.example> ORCPT=rfc822;a+0A@b", "555 5.5.4"),
    ("TO:<a@b.example> NOTIFY=NEVER", "555 5.5.4"),
    ("TO:<grün@b.example>", "553 5.6.7"),
]


@pytest.mark.parametrize(("argument", "expected"), SENDERS)
def test_mail_takes(argument: str, expected: Sender) -> None:
    assert grammar.mail(argument) == expected


@pytest.mark.parametrize(("argument", "reply"), BAD_SENDERS)
def test_mail_refuses(argument: str, reply: str) -> None:
    refused = grammar.mail(argument)
    assert isinstance(refused, Refused)
    assert refused.reply.startswith(reply)


@pytest.mark.parametrize(("argument", "expected"), RECIPIENTS)
def test_rcpt_takes(argument: str, expected: str) -> None:
    assert grammar.rcpt(argument) == expected


@pytest.mark.parametrize(("argument", "reply"), BAD_RECIPIENTS)
def test_rcpt_refuses(argument: str, reply: str) -> None:
    refused = grammar.rcpt(argument)
    assert isinstance(refused, Refused)
    assert refused.reply.startswith(reply)


@pytest.mark.parametrize("argument", [argument for argument, _ in [*SENDERS, *BAD_SENDERS]])
def test_the_shortcut_for_mail_says_what_the_grammar_says(argument: str) -> None:
    assert grammar.mail(argument) == grammar.mail_in_full(argument)


@given(st.text(alphabet='ab.@<> "\\-_[]1:,=SIZEBODY', max_size=40), st.sampled_from(["FROM:<", "TO:<", "FROM:", "TO:"]))
def test_the_shortcuts_say_what_the_grammar_says_of_anything(text: str, keyword: str) -> None:
    for argument in (keyword + text, keyword + text + ">"):
        assert grammar.mail(argument) == grammar.mail_in_full(argument)
        assert grammar.rcpt(argument) == grammar.rcpt_in_full(argument)


@given(st.text(max_size=60))
def test_no_address_holds_a_control_character_or_a_byte_beyond_ascii(text: str) -> None:
    for taken in (grammar.mail(f"FROM:<{text}>"), grammar.rcpt(f"TO:<{text}>")):
        address = taken.address if isinstance(taken, Sender) else taken
        if isinstance(address, str):
            assert address.isascii()
            assert address.isprintable() or address == ""
