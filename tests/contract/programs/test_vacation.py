"""vacation as `.qmail` calls it: a process, a home, a message, and a qmail-queue that keeps what it gets."""

import os
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[3] / "bin"
MESSAGE = b"From: Bob <bob@far.example>\nTo: joe@d.test\nSubject: hello\nMessage-ID: <1@far.example>\n\nHi Joe\n"
MAGIC = b"Whom vacation has answered, and when.\n"
_QUEUE = """#!/bin/sh
cat > "$KEPT/$$.message" && cat <&1 > "$KEPT/$$.envelope"
{then}
"""


@dataclass(slots=True)
class House:
    """A home with `.vacation.msg`, and a folder of answers."""

    home: Path
    kept: Path
    queue: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.kept.mkdir()
        (self.home / ".vacation.msg").write_text("Subject: away: $SUBJECT\n\nI am away.\n")
        self.queue_then("exit 0")
        self.environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "USER": "joe",
            "HOST": "d.test",
            "SENDER": "bob@far.example",
            "RECIPIENT": "joe@d.test",
            "DTLINE": "Delivered-To: joe@d.test\n",
            "UFLINE": "From bob@far.example Thu Jan  1 00:00:00 1970\n",
            "RPLINE": "Return-Path: <bob@far.example>\n",
            "QMAILQUEUE": str(self.queue),
            "KEPT": str(self.kept),
        }

    def queue_then(self, then: str) -> None:
        self.queue.write_text(_QUEUE.format(then=then))
        self.queue.chmod(0o755)

    def start(self, *words: str, message: bytes = MESSAGE, **environment: str | None) -> "subprocess.Popen[bytes]":
        told = {name: value for name, value in (self.environment | environment).items() if value is not None}
        path = self.home.parent / f"message.{time.monotonic_ns()}"
        path.write_bytes(message)
        with path.open("rb") as file:
            return subprocess.Popen(
                words, cwd=self.home, env=told, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )

    def run(self, *words: str, message: bytes = MESSAGE, **environment: str | None) -> tuple[int, str]:
        """Exit status, and standard output and error without the number of the answer."""
        process = self.start(*words, message=message, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, re.sub(r"qp \d+", "qp N", (out + err).decode())

    def vacation(self, *options: str, message: bytes = MESSAGE, **environment: str | None) -> tuple[int, str]:
        return self.run(str(BIN / "vacation"), *options, "joe", message=message, **environment)

    def answers(self) -> list[bytes]:
        """The answers since the last question: envelope and message."""
        found = []
        for path in self.kept.glob("*.envelope"):
            message = path.with_suffix(".message")
            found.append(path.read_bytes() + message.read_bytes())
            path.unlink()
            message.unlink()
        return found

    @property
    def remembered(self) -> Path:
        return self.home / ".vacation.answered"

    def remember(self, entries: Iterable[tuple[int, bytes]]) -> None:
        self.remembered.write_bytes(MAGIC + b"".join(b"%d %b\n" % entry for entry in entries))


ANSWERED = (0, "vacation: qp N\n")
SILENT = (0, "")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "home", tmp_path / "kept", tmp_path / "queue")


def test_a_sender_is_answered_once(house: House) -> None:
    assert house.vacation() == ANSWERED
    (answer,) = house.answers()
    assert answer.startswith(
        b"F\0Tbob@far.example\0\0Delivered-To: joe@d.test\nFrom: joe@d.test\nTo: bob@far.example\n"
    )
    assert b"\nSubject: away: hello\n" in answer
    assert answer.endswith(b"\n\nI am away.\n")
    assert house.vacation() == house.vacation(SENDER="BOB@Far.example") == SILENT
    assert house.answers() == []
    assert house.vacation(SENDER="carl@far.example") == ANSWERED


def test_preline_and_the_bare_call_are_the_same(house: House) -> None:
    assert house.run("sh", "-c", "preline vacation joe") == ANSWERED
    (answer,) = house.answers()
    assert b"\nTo: bob@far.example\n" in answer
    assert house.run("sh", "-c", "preline vacation joe", SENDER=None) == SILENT, "it reads the lines then"
    assert house.run("sh", "-c", "preline vacation -I") == SILENT
    assert house.run("sh", "-c", "preline vacation joe", SENDER=None) == ANSWERED
    assert house.run("sh", "-c", "preline -r vacation", SENDER="d@far.example") == ANSWERED, (
        "USER is who, in a delivery"
    )
    bounce = "From MAILER-DAEMON x\n"
    assert house.run("sh", "-c", "preline -r vacation joe", SENDER=None, UFLINE=bounce) == SILENT


def test_two_at_once_give_one_answer(house: House) -> None:
    processes = [house.start(str(BIN / "vacation"), "joe") for _ in range(8)]
    ended = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert [status for _, _, status in ended] == [0] * 8
    assert len(house.answers()) == 1


def test_nobody_is_answered_twice_after_a_crash(house: House) -> None:
    house.queue_then("kill -9 $PPID")
    assert house.vacation()[0] == -9
    house.answers()
    house.queue_then("exit 0")
    assert house.vacation() == SILENT
    assert house.answers() == []


def test_an_answer_that_could_not_be_queued_is_tried_again(house: House) -> None:
    house.queue_then("exit 51")
    assert house.vacation() == (111, "vacation: fatal: qq out of memory (#4.3.0)\n")
    house.answers()
    house.queue_then("exit 0")
    assert house.vacation() == ANSWERED


def test_an_answer_that_is_refused_does_not_hold_the_mail_up(house: House) -> None:
    house.queue_then("exit 31")
    refused = "vacation: warning: the answer was refused: mail server permanently rejected message (#5.3.0)\n"
    assert house.vacation() == (0, refused)
    assert house.vacation() == SILENT


# -- to whom ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", ["", "#@[]", "list-owner@h.example", "joe@d.test"])
def test_these_get_no_answer(house: House, sender: str) -> None:
    assert house.vacation("-j", SENDER=sender) == SILENT
    assert not house.remembered.exists()


def test_only_who_wrote_to_the_user_is_answered(house: House) -> None:
    others = MESSAGE.replace(b"To: joe@", b"To: ann@")
    assert house.vacation(message=others) == SILENT
    assert house.vacation("-a", "bill", message=others) == SILENT
    assert house.vacation("-abill", "-a", "ann", message=others) == ANSWERED
    assert b"\nFrom: ann@d.test\n" in house.answers()[0]
    assert house.vacation("-j", message=others, SENDER="eve@far.example") == ANSWERED
    assert b"\nFrom: joe@d.test\n" in house.answers()[0]


def test_mail_for_a_virtual_domain_is_the_users(house: House) -> None:
    virtual = MESSAGE.replace(b"To: joe@d.test", b"To: info@v.test")
    assert house.vacation(message=virtual, RECIPIENT="joe-info@v.test", HOST="v.test", EXT="info") == ANSWERED
    assert b"\nFrom: info@v.test\n" in house.answers()[0]


def test_the_users_own_list_says_whom_not_to_answer(house: House) -> None:
    (house.home / ".vacation.noanswer").write_text("# my boss\nBOSS@work.example\n\n@lists.example\n")
    assert house.vacation(SENDER="boss@Work.example") == SILENT
    assert house.vacation("-n", SENDER="anybody@lists.example") == SILENT
    assert house.vacation(SENDER="ann@work.example") == ANSWERED
    assert house.vacation("-x", message=b"Carl@far.example\n@far.test\n") == SILENT
    assert house.vacation(SENDER="carl@far.example") == house.vacation(SENDER="x@far.test") == SILENT
    assert house.vacation(SENDER="boss@work.example") == SILENT


# -- how often --------------------------------------------------------------------------------------------------------


def test_after_a_week_the_sender_is_answered_again(house: House) -> None:
    now = int(time.time())
    house.remember([(now - 7 * 86_400 + 100, b"bob@far.example"), (now - 7 * 86_400, b"carl@far.example")])
    assert house.vacation() == SILENT
    assert house.vacation(SENDER="carl@far.example") == ANSWERED


def test_a_clock_that_was_wrong_silences_nobody_for_years(house: House) -> None:
    now = int(time.time())
    house.remember([(now + 10 * 365 * 86_400, b"bob@far.example")])
    assert house.vacation() == SILENT
    (line,) = house.remembered.read_bytes().removeprefix(MAGIC).splitlines()
    assert now <= int(line.split()[0]) <= int(time.time())


def test_the_interval_is_what_the_options_say(house: House) -> None:
    hours_ago = int(time.time()) - 3 * 3_600
    for option, result in (("-t2h", ANSWERED), ("-t4h", SILENT), ("-t10000", ANSWERED), ("-r0", ANSWERED)):
        house.remember([(hours_ago, b"bob@far.example")])
        assert house.vacation(option) == result, option
    house.remember([(0, b"bob@far.example")])
    assert house.vacation("-r", "infinite") == SILENT


def test_the_interval_may_be_kept_with_the_senders(house: House) -> None:
    assert house.vacation("-i", "-r", "0") == SILENT
    assert house.vacation() == house.vacation() == ANSWERED
    assert house.vacation("-t1d") == SILENT
    assert house.vacation("-I") == SILENT
    assert house.vacation() == ANSWERED
    assert house.vacation() == SILENT


def test_those_who_were_answered_can_be_shown(house: House) -> None:
    house.remember([(86_400, b"bob@far.example"), (0, b'"a b"@x')])
    shown = '1 Jan 1970 00:00:00 -0000 "a b"@x\n2 Jan 1970 00:00:00 -0000 bob@far.example\n'
    assert house.vacation("-s") == house.vacation("-l") == (0, shown)


def test_of_too_many_senders_the_first_are_forgotten(house: House) -> None:
    now = int(time.time())
    house.remember((now - 5_000 + one, b"s%d@far.example" % one) for one in range(2_000))
    assert house.vacation() == ANSWERED
    lines = house.remembered.read_bytes().removeprefix(MAGIC).splitlines()
    assert len(lines) == 2_000
    assert lines[0].endswith(b" s1@far.example")
    assert lines[-1].endswith(b" bob@far.example")


# -- what may be in the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"To: joe@d.test\nX: " + b"x" * 2**20 + b"\n\n", id="a line of a mebibyte"),
        pytest.param(b"x" * 2**20, id="nothing but a line"),
        pytest.param(b"To: joe@d.test\n" + b"X: y\n" * 1_001 + b"\n", id="too many fields"),
        pytest.param(b"To: joe@d.test\n" + b"X: y\n " + b"\n z" * 100_000, id="a field without end"),
        pytest.param(b"T\0o: joe@d.test\n\n", id="a NUL in a name"),
        pytest.param(b"\nTo: joe@d.test\n", id="a header that ends before it begins"),
        pytest.param(b"", id="nothing"),
        pytest.param(b'To: "joe@d.test\n\n', id="a quote without end"),
        pytest.param(b"To: " + b"(" * 50_000 + b"joe@d.test\n\n", id="comments within comments"),
    ],
)
def test_a_header_that_nobody_can_judge_is_not_answered(house: House, message: bytes) -> None:
    assert house.vacation(message=message) == SILENT
    assert house.answers() == []


def test_carriage_returns_and_nuls_do_not_reach_the_answer(house: House) -> None:
    message = b"To: joe@d.test\r\nSubject: a\0\rBcc: eve@x\r\nMessage-ID: <a@b>\rX: y\r\n\r\n"
    assert house.vacation(message=message) == ANSWERED
    (answer,) = house.answers()
    assert b"\nSubject: away: a Bcc: eve@x\n" in answer
    assert b"\r" not in answer


def test_without_a_text_the_mail_waits(house: House) -> None:
    (house.home / ".vacation.msg").unlink()
    assert house.vacation() == (111, "vacation: fatal: unable to open .vacation.msg: file does not exist\n")
    assert house.vacation(SENDER="") == SILENT, "who is not answered needs no text"
    os.mkfifo(house.home / "fifo")
    assert house.vacation("-m", "fifo") == (111, "vacation: fatal: unable to read fifo: it is not a file\n")
    (house.home / "large").write_bytes(b"x" * 65_537)
    assert house.vacation("-m", "large") == (111, "vacation: fatal: unable to read large: file too big\n")
    assert not house.remembered.exists()
    (house.home / "text").write_text("x\n")
    assert house.vacation("-m", "text") == ANSWERED


def test_a_file_that_is_not_ours_is_left_alone(house: House) -> None:
    for name, content, why in (
        ("berkeley.db", b"\0\x05\x31\x62" * 1_000, "it was not written by this vacation"),
        ("damaged", MAGIC + b"1 a@b\nwhat\n", "it is damaged"),
        ("large", MAGIC + b"1 a@b\n" * 700_000, "it was not written by this vacation"),
    ):
        (house.home / name).write_bytes(content)
        assert house.vacation("-f", name) == (111, f"vacation: fatal: unable to use {name}: {why}\n")
        assert (house.home / name).read_bytes() == content
    (house.home / "link").symlink_to("/etc/passwd")
    assert house.vacation("-f", "link") == (111, "vacation: fatal: unable to use link: symbolic link loop\n")
    assert house.answers() == []


def test_a_sender_must_be_known(house: House) -> None:
    nobody = "vacation: fatal: SENDER not set, and no Return-Path or From line on top of the message\n"
    assert house.vacation(SENDER=None) == (111, nobody)


@pytest.mark.parametrize("words", [(), ("-q", "joe"), ("joe", "ann"), ("-t", "x", "joe"), ("-a",), ("-tx", "joe")])
def test_words_that_mean_nothing_hold_the_mail_and_do_not_bounce_it(house: House, words: tuple[str, ...]) -> None:
    status, said = house.run(str(BIN / "vacation"), *words, SENDER=None)
    assert status == 111
    assert said.startswith("vacation: usage: ")
