"""broadcast in an alias's .qmail file, and the command that writes that file."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli import broadcast, places
from cli.broadcast import Wish
from cli.refusal import Refusal

CHECKOUT = Path(__file__).resolve().parents[3]
ME = os.geteuid()
BY_SMTP = b"Received: from far (1.2.3.4)\n  by here with SMTP id x; 1 Jan 2026 00:00:00 -0000\nSubject: x\n\nhello\n"
BY_ANN = b"Received: (qmail 06h0a invoked by uid 7001); 1 Jan 2026 00:00:00 -0000\nSubject: x\n\nhello\n"
_QUEUE = '#!/bin/sh\ncat > "$KEPT/message"\ncat <&1 > "$KEPT/envelope"\n'


@dataclass
class Said:
    """What a call did: exit status, words, and what was queued."""

    status: int
    err: str
    sender: str = ""
    recipients: tuple[str, ...] = ()
    message: bytes = b""


@dataclass
class Office:
    """Accounts, control files, and a qmail-queue that keeps what it gets."""

    path: Path

    def call(self, *words: str, message: bytes = BY_SMTP, **changed: str) -> Said:
        for name in ("message", "envelope"):
            (self.path / name).unlink(missing_ok=True)
        given = self.path / "given"
        given.write_bytes(message)
        told = {
            "PATH": os.environ["PATH"],
            "SENDER": "Boss@mail.test",
            "NEWSENDER": "all-owner@mail.test",
            "DTLINE": "Delivered-To: all@mail.test\n",
            "HOST": "mail.test",
            "SEAPOST_CONTROL": str(self.path / "control"),
            "QMAILQUEUE": str(self.path / "queue"),
            "KEPT": str(self.path),
            **changed,
        }
        program = [str(CHECKOUT / "bin" / "broadcast"), "-a", str(self.path / "accounts"), *words]
        with given.open("rb") as stdin:
            done = subprocess.run(program, stdin=stdin, env=told, capture_output=True, timeout=30)
        said = Said(done.returncode, done.stderr.decode())
        if (self.path / "envelope").exists():
            first, *rest = (self.path / "envelope").read_text().rstrip("\0").split("\0")
            said.sender, said.recipients = first[1:], tuple(one[1:] for one in rest)
            said.message = (self.path / "message").read_bytes()
        return said

    def say(self, name: str, *lines: str) -> None:
        (self.path / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    made = Office(tmp_path)
    for folder in ("accounts", "control", "own"):
        (tmp_path / folder).mkdir()
    made.say(
        "accounts/passwd",
        "root:x:0:0::/root:/bin/sh",
        "daemon:x:1:1::/usr/sbin:/bin/false",
        "nobody:x:65534:65534::/nonexistent:/bin/false",
        "alias:x:7790:7790::/var/alias:/bin/false",
        "ann:x:7001:7001::homes/ann:/bin/sh",
        f"bob:x:7002:7002::{tmp_path}/not-there-yet:/bin/sh",
        f"eve:x:{ME + 7_003}:7003::{tmp_path}/own:/bin/sh",  # somebody else's home
    )
    made.say("control/me", "mail.test")
    (tmp_path / "queue").write_text(_QUEUE)
    (tmp_path / "queue").chmod(0o755)
    return made


# -- the program ------------------------------------------------------------------------------------------------------


def test_a_message_of_who_may_goes_once_to_every_mail_account(office: Office) -> None:
    said = office.call("boss@mail.test")
    assert (said.status, said.sender) == (0, "all-owner@mail.test")
    assert said.recipients == ("ann@mail.test", "bob@mail.test")
    assert said.message == b"Delivered-To: all@mail.test\nPrecedence: bulk\n" + BY_SMTP
    assert said.err.startswith("broadcast: qp ")
    assert said.err.endswith(" to 2 accounts\n")


@pytest.mark.parametrize("sender", ["", "#@[]", "mallory@mail.test", "boss@mail.test.example", "ann"])
def test_everybody_else_and_every_bounce_is_told_no(office: Office, sender: str) -> None:
    said = office.call("boss@mail.test", "", SENDER=sender)
    assert (said.status, said.err) == (100, "You may not post here. (#5.7.1)\n")
    assert said.recipients == ()


def test_an_account_may_by_its_own_programs_and_not_by_its_address(office: Office) -> None:
    assert office.call("ann", message=BY_ANN, SENDER="whoever@mail.test").status == 0
    assert office.call("bob", message=BY_ANN).status == 100
    assert office.call("ann", SENDER="ann@mail.test").status == 100
    forged = BY_SMTP + BY_ANN
    assert office.call("ann", message=forged, SENDER="ann@mail.test").status == 100


def test_an_account_can_be_left_out(office: Office) -> None:
    assert office.call("-x", "ann", "boss@mail.test").recipients == ("bob@mail.test",)


def test_login_defs_says_where_people_begin(office: Office) -> None:
    office.say("accounts/login.defs", "UID_MIN 7002")
    assert office.call("boss@mail.test").recipients == ("bob@mail.test",)


def test_recipients_are_of_a_domain_in_which_accounts_are_local(office: Office) -> None:
    office.say("control/locals", "# ours", "first.test", "mail.test")
    assert office.call("boss@mail.test", HOST="Mail.Test").recipients[0] == "ann@mail.test"
    assert office.call("boss@mail.test", HOST="virtual.test").recipients[0] == "ann@first.test"


@pytest.mark.parametrize("words", [(), ("-a",), ("-z", "boss@mail.test")])
def test_wrong_words_are_a_usage(office: Office, words: tuple[str, ...]) -> None:
    said = office.call(*words)
    assert said.status == 100
    assert said.err.startswith("broadcast: usage: ")


def test_trouble_is_temporary(office: Office) -> None:
    assert office.call("boss@mail.test", QMAILQUEUE="/nowhere").status == 111
    (office.path / "accounts" / "passwd").unlink()
    said = office.call("boss@mail.test")
    assert (said.status, said.err) == (
        111,
        f"broadcast: fatal: unable to read {office.path}/accounts/passwd: file does not exist\n",
    )


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stack(office: Office) -> places.Places:
    (office.path / "alias").mkdir()
    office.say("accounts/passwd", "ann:x:7001:7001::homes/ann:/bin/sh")
    return places.find(str(office.path), {})


def test_the_command_writes_two_files_and_the_second_time_none(stack: places.Places) -> None:
    wish = Wish("all", ["boss@mail.test", "ann"], without=["ann"])
    said = broadcast.set_up(stack, wish)
    instruction = f"|broadcast -a {stack.accounts} -x ann boss@mail.test ann"
    assert said == [
        f"{stack.alias}/.qmail-all-owner: written",
        "    &postmaster",
        f"{stack.alias}/.qmail-all: written",
        f"    {instruction}",
    ]
    files = {name: (Path(stack.alias) / name).read_text() for name in os.listdir(stack.alias)}
    assert set(files) == {".qmail-all", ".qmail-all-owner"}
    assert files[".qmail-all"].endswith(f"\n{instruction}\n")
    assert [line.rpartition(": ")[2] for line in broadcast.set_up(stack, wish)[::2]] == ["as it was", "as it was"]
    assert "replaced" in broadcast.set_up(stack, Wish("all", ["ann"]))[2]


def test_what_an_address_holds_is_no_word_of_the_shell(stack: places.Places) -> None:
    said = broadcast.set_up(stack, Wish("every.body", ["$(id)'x@mail.test"]))
    assert said[3].strip() == f"|broadcast -a {stack.accounts} '$(id)'\"'\"'x@mail.test'"
    assert (Path(stack.alias) / ".qmail-every:body").exists()


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        (Wish("all", []), "nobody may write to it"),
        (Wish("a/b", ["ann"]), "cannot be an alias"),
        (Wish("ann", ["ann"]), "there is an account ann"),
        (Wish("all", ["-x"]), "neither an address nor an account"),
        (Wish("all", ["a\nb@mail.test"]), "neither an address nor an account"),
        (Wish("all", ["ann"], owner="x\n|id"), "is not an address"),
    ],
)
def test_what_cannot_be_is_refused_with_its_fix(stack: places.Places, wish: Wish, text: str) -> None:
    with pytest.raises(Refusal, match=text):
        broadcast.set_up(stack, wish)
    assert os.listdir(stack.alias) == []


def test_a_file_that_somebody_else_wrote_stays(stack: places.Places) -> None:
    mine = Path(stack.alias) / ".qmail-all"
    mine.write_text("&ann\n")
    with pytest.raises(Refusal, match="was made by somebody else"):
        broadcast.set_up(stack, Wish("all", ["ann"]))
    assert mine.read_text() == "&ann\n"
    assert os.listdir(stack.alias) == [mine.name]
