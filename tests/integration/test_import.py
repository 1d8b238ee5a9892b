"""A qmail installation, copied: control files, aliases, a compiled users/cdb and homes do what they did there."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mail import assign
from tests.harness.stack import MAIL_NAME, ROOT, Stack, running

CONTROL = {
    "me": MAIL_NAME,
    "defaultdomain": "example.test",
    "plusdomain": "example.test",
    "locals": f"localhost\n{MAIL_NAME}\nexample.test",
    "rcpthosts": f"localhost\n{MAIL_NAME}\nexample.test\nvirtual.test\n.virtual.test",
    "virtualdomains": "virtual.test:bob\n.virtual.test:alias-any\none@two.test:alice",
    "defaultdelivery": "|dot-forward .forward\n./Maildir/",
    "concurrencyremote": "100",
    "databytes": "20971520",
    "queuelifetime": "604800",
    "badmailfrom": "# nobody\n@spam.example",
}
ALIAS = {
    ".qmail-postmaster": "&alice\n",
    ".qmail-mailer-daemon": "postmaster\n",
    ".qmail-root": "alice",
    ".qmail-staff": f"# all of us\n&alice\n&bob@{MAIL_NAME}\n",
    ".qmail-staff-owner": "alice\n",
    ".qmail-any-default": '|forward "alice-$DEFAULT@example.test"\n',
}
HOMES = {
    "alice": {".forward": "", ".qmail-default": "./Maildir/\n|echo EXT=$EXT DEFAULT=$DEFAULT >> seen\n"},
    "bob": {
        ".qmail": "./Mailbox\n",
        ".qmail-info": "|preline -rd cat >> info\n",
        ".qmail-default": "|bouncesaying 'not here (#5.1.1)' [ \"$EXT\" = nobody ]\n./Mailbox\n",
    },
}


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("import")
    qmail = folder / "var-qmail"
    for name, files in (("control", CONTROL), ("alias", ALIAS)):
        (qmail / name).mkdir(parents=True)
        for file, content in files.items():
            (qmail / name / file).write_text(content + ("\n" if name == "control" else ""))
    stack = Stack(folder / "state", accounts=("alice", "bob"))
    stack.prepare()
    home, ids = stack.home("alice"), stack.home("alice").stat()
    whose = f"alice:{ids.st_uid}:{ids.st_gid}:{home}:-"
    lines = f"=office:{whose}:office:\n+sales.:{whose}:s-:\n.\n"
    (qmail / "users").mkdir()
    (qmail / "users" / "cdb").write_bytes(assign.compiled(lines.encode()))
    for name in ("control", "alias", "users"):
        shutil.copytree(qmail / name, stack.directory / name)
    for user, files in HOMES.items():
        for file, content in files.items():
            path = stack.home(user) / file
            path.write_text(content)
            path.chmod(0o600)
            os.chown(path, stack.home(user).stat().st_uid, stack.home(user).stat().st_gid)
    with running(stack) as up:
        yield up


def send(stack: Stack, subject: str, *recipients: str) -> None:
    environment = {"PATH": os.environ["PATH"], "SEAPOST_STATE": str(stack.directory)}
    words = [str(ROOT / "bin" / "qmail-inject"), "-fjoe@far.example", *recipients]
    text = f"Subject: {subject}\n\nFrom far away\n".encode()
    subprocess.run(words, input=text, env=environment, check=True, timeout=60)
    stack.wait_idle()


def of(path: Path) -> bytes:
    """What is in a file, or in the new/ of a Maildir."""
    return b"".join(one.read_bytes() for one in sorted(path.iterdir())) if path.is_dir() else path.read_bytes()


def test_addresses_reach_who_had_them(imported: Stack) -> None:
    alice, bob = imported.home("alice"), imported.home("bob")
    send(imported, "plain", "Alice", "bob@example.test")
    send(imported, "alias", "POSTmaster@example.test", "mailer-daemon", "root")
    send(imported, "list", "staff")
    send(imported, "assigned", "Office@example.test", "sales.North")
    send(imported, "virtual", "info@virtual.test", "else@virtual.test", "Someone@deep.virtual.test", "one@two.test")
    name = MAIL_NAME.encode()
    got = of(alice / "Maildir" / "new")
    subjects = [got.count(b"\nSubject: %b\n" % one) for one in (b"plain", b"alias", b"list", b"assigned", b"virtual")]
    assert subjects == [1, 3, 1, 2, 2]
    assert b"Return-Path: <staff-owner@%b>\n" % name in got
    seen = (alice / "seen").read_text().splitlines()
    assert sorted(seen) == [f"EXT={ext} DEFAULT={ext}" for ext in ("Someone", "office", "one", "s-North")]
    mailbox = of(bob / "Mailbox")
    assert [mailbox.count(b"\nSubject: %b\n" % one) for one in (b"plain", b"list", b"virtual")] == [1, 1, 1]
    assert b"\nDelivered-To: bob-else@virtual.test\n" in mailbox
    assert b"\n>From far away\n\n" in mailbox
    assert of(bob / "info").startswith(b"From joe@far.example ")
