"""Mail that programs hand in, through the whole stack: by hand, from .qmail files, to everybody, in bad times."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.stack import MAIL_NAME, ROOT, Stack, running

BIN = ROOT / "bin"
FLEETING = range(71, 75)  # qmail-queue's exit codes for "ask again"
COUNT = 30
AS_ROOT = os.geteuid() == 0
BECOME = "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3); os.execv(sys.argv[2], sys.argv[2:])"


def call(stack: Stack, *words: str, message: bytes, uid: int | None = None) -> subprocess.CompletedProcess[bytes]:
    """A program of bin/, as somebody calls it by hand."""
    told = {"PATH": os.environ["PATH"], "SEAPOST_STATE": str(stack.directory), "USER": "demo"}
    name, *rest = words
    program = [str(BIN / name), *rest]
    if uid is not None and AS_ROOT:
        program = ["python3", "-IS", "-c", BECOME, str(uid), *program]
    return subprocess.run(program, input=message, env=told, capture_output=True, timeout=60, check=False)


def delivered(stack: Stack, account: str, subject: str) -> list[bytes]:
    """The messages of that subject in the account's mailbox."""
    new = stack.home(account) / "Maildir" / "new"
    found = [path.read_bytes() for path in sorted(new.iterdir())] if new.exists() else []
    return [one for one in found if f"Subject: {subject}\n".encode() in one]


def uid_of(stack: Stack, account: str) -> int:
    return stack.home(account).stat().st_uid


@pytest.fixture
def dot_qmail(stack: Stack) -> Iterator[Path]:
    """demo's, gone after the test."""
    path = stack.home("demo") / ".qmail"
    yield path
    path.unlink()


def test_what_somebody_injects_says_who_it_was(stack: Stack) -> None:
    uid = uid_of(stack, "friend")
    said = call(stack, "qmail-inject", message=b"To: demo\nSubject: by hand\n\nhello\n", uid=uid)
    assert (said.returncode, said.stderr) == (0, b"")
    stack.wait_idle()
    (found,) = delivered(stack, "demo", "by hand")
    assert f" invoked by uid {uid}); ".encode() in found.split(b"\n")[2]
    assert f"To: demo@{MAIL_NAME}\n".encode() in found
    assert found.endswith(b"\nhello\n")


def test_a_program_in_a_qmail_file_hands_in_mail_as_its_user(stack: Stack, dot_qmail: Path) -> None:
    dot_qmail.write_text(f"|forward friend@{MAIL_NAME}\n./Maildir/\n")
    os.chown(dot_qmail, uid_of(stack, "demo"), -1)
    assert call(stack, "sendmail", f"demo@{MAIL_NAME}", message=b"Subject: passed on\n\nhello\n").returncode == 0
    stack.wait_idle()
    (found,) = delivered(stack, "friend", "passed on")
    assert f"Received: (qmail {id_of(found)} invoked by uid {uid_of(stack, 'demo')}); ".encode() in found
    assert f"\nDelivered-To: demo@{MAIL_NAME}\n".encode() in found
    assert len(delivered(stack, "demo", "passed on")) == 1


def id_of(message: bytes) -> str:
    """Of the topmost `Received: (qmail ID invoked by ...)`."""
    return message.split(b"(qmail ", 1)[1].split(b" ", 1)[0].decode()


@pytest.fixture
def everybody(stack: Stack) -> Iterator[str]:
    """An alias for all accounts, to which demo may write."""
    made = stack.seapost("broadcast", "--allow", "demo", "--allow", f"boss@{MAIL_NAME}", "--owner", f"demo@{MAIL_NAME}")
    assert made.count("written") == 2
    yield f"all@{MAIL_NAME}"
    for name in (".qmail-all", ".qmail-all-owner"):
        (stack.directory / "alias" / name).unlink()


def test_a_broadcast_reaches_every_account_once_and_only_from_who_may(stack: Stack, everybody: str) -> None:
    news = call(stack, "sendmail", "-f", f"boss@{MAIL_NAME}", everybody, message=b"Subject: news\n\nhello\n")
    assert news.returncode == 0
    stack.wait_idle()
    for account in ("demo", "friend"):
        (found,) = delivered(stack, account, "news")
        assert found.startswith(f"Return-Path: <all-owner@{MAIL_NAME}>\nDelivered-To: {account}@".encode())
        assert f"\nDelivered-To: {everybody}\nPrecedence: bulk\n".encode() in found
    if AS_ROOT:  # otherwise everybody is one and the same
        by_demo = call(stack, "sendmail", everybody, message=b"Subject: mine\n\nx\n", uid=uid_of(stack, "demo"))
        assert by_demo.returncode == 0
        stack.wait_idle()
        assert len(delivered(stack, "friend", "mine")) == 1
        by_friend = ("sendmail", "-f", f"friend@{MAIL_NAME}", everybody)
        assert call(stack, *by_friend, message=b"Subject: no\n\nx\n", uid=uid_of(stack, "friend")).returncode == 0
        stack.wait_idle()
        assert delivered(stack, "demo", "no") == []
        (bounce,) = delivered(stack, "friend", "failure notice")
        assert b"You may not post here. (#5.7.1)" in bounce


def test_success_means_that_the_message_is_there_whatever_dies(tmp_path: Path) -> None:
    """Messages one after the other while local and the queue are killed; each is there, or was not taken."""
    with running(Stack(tmp_path / "state")) as own:
        (tmp_path / "envelope").write_bytes(f"Fx@{MAIL_NAME}\0Tdemo@{MAIL_NAME}\0\0".encode())
        told = {"PATH": os.environ["PATH"], "SEAPOST_STATE": str(own.directory)}
        script = ["sh", "-c", f"exec {BIN}/qmail-queue 1< {tmp_path}/envelope"]
        codes: list[int] = []

        def inject() -> None:
            for number in range(COUNT):
                message = f"Subject: {number}.\n\nx\n".encode()
                codes.append(subprocess.run(script, input=message, env=told, timeout=120, check=False).returncode)

        injecting = threading.Thread(target=inject)
        injecting.start()
        for name in ("local-0", "queue-0", "local-0"):
            own.replace(name)
        injecting.join()
        own.wait_idle()
        assert len(codes) == COUNT
        assert all(code == 0 or code in FLEETING for code in codes), codes
        for number, code in enumerate(codes):
            found = len(delivered(own, "demo", f"{number}."))
            assert found == 1 or (code and not found), (number, code, found)
        assert codes.count(0) >= COUNT // 2, codes
