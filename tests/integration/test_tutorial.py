"""The walk that a qmail tutorial takes: aliases, `.forward`, vacation, a broadcast, a `.qmail` with everything, lists.

On a stack of its own, whose default delivery is the tutorial's: `|dot-forward .forward`, then `./Maildir/`.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.sink import Sink
from tests.harness.stack import MAIL_NAME, ROOT, Stack, running
from tests.harness.walk import mail
from tests.integration.conftest import house_of

ACCOUNTS = ("adam", "bob", "tom", "ideal", "eve")
FAR = "mx.far.example"
VIRTUAL = "v.example.test"
EVE = f"eve@{MAIL_NAME}"


@dataclass(frozen=True, slots=True)
class Town:
    """A stack and its people: what they write into their homes, send and get."""

    stack: Stack

    def home(self, user: str) -> Path:
        return self.stack.directory / "alias" if user == "alias" else self.stack.home(user)

    def write(self, user: str, name: str, *lines: str) -> Path:
        """A file in a user's home, of that user."""
        path = self.home(user) / name
        path.write_text("".join(f"{line}\n" for line in lines))
        path.chmod(0o600)
        os.chown(path, self.home(user).stat().st_uid, self.home(user).stat().st_gid)
        return path

    def send(self, subject: str, *recipients: str, sender: str = EVE, head: str = "", body: str = "text") -> None:
        """By SMTP; returns when everything that the message causes is done."""
        text = head.encode() + mail(subject, f"{body}\r\n".encode())
        addresses = [one if "@" in one else f"{one}@{MAIL_NAME}" for one in recipients]
        house_of(self.stack, "eve").send(text, *addresses, sender=sender)
        self.stack.wait_idle()

    def mail_of(self, user: str, maildir: str = "Maildir") -> list[str]:
        """Everything in a Maildir, the newest last."""
        paths = (self.home(user) / maildir / "new").glob("*")
        return [path.read_text() for path in sorted(paths, key=lambda path: path.name)]

    def got(self, user: str, subject: str, maildir: str = "Maildir") -> list[str]:
        return [text for text in self.mail_of(user, maildir) if f"\nSubject: {subject}\n" in text]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, world: Sink) -> Iterator[Town]:
    stack = Stack(
        tmp_path_factory.mktemp("tutorial") / "state",
        accounts=ACCOUNTS,
        environment={"TIME_SCALE": "0.002", "LOG_FORMAT": "qmail"},
        controls={
            "smtproutes": f".far.example:127.0.0.1:{world.port}\n",
            "defaultdelivery": "|dot-forward .forward\n./Maildir/\n",
            "virtualdomains": f"{VIRTUAL}:tom-v\n",
            "rcpthosts": f"{MAIL_NAME}\n{VIRTUAL}\n",
        },
    )
    with running(stack) as up:
        yield Town(up)


def delivered_to(text: str) -> list[str]:
    header = text.partition("\n\n")[0].splitlines()
    return [line.removeprefix("Delivered-To: ") for line in header if line.startswith("Delivered-To: ")]


# -- aliases ----------------------------------------------------------------------------------------------------------


def test_aliases_are_found_in_any_case(town: Town) -> None:
    """The tutorial's four: root, postmaster, mailer-daemon and info."""
    for name, user in (("root", "adam"), ("postmaster", "bob"), ("mailer-daemon", "bob"), ("info", "tom")):
        town.write("alias", f".qmail-{name}", user)
    town.send("aliases", "Root", "POSTmaster", "MAILER-DAEMON", "Info")
    for user, written in (("adam", ["Root"]), ("bob", ["MAILER-DAEMON", "POSTmaster"]), ("tom", ["Info"])):
        copies = sorted(delivered_to(text) for text in town.got(user, "aliases"))
        assert copies == [[f"{user}@{MAIL_NAME}", f"{name}@{MAIL_NAME}"] for name in written], user


def test_an_account_hides_the_alias_of_its_name(town: Town) -> None:
    town.write("alias", ".qmail-ideal", "adam")
    town.send("hidden", "ideal")
    assert len(town.got("ideal", "hidden")) == 1
    assert not town.got("adam", "hidden")


# -- .forward ---------------------------------------------------------------------------------------------------------


def test_without_a_forward_file_the_maildir_gets_it(town: Town) -> None:
    since = town.stack.mark()
    town.send("no forward", "ideal")
    town.stack.said.wait(r"success: did_1\+0\+1/$", since)
    assert delivered_to(town.got("ideal", "no forward")[0]) == [f"ideal@{MAIL_NAME}"]


def test_a_forward_file_is_obeyed_and_the_maildir_left(town: Town) -> None:
    path = town.write("ideal", ".forward", 'adam, "Bob, the postmaster" <bob>', "# not tom")
    since = town.stack.mark()
    town.send("forwarded", "ideal")
    town.stack.said.wait(r"success: dot-forward:_info:_qp_[0-9a-v]{26}/did_0\+0\+1/$", since)
    assert not town.got("ideal", "forwarded")
    for user in ("adam", "bob"):
        (text,) = town.got(user, "forwarded")
        assert delivered_to(text) == [f"{user}@{MAIL_NAME}", f"ideal@{MAIL_NAME}"]
        assert text.startswith(f"Return-Path: <{EVE}>\n")
    town.write("ideal", ".forward", "# nobody")
    town.send("empty forward", "ideal")
    assert len(town.got("ideal", "empty forward")) == 1
    path.unlink()


def test_a_forward_file_may_name_the_user_and_a_command(town: Town) -> None:
    path = town.write("ideal", ".forward", '\\ideal, tom, "|cat > seen"')
    town.send("me too", "ideal")
    assert len(town.got("ideal", "me too")) == len(town.got("tom", "me too")) == 1
    seen = (town.home("ideal") / "seen").read_text()
    assert seen.startswith(f"From {EVE} ")
    assert f"\nReturn-Path: <{EVE}>\nDelivered-To: ideal@{MAIL_NAME}\n" in seen
    path.unlink()


# -- vacation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["preline vacation tom", "vacation tom"])
def test_who_writes_to_somebody_on_vacation_is_told_once(town: Town, how: str) -> None:
    subject = f"by {how.split()[0]}"
    town.write("tom", ".vacation.msg", "Subject: away: $SUBJECT", "", "Back on Monday.")
    path = town.write("tom", ".qmail", f"|{how}", "./Maildir/")
    (town.home("tom") / ".vacation.answered").unlink(missing_ok=True)
    to = f"To: tom@{MAIL_NAME}\r\n"
    for _ in range(2):
        town.send(subject, "tom", sender=f"adam@{MAIL_NAME}", head=f"{to}Message-ID: <m@x>\r\n")
    town.send(subject, "tom", sender="", head=to)
    town.send(subject, "tom", sender=f"bob@{MAIL_NAME}", head=f"{to}List-Id: <x.y>\r\n")
    assert len(town.got("tom", subject)) == 4
    (answer,) = town.got("adam", f"away: {subject}")
    assert answer.startswith(f"Return-Path: <>\nDelivered-To: adam@{MAIL_NAME}\n")
    assert f"\nFrom: tom@{MAIL_NAME}\nTo: adam@{MAIL_NAME}\n" in answer
    assert "\nIn-Reply-To: <m@x>\n" in answer
    assert "\nAuto-Submitted: auto-replied (vacation)\n" in answer
    assert not town.got("bob", f"away: {subject}")
    path.unlink()


# -- everybody --------------------------------------------------------------------------------------------------------


def test_an_alias_for_everybody_takes_mail_from_one_sender(town: Town) -> None:
    check = f"""|bouncesaying 'You may not post here. (#5.7.1)' [ "$SENDER" != "adam@{MAIL_NAME}" ]"""
    town.write("alias", ".qmail-all", check, *ACCOUNTS)
    town.write("alias", ".qmail-all-owner", "bob")
    town.send("not for all", "all")
    assert not any(town.got(user, "not for all") for user in ACCOUNTS if user != "eve")
    assert f"<all@{MAIL_NAME}>:\nYou may not post here. (#5.7.1)\n" in town.got("eve", "failure notice")[-1]
    town.send("for all", "all", sender=f"adam@{MAIL_NAME}")
    for user in ACCOUNTS:
        (text,) = town.got(user, "for all")
        assert text.startswith(f"Return-Path: <all-owner@{MAIL_NAME}>\n")


# -- a .qmail with everything -----------------------------------------------------------------------------------------


def test_program_mbox_maildir_and_forward_in_one_file(town: Town) -> None:
    home = town.home("tom")
    subprocess.run([ROOT / "bin" / "maildirmake", home / "Second"], check=True)
    for path in (home / "Second", *(home / "Second").iterdir()):
        os.chown(path, home.stat().st_uid, home.stat().st_gid)
    told = '|echo "$RECIPIENT $SENDER" > said'
    dot_qmail = town.write("tom", ".qmail", "# all kinds", told, "./Mailbox", "./Second/", f"&friend@{FAR}", "adam")
    since = town.stack.mark()
    town.send("everything", "tom", body="From here\r\n")
    town.stack.said.wait(r"success: did_2\+2\+1/qp_[0-9a-v]{26}/$", since)
    assert (home / "said").read_text() == f"tom@{MAIL_NAME} {EVE}\n"
    mbox = (home / "Mailbox").read_text()
    assert mbox.startswith(f"From {EVE} ")
    assert mbox.endswith("\n\n>From here\n\n\n")
    assert len(town.got("tom", "everything", "Second")) == len(town.got("adam", "everything")) == 1
    dot_qmail.unlink()


def test_a_program_decides(town: Town) -> None:
    asked = ("|except grep -q forbidden", "|condredirect adam@$HOST grep -q 'for adam'", "|forward bob@$HOST")
    path = town.write("tom", ".qmail", *asked, "./Maildir/")
    town.send("decided", "tom", body="for adam")
    town.send("decided too", "tom", body="for everybody")
    town.send("refused", "tom", body="forbidden", sender=f"bob@{MAIL_NAME}")
    subjects = ("decided", "decided too", "refused")
    found = {user: [len(town.got(user, subject)) for subject in subjects] for user in ACCOUNTS}
    assert found["adam"] == [1, 0, 0]
    assert found["bob"][:2] == found["tom"][:2] == [0, 1]
    assert found["tom"][2] == 0
    assert f"<tom@{MAIL_NAME}>:\n" in town.got("bob", "failure notice")[-1]
    path.unlink()


# -- extensions -------------------------------------------------------------------------------------------------------


def test_a_user_has_as_many_addresses_as_he_likes(town: Town) -> None:
    tell = '|echo "$LOCAL|$EXT|$EXT2|$DEFAULT|$HOST" >> told'
    for name in ("news", "dot:ted", "list-default", "v-default"):
        town.write("tom", f".qmail-{name}", tell)
    town.send("extensions", "tom-News", "Tom-dot.ted", "tom-list-a-b", f"anybody@{VIRTUAL}")
    assert sorted((town.home("tom") / "told").read_text().splitlines()) == [
        f"Tom-dot.ted|dot.ted|||{MAIL_NAME}",
        f"tom-News|News|||{MAIL_NAME}",
        f"tom-list-a-b|list-a-b|a-b|a-b|{MAIL_NAME}",
        f"tom-v-anybody|v-anybody|anybody|anybody|{VIRTUAL}",
    ]


# -- a list -----------------------------------------------------------------------------------------------------------


def test_a_list_has_an_owner_and_hears_which_member_bounced(town: Town, world: Sink) -> None:
    town.write("alias", ".qmail-news", f"friend@{FAR}", "adam", f"nobody@{MAIL_NAME}")
    town.write("alias", ".qmail-news-owner", "bob")
    town.send("owned", "news")
    (seen,) = [one for one in world.taken if b"Subject: owned\r\n" in one.text]
    assert seen.sender == f"news-owner@{MAIL_NAME}"
    assert f"<nobody@{MAIL_NAME}>:\n" in town.got("bob", "failure notice")[-1]

    town.write("alias", ".qmail-news-owner-default", '|echo "$DEFAULT" >> gone')
    town.send("verp", "news")
    (seen,) = [one for one in world.taken if b"Subject: verp\r\n" in one.text]
    assert seen.sender == f"news-owner-friend={FAR}@{MAIL_NAME}"
    (text,) = town.got("adam", "verp")
    assert text.startswith(f"Return-Path: <news-owner-adam={MAIL_NAME}@{MAIL_NAME}>\n")
    # Our own bounce names the member in its text, one from elsewhere in the address that it comes to.
    assert (town.home("alias") / "gone").read_text() == "\n"
    town.send("failure", f"news-owner-friend={FAR}", sender="")
    assert (town.home("alias") / "gone").read_text() == f"\nfriend={FAR}\n"


# -- TEST.deliver -----------------------------------------------------------------------------------------------------


def inject(town: Town, text: str, *options: str) -> None:
    """As somebody types it, in the shell of the machine that the stack runs on."""
    environment = town.stack.settings() | {"SEAPOST_STATE": str(town.stack.directory), "QMAILUSER": "ideal"}
    words = [str(ROOT / "bin" / "qmail-inject"), *options]
    done = subprocess.run(words, input=text, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    town.stack.wait_idle()


def test_what_is_typed_in_the_shell_arrives(town: Town) -> None:
    """qmail's TEST.deliver: local to local, a local error, and the bounce that bounces."""
    ideal = f"ideal@{MAIL_NAME}"
    inject(town, "to: ideal\n")
    text = town.mail_of("ideal")[-1]
    assert text.startswith(f"Return-Path: <{ideal}>\nDelivered-To: {ideal}\nReceived: (qmail ")
    assert f" invoked by uid {os.getuid()}); " in text.splitlines()[2]
    assert text.endswith(f"\nto: {ideal}\n"), "nothing after the header"
    inject(town, "to: nonexistent\n")
    bounce = town.mail_of("ideal")[-1]
    assert f"<nonexistent@{MAIL_NAME}>:\nSorry, no mailbox here by that name. (#5.1.1)\n" in bounce
    town.write("alias", ".qmail-postmaster", "bob")
    inject(town, "to: unknownuser\n", "-f", "nonexistent")
    assert town.mail_of("bob")[-1].startswith(f"Return-Path: <#@[]>\nDelivered-To: bob@{MAIL_NAME}\n")
