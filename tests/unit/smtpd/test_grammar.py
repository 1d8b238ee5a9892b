"""The grammar of MAIL and RCPT: the corpora F10 and F11 of the fault list, and the shortcut against the grammar."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail import dsn
from mail.dsn import DELAY, FAILURE, NEVER, SUCCESS, Wish
from services.smtpd import grammar
from services.smtpd.grammar import Recipient, Refused, Sender

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
    # RFC 3461 4.3, 4.4
    ("FROM:<a@b.example> RET=FULL", Sender("a@b.example", 0, "FULL")),
    ("FROM:<> ret=hdrs envid=QQ314159", Sender("", 0, "HDRS", "QQ314159")),
    ("FROM:<a@b.example> ENVID=a+2Bb+3Dc+20d+7E SIZE=7", Sender("a@b.example", 7, "", "a+2Bb+3Dc+20d+7E")),
    (f"FROM:<a@b.example> ENVID={'x' * 100}", Sender("a@b.example", 0, "", "x" * 100)),
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
    ("FROM:<a@b.example> ENVID=x+0Ay", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+0D+0Ay", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+00", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+7F", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+E4", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+2b", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=x+2", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=a=b", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=ä", "501 5.5.4"),
    (f"FROM:<a@b.example> ENVID={'x' * 101}", "501 5.5.4"),
    (f"FROM:<a@b.example> ENVID={'x' * 65_536}", "501 5.5.4"),
    ("FROM:<a@b.example> ENVID=1 ENVID=1", "501 5.5.4"),
    ("FROM:<a@b.example> RET=FULL RET=HDRS", "501 5.5.4"),
    ("FROM:<a@b.example> RET=BODY", "501 5.5.4"),
    ("FROM:<a@b.example> RET=FULL,HDRS", "501 5.5.4"),
    ("FROM:<a@b.example> RET", "501 5.5.4"),
    ("FROM:<a@b.example> NOTIFY=NEVER", "555 5.5.4"),
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
    ("TO:<a@b.example>", Recipient("a@b.example")),
    ("to: <a@b.example>", Recipient("a@b.example")),
    ("TO:<Postmaster>", Recipient("Postmaster")),
    ("TO:<@relay.example:a@b.example>", Recipient("a@b.example")),
    ('TO:<"a@b.example"@c.example>', Recipient("a@b.example@c.example")),
    ('TO:<"a"@c.example>', Recipient("a@c.example")),
    # RFC 3461 4.1, 4.2
    ("TO:<a@b.example> NOTIFY=NEVER", Recipient("a@b.example", Wish(NEVER))),
    ("TO:<a@b.example> notify=success", Recipient("a@b.example", Wish(SUCCESS))),
    ("TO:<a@b.example> NOTIFY=FAILURE,DELAY", Recipient("a@b.example", Wish(FAILURE | DELAY))),
    ("TO:<a@b.example> NOTIFY=DELAY,SUCCESS,FAILURE", Recipient("a@b.example", Wish(SUCCESS | FAILURE | DELAY))),
    (
        "TO:<a@b.example> ORCPT=rfc822;Bob@Ivory.EXAMPLE NOTIFY=SUCCESS",
        Recipient("a@b.example", Wish(SUCCESS, "rfc822;Bob@Ivory.EXAMPLE")),
    ),
    ("TO:<Postmaster> ORCPT=rfc822;a+20b+40c", Recipient("Postmaster", Wish(0, "rfc822;a+20b+40c"))),
    (r"TO:<a@b.example> ORCPT=utf-8;j\x{F6}rg@x", Recipient("a@b.example", Wish(0, r"utf-8;j\x{F6}rg@x"))),
    (f"TO:<a@b.example> ORCPT=x;{'y' * 498}", Recipient("a@b.example", Wish(0, f"x;{'y' * 498}"))),
]

BAD_RECIPIENTS = [
    ("TO:<>", "501 5.5.4"),
    ("TO:a@b.example", "501 5.5.4"),
    ("FROM:<a@b.example>", "501 5.5.4"),
    ("TO:<a>", "553 5.1.3"),
    # an encoded line end is the first half of CVE-2020-28026
    ("TO:<a@b.example> ORCPT=rfc822;a+0A@b", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=rfc822;a+0D+0AX-Header:+20b", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=rfc822;a+00b", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=rfc822;", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=;a@b.example", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=a@b.example", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=rfc+38;a@b.example", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=rfc822;a+4g", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=rfc822;a\tb", "501 5.5.4"),
    (f"TO:<a@b.example> ORCPT=x;{'y' * 499}", "501 5.5.4"),
    (f"TO:<a@b.example> ORCPT=x;{'y' * 65_536}", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT=x;y ORCPT=x;y", "501 5.5.4"),
    ("TO:<a@b.example> ORCPT", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=NEVER,FAILURE", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=SUCCESS,SUCCESS", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=SUCCESS,", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=,", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=ALWAYS", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY", "501 5.5.4"),
    ("TO:<a@b.example> NOTIFY=NEVER NOTIFY=NEVER", "501 5.5.4"),
    ("TO:<a@b.example> RET=FULL", "555 5.5.4"),
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
def test_rcpt_takes(argument: str, expected: Recipient) -> None:
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
        if not isinstance(taken, Refused):
            assert taken.address.isascii()
            assert taken.address.isprintable() or taken.address == ""


@given(st.text(alphabet="+0123456789ABCDEFabcdefxyz;=@ \r\n\0é", max_size=30) | st.text(max_size=30))
def test_no_parameter_decodes_to_a_line_end(text: str) -> None:
    sender = grammar.mail(f"FROM:<a@b.example> ENVID={text}")
    recipient = grammar.rcpt(f"TO:<a@b.example> ORCPT=rfc822;{text}")
    said = [sender.envid] if isinstance(sender, Sender) else []
    said += [recipient.wish.orcpt] if isinstance(recipient, Recipient) else []
    for one in said:
        assert one.isascii()
        assert one.isprintable()
        assert dsn.decode_xtext(one).isascii()
        assert dsn.decode_xtext(one).isprintable()
