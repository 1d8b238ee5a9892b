"""One message's walk, as anybody outside sees it: in by SMTP, into a Maildir, out by POP3, on to another host.

The checks know ports, a password and the operator's command, not what runs behind them: processes and containers are
held to the same.
"""

import poplib
import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SENDER = "somebody@sender.example"
_TALK_S = 60.0
_IDLE_S = 60
_REPLY = re.compile(r"2\.0\.0 ok (\d+) qp ([0-9a-v]{26})\Z")
# 8-bit octets, a line that begins with a dot, one of dots only, one longer than the 998 of SMTP, trailing blanks.
ODD_BODY = b".a dot\r\n..\r\n\xc3\xa9t\xe9 \xff\r\n" + b"x" * 1_500 + b"\r\n\r\ntrailing \t\r\n\r\n"


@dataclass(frozen=True, slots=True)
class House:
    """A running stack with one account. `new_mail` is the account's new/; `seapost` runs the operator's command."""

    smtp_port: int
    pop3_port: int
    account: str
    password: str
    domain: str
    new_mail: Path
    seapost: Callable[..., str]

    @property
    def address(self) -> str:
        return f"{self.account}@{self.domain}"

    def wait_idle(self) -> None:
        self.seapost("queue", "wait-idle", "--timeout", str(_IDLE_S))

    @contextmanager
    def smtp(self) -> Iterator[smtplib.SMTP]:
        """A connection that has said EHLO."""
        with smtplib.SMTP("127.0.0.1", self.smtp_port, "client.example", timeout=_TALK_S) as client:
            client.ehlo()
            yield client

    @contextmanager
    def pop3(self) -> Iterator[poplib.POP3]:
        """A connection that has logged in; QUIT at the end of the block."""
        client = poplib.POP3("127.0.0.1", self.pop3_port, timeout=_TALK_S)
        client.user(self.account)
        client.pass_(self.password)
        yield client
        client.quit()

    def send(self, text: bytes, *recipients: str, sender: str = SENDER) -> str:
        """Hands in a message (CRLF line ends) for these, or for the account; returns the id in the 250 reply."""
        with self.smtp() as client:
            code, said = client.mail(sender)
            assert code == 250, said
            for recipient in recipients or (self.address,):
                code, said = client.rcpt(recipient)
                assert code == 250, said
            code, said = client.data(text)
        found = _REPLY.match(said.decode())
        assert code == 250, said
        assert found, said
        return found[2]

    def copies(self, message: str, recipient: int = 0) -> list[Path]:
        """The files in new/ of the message with that id."""
        return [path for path in self.new_mail.glob("*") if f".Q{message}R{recipient}I0." in path.name]


def mail(subject: str, body: bytes = b"text\r\n") -> bytes:
    return f"Subject: {subject}\r\n\r\n".encode() + body


def check_every_octet_arrives(house: House) -> None:
    """The file in new/ is what was sent, byte for byte, below the three lines that a mail server adds."""
    text = mail("octets", ODD_BODY)
    message = house.send(text)
    house.wait_idle()
    (copy,) = house.copies(message)
    content = copy.read_bytes()
    head = f"Return-Path: <{SENDER}>\nDelivered-To: {house.address}\nReceived: from client.example ("
    assert content.startswith(head.encode()), content[:400]
    assert content.endswith(text.replace(b"\r\n", b"\n"))
    added = content.removesuffix(text.replace(b"\r\n", b"\n")).decode()
    received = re.compile(
        rf"Received: from client\.example \(\[[\da-f.:]+\]\)\n"
        rf"  by {re.escape(house.domain)} with ESMTP id {message}; \d\d? \w{{3}} \d{{4}} \d\d:\d\d:\d\d -0000\n\Z"
    )
    assert received.search(added), added


def check_pop3_hands_out_what_lies_in_the_maildir(house: House) -> None:
    """RETR gives the file, DELE and QUIT remove it."""
    message = house.send(mail("out again", ODD_BODY))
    house.wait_idle()
    (copy,) = house.copies(message)
    expected = copy.read_bytes()
    with house.pop3() as client:
        number = next(int(line.split()[0]) for line in client.uidl()[1] if message.encode() in line)
        lines = client.retr(number)[1]
        client.dele(number)
    assert b"".join(line + b"\n" for line in lines) == expected
    assert not house.copies(message)
    with house.pop3() as client:
        assert not [line for line in client.uidl()[1] if message.encode() in line]


def check_one_id_leads_from_the_reply_to_the_maildir(house: House) -> None:
    """The id in the 250 reply is in the file's name, in its Received line, and in every event."""
    message = house.send(mail("one id"))
    house.wait_idle()
    (copy,) = house.copies(message)
    assert re.fullmatch(rf"\d+\.Q{message}R0I0\.[\w-]{{1,16}}", copy.name)
    assert f"id {message};".encode() in copy.read_bytes()
    traced = house.seapost("trace", message)
    for event in ("accepted", "new msg", "info msg", "starting delivery", "published", "success", "end msg"):
        assert event in traced, traced


def check_mail_for_nobody_is_refused_at_rcpt(house: House) -> None:
    with house.smtp() as client:
        client.mail(SENDER)
        code, said = client.rcpt(f"nobody@{house.domain}")
    assert (code, said[:5]) == (550, b"5.1.1"), said
