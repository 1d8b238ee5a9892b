"""Mail handed in by the programs that everybody calls: what lies in the Maildir afterwards, to the octet."""

import os
import re
import subprocess

from tests.harness.stack import MAIL_NAME, ROOT, Stack
from tests.integration.conftest import house_of

DATE = rb"\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d -0000"


def run(stack: Stack, *words: str, message: bytes = b"") -> bytes:
    """Runs a program of bin/ with this on standard input; it must exit 0. What it says on standard output."""
    environment = {"PATH": os.environ["PATH"], "USER": "demo", "SEAPOST_STATE": str(stack.directory)}
    command = [str(ROOT / "bin" / words[0]), *words[1:]]
    return subprocess.run(
        command, input=message, stdout=subprocess.PIPE, env=environment, timeout=60, check=True
    ).stdout


def copies(stack: Stack, mark: bytes) -> list[bytes]:
    """Everything in demo's Maildir that has these octets, when the queue is empty."""
    stack.wait_idle()
    texts = (path.read_bytes() for path in sorted(house_of(stack).new_mail.iterdir()))
    return [text for text in texts if mark in text]


def test_a_line_to_qmail_inject_is_a_message(stack: Stack) -> None:
    """The tutorial's first test: nothing stands behind the header, not even an empty line."""
    run(stack, "qmail-inject", message=b"to: demo")
    (copy,) = copies(stack, b"\nto: ")
    name, uid = MAIL_NAME.encode(), os.getuid()
    pattern = (
        rb"Return-Path: <demo@%b>\nDelivered-To: demo@%b\n"
        rb"Received: \(qmail ([0-9a-v]{26}) invoked by uid %d\); " + DATE + rb"\n"
        rb"Date: " + DATE + rb"\nMessage-ID: <\d{14}\.\d+\.qmail@%b>\nFrom: demo@%b\nto: demo@%b\n"
    ) % (name, name, uid, name, name, name)
    assert re.fullmatch(pattern, copy), copy


def test_sendmail_takes_the_recipients_of_the_header(stack: Stack) -> None:
    run(stack, "sendmail", "-t", "-i", message=b"Bcc: demo\nTo: friend\nSubject: header\n\nhello\n.\nthere")
    (copy,) = copies(stack, b"\nSubject: header\n")
    assert b"Bcc" not in copy
    assert copy.endswith(b"\nTo: friend@%b\nSubject: header\n\nhello\n.\nthere\n" % MAIL_NAME.encode())


def test_sendmail_speaks_smtp_for_its_caller(stack: Stack) -> None:
    dialogue = (
        b"EHLO mua\r\nMAIL FROM:<joe@far.example>\r\nRCPT TO:<demo@%b>\r\nDATA\r\nSubject: spoken\r\n\r\n..\r\n.\r\n"
    )
    said = run(stack, "sendmail", "-bs", message=dialogue % MAIL_NAME.encode() + b"QUIT\r\n")
    (queued,) = re.findall(rb"\r\n250 ok \d+ qp ([0-9a-v]{26})\r\n221 ", said)
    (copy,) = copies(stack, b"\nSubject: spoken\n")
    received = b"\nReceived: (qmail %b invoked by uid %d); " % (queued, os.getuid())
    assert copy.startswith(b"Return-Path: <joe@far.example>\n")
    assert received in copy
    assert b"\nReceived: from localhost (HELO mua) (sendmail-bs@127.0.0.1)\n  by localhost with SMTP; " in copy
    assert copy.endswith(b"\n\n.\n")


def test_mailsubj_and_datemail_are_heard(stack: Stack) -> None:
    run(stack, "mailsubj", "a word", "demo", message=b"text\n")
    run(stack, "datemail", "-t", message=b"To: demo\nSubject: dated\n\ntext\n")
    assert len(copies(stack, b"\nSubject: a word\nTo: demo@%b\n\ntext\n" % MAIL_NAME.encode())) == 1
    assert len(copies(stack, b"\nSubject: dated\n")) == 1


def test_mailq_shows_what_waits(stack: Stack) -> None:
    stack.wait_idle()
    assert run(stack, "mailq") == b""
