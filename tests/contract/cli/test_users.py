"""`seapost user`: accounts that are made, changed and ended, and what a person is asked."""

import json
import os
import pty
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli import accounts
from cli.places import Places, find
from cli.refusal import Refusal
from runtime.passwords import check
from tests.contract.cli.test_commands import SEAPOST, seapost
from tests.harness.local_house import ROOT

as_root = pytest.mark.skipif(not ROOT, reason="needs root: without it everybody is the invoking user")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return find(str(tmp_path), {})


def opens(places: Places, name: str, password: str) -> bool:
    for line in Path(places.accounts, "shadow").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return check(password.encode(), line.split(":")[1], line.split(":")[1])
    return False


def passwd_of(places: Places, name: str) -> list[str]:
    lines = Path(places.accounts, "passwd").read_text().splitlines()
    return next(line.split(":") for line in lines if line.startswith(f"{name}:"))


def test_an_account_is_for_mail_only_and_has_all_that_it_needs(places: Places) -> None:
    made = accounts.add(places, "joe", "secret")
    _, _, uid, gid, _, home, shell = passwd_of(places, "joe")
    assert (home, shell) == ("homes/joe", "/usr/sbin/nologin")
    assert Path(places.accounts, "group").read_text() == f"mailusers:x:{gid}:\n"
    assert opens(places, "joe", "secret")
    for name, mode in (("", 0o700), ("Maildir", 0o700), ("Maildir/new", 0o700), (".qmail", 0o600)):
        found = os.stat(os.path.join(made.home, name))
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (int(uid), int(gid), mode)
    assert Path(made.home, ".qmail").read_text() == "./Maildir/\n"
    assert stat.S_IMODE(Path(places.accounts, "shadow").stat().st_mode) == 0o600
    assert sorted(os.listdir(places.homes)) == ["joe"]


def test_the_old_password_ends_with_the_new_one(places: Places) -> None:
    accounts.add(places, "joe", "old")
    accounts.set_password(places, "joe", "new")
    assert opens(places, "joe", "new")
    assert not opens(places, "joe", "old")
    assert len(Path(places.accounts, "shadow").read_text().splitlines()) == 1


def test_what_others_wrote_into_the_files_stays(places: Places) -> None:
    accounts.add(places, "ann", "secret")
    for name, line in (("passwd", "# by hand\n+::::::\n"), ("group", "friends:x:90:joe,ann\n")):
        with Path(places.accounts, name).open("a") as file:
            file.write(line)
    Path(places.accounts, "shadow").chmod(0o640)
    accounts.add(places, "joe", "secret")
    accounts.remove(places, "joe")
    assert "# by hand\n+::::::\n" in Path(places.accounts, "passwd").read_text()
    assert "friends:x:90:ann\n" in Path(places.accounts, "group").read_text()
    assert stat.S_IMODE(Path(places.accounts, "shadow").stat().st_mode) == 0o640
    assert opens(places, "ann", "secret")
    assert "joe" not in Path(places.accounts, "shadow").read_text()


def test_the_home_of_who_has_ended_waits_for_the_same_name(places: Places) -> None:
    home = Path(accounts.add(places, "joe", "secret").home)
    uid = passwd_of(places, "joe")[2]
    (home / "Maildir" / "new" / "mail").write_text("kept")
    assert accounts.remove(places, "joe") == str(home)
    other = accounts.add(places, "ann", "secret")
    if ROOT:
        assert other.uid != int(uid), "a stranger would own the mail"
    again = accounts.add(places, "joe", "secret")
    assert again.home_kept
    assert passwd_of(places, "joe")[2] == uid
    assert (home / "Maildir" / "new" / "mail").read_text() == "kept"


@as_root
def test_a_home_that_is_somebody_elses_is_not_given_away(places: Places) -> None:
    ann = accounts.add(places, "ann", "secret")
    for owner in (0, ann.uid):
        home = Path(places.homes, f"joe{owner}")
        home.mkdir()
        os.chown(home, owner, owner)
        with pytest.raises(Refusal, match="belongs to uid"):
            accounts.add(places, f"joe{owner}", "secret")
    Path(places.homes, "link").symlink_to(ann.home)
    with pytest.raises(Refusal, match="no directory"):
        accounts.add(places, "link", "secret")


@pytest.mark.parametrize(
    "name", ["root", "alias", "postmaster", "mailusers", "Joe", "j.doe", "a" * 32, "", "-x", "../x", "a:b", "j\n"]
)
def test_what_is_no_name_for_a_person_is_refused(places: Places, name: str) -> None:
    with pytest.raises(Refusal):
        accounts.add(places, name, "secret")
    assert not Path(places.accounts, "passwd").exists()


@as_root
def test_a_system_account_is_left_alone(places: Places) -> None:
    accounts.add(places, "ann", "secret")
    with Path(places.accounts, "passwd").open("a") as file:
        file.write("root:x:0:0::/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n")
    for name in ("root", "www"):
        with pytest.raises(Refusal, match="system account"):
            accounts.set_password(places, name, "secret")
        with pytest.raises(Refusal, match="system account"):
            accounts.remove(places, name)


_HOLD = (
    "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()"
)


def test_who_comes_while_another_changes_the_accounts_waits_and_then_says_so(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.add(places, "ann", "secret")
    monkeypatch.setattr(accounts, "_LOCK_WITHIN_S", 0.1)
    words = [sys.executable, "-c", _HOLD, os.path.join(places.accounts, ".pwd.lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(Refusal, match="somebody else is changing"):
            accounts.add(places, "joe", "secret")
        other.communicate(b"\n")
    accounts.add(places, "joe", "secret")


def test_many_at_once_all_get_an_account_of_their_own(places: Places) -> None:
    names = [f"user{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:  # processes, for the lock is between processes
        done = list(pool.map(lambda name: seapost("user", "add", name, "--state", places.state), names))
    assert [one.returncode for one in done] == [0] * len(names)
    uids = [passwd_of(places, name)[2] for name in names]
    if ROOT:
        assert len(set(uids)) == len(names)
    listed = seapost("user", "list", "--json", "--state", places.state)
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == names


def test_a_script_sends_the_password_in_a_line(places: Places) -> None:
    def said(*words: str, told: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [SEAPOST, "user", *words, "--state", places.state], input=told, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    assert said("add", "joe", "--password-stdin", told="first one \nmore\n") == (0, "account joe is made\n", "")
    assert opens(places, "joe", "first one ")
    assert said("passwd", "joe", "--password-stdin", told="second\r\n")[0] == 0
    assert opens(places, "joe", "second")
    for wrong in ("", "\n", "a\tb\n", "x" * 600 + "\n"):
        status, _, complaint = said("passwd", "joe", "--password-stdin", told=wrong)
        assert (status, complaint.startswith("seapost: the password")) == (2, True)
    status, _, complaint = said("passwd", "joe", told="")
    assert (status, "--password-stdin" in complaint) == (2, True)
    assert opens(places, "joe", "second")
    status, printed, _ = said("passwd", "joe", "--random", told="")
    assert opens(places, "joe", printed.split()[-1])


def test_the_home_goes_only_with_a_yes(places: Places) -> None:
    home = Path(accounts.add(places, "joe", "secret").home)
    Path(places.alias).mkdir()
    Path(places.alias, ".qmail-info").write_text("&ann\n&joe\n")
    asked = subprocess.run(
        [SEAPOST, "user", "del", "joe", "--remove-home", "--state", places.state],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, "--yes" in asked.stderr, home.is_dir()) == (2, True, True)
    assert passwd_of(places, "joe")
    done = seapost("user", "del", "joe", "--remove-home", "--yes", "--state", places.state)
    assert (done.returncode, done.stdout) == (0, "account joe has ended\n")
    assert done.stderr == f"seapost: {places.alias}/.qmail-info still forwards to joe: name somebody else in it\n"
    assert os.listdir(places.homes) == []
    assert seapost("user", "del", "joe", "--state", places.state).returncode == 1


def test_the_hosts_own_accounts_are_not_touched(tmp_path: Path) -> None:
    done = seapost("user", "add", "joe", SEAPOST_STATE=str(tmp_path), ACCOUNTS_DIR="/etc")
    assert done.returncode == 1
    assert "useradd -m -g mailusers -s /usr/sbin/nologin joe && passwd joe" in done.stderr
    missing = seapost("user", "add", "joe", SEAPOST_STATE=str(tmp_path), ACCOUNTS_DIR=str(tmp_path / "no" / "etc"))
    assert (missing.returncode, "ACCOUNTS_DIR" in missing.stderr) == (1, True)


def test_a_mounted_directory_is_as_good_as_the_state_directory(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    (mounted / "accounts").mkdir(parents=True)
    environ = {
        "SEAPOST_STATE": str(tmp_path / "state"),
        "ACCOUNTS_DIR": str(mounted / "accounts"),
        "HOMES_DIR": str(mounted / "homes"),
    }
    assert seapost("user", "add", "joe", **environ).returncode == 0
    assert (mounted / "homes" / "joe" / "Maildir").is_dir()
    assert seapost("user", "list", **environ).stdout == "joe\n"


def test_a_person_types_the_password_twice_and_sees_nothing_of_it(places: Places) -> None:
    shown = typed(["user", "add", "joe", "--state", places.state], "one", "two", "secret", "secret")
    assert "not the same" in shown
    assert "account joe is made" in shown
    assert "secret" not in shown
    assert opens(places, "joe", "secret")
    assert "nothing was done" in typed(["user", "del", "joe", "--remove-home", "--state", places.state], "n")
    assert passwd_of(places, "joe")


def typed(words: list[str], *lines: str) -> str:
    """What a terminal shows to somebody who answers each prompt with the next line."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [SEAPOST, *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=_own_terminal
    )
    os.close(theirs)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    shown, waiting = "", list(lines)
    try:
        while True:
            try:
                more = os.read(ours, 1_000).decode()
            except OSError:  # the terminal is closed
                break
            shown += more
            if waiting and shown.rstrip("\r\n").endswith((": ", "[y/N] ")) and more.endswith(" "):
                os.write(ours, waiting.pop(0).encode() + b"\n")
    finally:
        watchdog.cancel()
        process.wait()
        os.close(ours)
    return shown


def _own_terminal() -> None:
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # a session's first terminal is its own
