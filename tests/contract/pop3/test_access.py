"""Who gets in, and what nobody reaches: passwords, names, other people's files."""

import os
import poplib
import shutil
from pathlib import Path

import pytest

from tests.harness.pop3_house import PASSWORD, ROOT, House, crypt, hang_up, until_closed

as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user")


@pytest.mark.parametrize(
    "setting", ["$y$j9T$abcdefghijklmnop$", "$6$saltsalt$", "$2b$04$abcdefghijklmnopqrstuu"], ids=lambda text: text[1:3]
)
def test_hashes_of_every_scheme_let_their_owner_in(house: House, setting: str) -> None:
    ann = house.account(hashed=crypt(PASSWORD, setting))
    client = house.login(ann)
    assert client.stat() == (0, 0)
    client.quit()


@pytest.mark.parametrize(
    ("hashed", "expires"),
    [("", ""), ("!", ""), ("*", ""), ("!" + crypt(PASSWORD, "$6$saltsalt$"), ""), ("x", ""), (None, "1")],
    ids=["empty", "locked", "starred", "locked hash", "x", "expired"],
)
def test_accounts_that_are_closed_let_nobody_in(house: House, hashed: str | None, expires: str) -> None:
    ann = house.account(hashed=hashed, expires=expires)
    client = house.connect()
    client.user(ann.name)
    with pytest.raises(poplib.error_proto, match=r"-ERR \[AUTH\] authorization failed"):
        client.pass_(PASSWORD)
    client.quit()
    assert not ann.maildir.exists()


@pytest.mark.parametrize(
    "name", ["nobody-here", "../ann", "root", "%s%n", "a" * 900, "caf\u00e9", "\x7f\x1b[2J", "alias", "a:b", "~"]
)
def test_names_that_are_no_accounts_are_refused_alike(house: House, name: str) -> None:
    with house.raw() as line:
        line.sendall(b"USER %s\r\nPASS %s\r\nQUIT\r\n" % (name.encode(), PASSWORD.encode()))
        assert until_closed(line).split(b"\r\n")[1:] == [
            b"+OK ",
            b"-ERR [AUTH] authorization failed",
            b"+OK ",
            b"",
        ]


@as_root
def test_an_account_below_uid_min_and_one_with_anothers_home_are_refused(house: House) -> None:
    system = house.account(uid=99)
    thief = house.account()
    os.chown(thief.home, thief.uid + 1, thief.uid)
    for account in (system, thief):
        client = house.connect()
        client.user(account.name)
        with pytest.raises(poplib.error_proto, match=r"\[AUTH\]"):
            client.pass_(PASSWORD)
        client.quit()
        assert not account.maildir.exists()


def test_a_wrong_password_is_an_event_without_the_password(house: House) -> None:
    ann = house.account()
    client = house.connect()
    client.user(ann.name)
    with pytest.raises(poplib.error_proto):
        client.pass_("my secret")
    client.quit()
    failed = house.next_event("login failed", ann)
    assert set(failed) == {"time", "service", "event", "user", "peer"}


def test_what_replaces_a_message_meanwhile_neither_hangs_nor_is_read(house: House) -> None:
    ann = house.account()
    first = ann.put("a", b"one\n", mtime=1)
    second = ann.put("b", b"two\n", mtime=2)
    client = house.login(ann)
    first.unlink()
    os.mkfifo(first)
    second.unlink()
    second.symlink_to("/etc/passwd")
    for number in (1, 2):
        with pytest.raises(poplib.error_proto, match="unable to open that message"):
            client.retr(number)
    hang_up(client)


@as_root
def test_a_maildir_that_points_at_anothers_shows_nothing(house: House) -> None:
    victim, thief = house.account(), house.account()
    victim.put("a", b"secret\n")
    thief.put("b", b"own\n")
    shutil.rmtree(thief.maildir / "new")
    (thief.maildir / "new").symlink_to(victim.maildir / "new")
    client = house.connect()
    client.user(thief.name)
    with pytest.raises(poplib.error_proto, match="no \\$HOME/Maildir"):
        client.pass_(thief.password)
    client.quit()


@as_root
def test_a_maildir_that_its_owner_closed_is_later(house: House) -> None:
    ann = house.account()
    ann.put("a", b"text\n")
    ann.maildir.chmod(0)
    client = house.connect()
    client.user(ann.name)
    with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\] unable to scan"):
        client.pass_(ann.password)
    client.quit()


@as_root
def test_a_hard_link_to_what_the_user_may_not_read_is_refused(house: House) -> None:
    ann = house.account()
    ann.put("a", b"text\n", mtime=1)
    secret = house.state / "homes" / "secret"
    secret.write_bytes(b"secret\n")
    secret.chmod(0o600)
    os.link(secret, ann.maildir / "new" / "b")
    client = house.login(ann)
    assert client.stat()[0] == 2
    with pytest.raises(poplib.error_proto, match="unable to open"):
        client.retr(2)
    client.quit()


def test_hostile_names_are_passed_over(house: House) -> None:
    ann = house.account()
    ann.put("good", b"text\n")
    for name in ("two\nlines", "a b", ".hidden", "\udcff"):
        ann.put(name, b"text\n")
    client = house.login(ann)
    assert client.uidl()[1] == [b"1 good"]
    client.quit()


@as_root
def test_the_front_has_no_rights_and_no_hash(house: House) -> None:
    status = Path(f"/proc/{house.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Uid:\t7795\t7795\t7795\t7795" in status


@as_root
def test_a_session_is_a_process_of_its_user(house: House) -> None:
    ann = house.account()
    client = house.login(ann)
    owners = {path.stat().st_uid for path in Path("/proc").iterdir() if path.name.isdecimal() and path.exists()}
    uids = [
        line.split()[1]
        for path in Path("/proc").glob("[0-9]*/status")
        for line in _read(path).splitlines()
        if line.startswith("Uid:")
    ]
    assert str(ann.uid) in uids
    assert owners
    client.quit()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
