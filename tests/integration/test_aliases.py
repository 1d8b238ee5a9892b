"""sendmail's aliases from the table to the mailboxes: newaliases, and fastforward in `~alias/.qmail-default`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.stack import MAIL_NAME, ROOT, Stack
from tests.integration.conftest import house_of

TABLE = """# who reads what
staff: demo, "|cat > /dev/null; echo a program ran",
  more
more: :include:{folder}/others
owner-staff: demo
"""


def run(stack: Stack, *words: str, message: bytes = b"") -> None:
    environment = {"PATH": os.environ["PATH"], "USER": "demo", "SEAPOST_STATE": str(stack.directory)}
    subprocess.run([str(ROOT / "bin" / words[0]), *words[1:]], input=message, env=environment, timeout=60, check=True)


@pytest.fixture
def aliases(stack: Stack) -> Iterator[Path]:
    """The alias account's folder with a table that is compiled and obeyed."""
    folder = stack.directory / "alias"
    (folder / "aliases").write_text(TABLE.format(folder=folder))
    (folder / "others").write_text("friend\n")
    run(stack, "newinclude", str(folder / "others"))
    run(stack, "newaliases", str(folder / "aliases"))
    (folder / ".qmail-default").write_text("|fastforward -d aliases.cdb\n")
    yield folder
    (folder / ".qmail-default").unlink()


def arrived(stack: Stack, account: str, mark: bytes) -> list[bytes]:
    """Everything in the account's Maildir that has these octets, when the queue is empty."""
    stack.wait_idle()
    texts = (path.read_bytes() for path in sorted(house_of(stack, account).new_mail.iterdir()))
    return [text for text in texts if mark in text]


def test_mail_to_an_alias_arrives_at_everybody_behind_it(stack: Stack, aliases: Path) -> None:
    since = stack.mark()
    run(stack, "qmail-inject", message=b"To: Staff\nSubject: to staff\n\nhello\n")
    name = MAIL_NAME.encode()
    for account in ("demo", "friend"):
        (copy,) = arrived(stack, account, b"\nSubject: to staff\n")
        head = b"Return-Path: <owner-staff@%b>\nDelivered-To: %b@%b\n" % (name, account.encode(), name)
        assert copy.startswith(head), copy
        assert b"\nDelivered-To: Staff@%b\n" % name in copy
    said = stack.said.wait(r"success: a_program_ran/fastforward:_qp_", since)
    assert "did_0+0+1/" in said


def test_mail_to_a_name_that_is_not_in_the_table_comes_back(stack: Stack, aliases: Path) -> None:
    run(stack, "qmail-inject", message=b"To: nobody-here\nSubject: to nobody\n\nhello\n")
    (bounce,) = arrived(stack, "demo", b"\nSubject: to nobody\n")
    report = b"\n<nobody-here@%b>:\nSorry, no mailbox here by that name. (#5.1.1)\n" % MAIL_NAME.encode()
    assert report in bounce


def test_mail_waits_while_there_is_no_database(stack: Stack, aliases: Path) -> None:
    (aliases / "aliases.cdb").rename(aliases / "elsewhere.cdb")
    since = stack.mark()
    run(stack, "qmail-inject", message=b"To: staff\nSubject: waited\n\nhello\n")
    stack.said.wait(r"deferral: fastforward:_fatal:_unable_to_read_aliases.cdb:_file_does_not_exist/", since)
    run(stack, "newaliases", str(aliases / "aliases"))
    assert len(arrived(stack, "friend", b"\nSubject: waited\n")) == 1
