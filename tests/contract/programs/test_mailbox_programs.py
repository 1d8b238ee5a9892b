"""maildirmake, maildir2mbox and preline as somebody calls them: words, environment and input; octets and status."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

BIN = Path(__file__).resolve().parents[3] / "bin"
LINES = {"UFLINE": "From a@b x\n", "RPLINE": "Return-Path: <a@b>\n", "DTLINE": "Delivered-To: c@d\n"}
UF, RP, DT = LINES.values()


def run(
    name: str, *words: str | Path, given: bytes = b"", env: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, bytes, str]:
    """Exit status, standard output, standard error."""
    told = {"PATH": os.environ["PATH"], **env}
    ended = subprocess.run([BIN / name, *words], input=given, capture_output=True, env=told, check=False, timeout=60)
    return ended.returncode, ended.stdout, ended.stderr.decode()


# -- preline ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ([], UF + RP + DT),
        (["-f"], RP + DT),
        (["-rd"], UF),
        (["-frd"], ""),
        (["-frd", "-F"], UF),
        (["-frdD", "--"], DT),
    ],
)
def test_preline_puts_the_lines_that_are_wanted_before_the_message(options: list[str], lines: str) -> None:
    assert run("preline", *options, "cat", given=b"x\xff\0", env=LINES) == (0, lines.encode() + b"x\xff\0", "")


def test_preline_ends_as_its_program_ends() -> None:
    assert run("preline", "sh", "-c", "echo said; exit 7", env=LINES) == (7, b"said\n", "")
    assert run("preline", "sh", "-c", "kill -9 $$", env=LINES) == (111, b"", "preline: fatal: child crashed\n")


def test_a_program_need_not_read_its_message() -> None:
    assert run("preline", "sh", "-c", "exit 3", given=b"x" * 1_000_000, env=LINES) == (3, b"", "")


def test_a_program_may_be_a_script_without_a_first_line(tmp_path: Path) -> None:
    (tmp_path / "script").write_text('echo "$1"; cat')
    (tmp_path / "script").chmod(0o755)
    assert run("preline", "-frd", tmp_path / "script", "one", given=b"x", env=LINES) == (0, b"one\nx", "")
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert run("preline", "-frd", "script", "two", given=b"x", env={**LINES, "PATH": path}) == (0, b"two\nx", "")


def test_a_program_that_is_not_there_is_permanent() -> None:
    wanted = (100, b"", "preline: fatal: unable to run no-such: file does not exist\n")
    assert run("preline", "no-such", env=LINES) == wanted


@pytest.mark.parametrize("missing", LINES)
def test_preline_wants_to_be_called_from_a_delivery(missing: str) -> None:
    lines = {name: line for name, line in LINES.items() if name != missing}
    assert run("preline", "cat", env=lines) == (100, b"", "preline: usage: preline cmd [ arg ... ]\n")


def test_preline_says_what_is_wrong_with_its_words() -> None:
    usage = "preline: usage: preline cmd [ arg ... ]\n"
    assert run("preline", env=LINES) == (100, b"", usage)
    assert run("preline", "-fx", "cat", env=LINES) == (100, b"", "preline: illegal option -- x\n" + usage)


# -- maildirmake ------------------------------------------------------------------------------------------------------


def test_a_maildir_is_its_owners_alone(tmp_path: Path) -> None:
    assert run("maildirmake", tmp_path / "Maildir") == (0, b"", "")
    made = [tmp_path / "Maildir", *(tmp_path / "Maildir").iterdir()]
    assert sorted(path.name for path in made) == ["Maildir", "cur", "new", "tmp"]
    assert {path.stat().st_mode & 0o7777 for path in made} == {0o700}


def test_maildirmake_says_why_not(tmp_path: Path) -> None:
    assert run("maildirmake") == (100, b"", "maildirmake: usage: maildirmake name\n")
    there = f"maildirmake: fatal: unable to mkdir {tmp_path}: file already exists\n"
    assert run("maildirmake", tmp_path) == (111, b"", there)
    nowhere = f"maildirmake: fatal: unable to mkdir {tmp_path}/no/m: file does not exist\n"
    assert run("maildirmake", tmp_path / "no" / "m") == (111, b"", nowhere)


# -- maildir2mbox -----------------------------------------------------------------------------------------------------


class Mailbox:
    """A Maildir with three messages, and where its mbox is to be."""

    def __init__(self, folder: Path) -> None:
        self.maildir, self.mbox, self.draft = folder / "Maildir", folder / "Mailbox", folder / "Mailbox.draft"
        for part in ("tmp", "new", "cur"):
            (self.maildir / part).mkdir(parents=True)
        self.put("new/2.x", b"Return-Path: <a b@x>\nSubject: 2\n\nFrom here\nno end", 86_400 * 2)
        self.put("new/1.x", b"no path\n\n1\n", 86_400)
        self.put("cur/3.x:2,S", b"Return-Path: <>\n\n3\n", 86_400 * 3)
        self.wanted = (
            b"From XXX Fri Jan 02 00:00:00 1970\nno path\n\n1\n\n"
            b"From a-b@x Sat Jan 03 00:00:00 1970\nReturn-Path: <a b@x>\nSubject: 2\n\n>From here\nno end\n\n"
            b"From MAILER-DAEMON Sun Jan 04 00:00:00 1970\nReturn-Path: <>\n\n3\n\n"
        )

    def put(self, name: str, message: bytes, changed_s: int) -> None:
        (self.maildir / name).write_bytes(message)
        os.utime(self.maildir / name, (changed_s, changed_s))

    def move(self, **environment: str) -> tuple[int, bytes, str]:
        return run("maildir2mbox", env={**self.places, **environment})

    @property
    def places(self) -> dict[str, str]:
        return {"MAIL": str(self.mbox), "MAILTMP": str(self.draft), "MAILDIR": str(self.maildir)}

    @property
    def left(self) -> list[str]:
        return sorted(path.name for part in ("new", "cur") for path in (self.maildir / part).iterdir())


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path)


def test_messages_move_into_the_mbox_oldest_first(mailbox: Mailbox) -> None:
    mailbox.mbox.write_bytes(b"From old x\n\nold\n\n")
    assert mailbox.move() == (0, b"", "")
    assert mailbox.mbox.read_bytes() == b"From old x\n\nold\n\n" + mailbox.wanted
    assert mailbox.mbox.stat().st_mode & 0o777 == 0o600
    assert mailbox.left == []
    assert not mailbox.draft.exists()


def test_what_has_changed_in_this_second_and_dot_files_stay(mailbox: Mailbox) -> None:
    mailbox.put("new/now", b"now\n", int(time.time()) + 60)
    mailbox.put("new/.hidden", b"hidden\n", 1)
    assert mailbox.move()[0] == 0
    assert mailbox.left == [".hidden", "now"]
    assert mailbox.mbox.read_bytes() == mailbox.wanted


def test_an_empty_maildir_leaves_the_mbox_alone(mailbox: Mailbox) -> None:
    mailbox.move()
    before = mailbox.mbox.stat()
    assert mailbox.move() == (0, b"", "")
    assert mailbox.mbox.stat().st_ino == before.st_ino


def test_what_was_forgotten_in_tmp_is_removed_after_36_hours(mailbox: Mailbox) -> None:
    mailbox.put("tmp/old", b"", 86_400)
    mailbox.put("tmp/young", b"", int(time.time()) - 129_000)
    mailbox.move()
    assert [path.name for path in (mailbox.maildir / "tmp").iterdir()] == ["young"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"MAIL": ""}, "unable to lock : file does not exist"),
        ({"MAIL": "/no/mbox"}, "unable to lock /no/mbox: file does not exist"),
        ({"MAILTMP": "/no/draft"}, "unable to create /no/draft: file does not exist"),
        ({"MAILDIR": "/no"}, "unable to chdir to /no: file does not exist"),
    ],
)
def test_a_mistake_is_told_and_changes_nothing(mailbox: Mailbox, change: dict[str, str], says: str) -> None:
    assert mailbox.move(**change) == (111, b"", f"maildir2mbox: fatal: {says}\n")
    assert len(mailbox.left) == 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_it_is_not_told_it_asks_for_in_qmails_order(mailbox: Mailbox, number: int) -> None:
    names = ["MAIL", "MAILTMP", "MAILDIR"]
    told = {name: mailbox.places[name] for name in names[:number]}
    assert run("maildir2mbox", env=told) == (111, b"", f"maildir2mbox: fatal: {names[number]} not set\n")


def test_a_message_that_cannot_be_read_stops_it_before_anything_moves(mailbox: Mailbox) -> None:
    (mailbox.maildir / "cur" / "dir").mkdir()
    os.utime(mailbox.maildir / "cur" / "dir", (5, 5))
    says = "maildir2mbox: fatal: unable to read $MAILDIR/cur/dir: is a directory\n"
    assert mailbox.move() == (111, b"", says)
    assert len(mailbox.left) == 4
    assert mailbox.mbox.read_bytes() == b""


@pytest.mark.parametrize("kind", ["writev", "fsync", "rename", "unlink"])
def test_killed_at_any_call_it_loses_nothing_and_doubles_nothing(
    tmp_path: Path, program: Callable[[str], str], kind: str
) -> None:
    """Killed by strace at each call that changes something, and run again."""
    Mailbox(tmp_path).move()  # Python's own files are written
    ended, when = -signal.SIGKILL, 0
    while ended == -signal.SIGKILL:
        when += 1
        mine = Mailbox(tmp_path / str(when))
        mine.mbox.write_bytes(b"From old x\n\nold\n\n")
        inject = f"inject={kind}:signal=KILL:when={when}"
        words = [program("strace"), "-o", "/dev/null", "-e", f"trace={kind}", "-e", inject, str(BIN / "maildir2mbox")]
        ended = subprocess.run(words, env={**os.environ, **mine.places}, check=False).returncode
        assert mine.move() == (0, b"", "")
        assert mine.mbox.read_bytes() == b"From old x\n\nold\n\n" + mine.wanted, (kind, when)
        assert mine.left == []
    assert when > 1
