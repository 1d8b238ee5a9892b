"""The account files as they change under a running service."""

import os
from pathlib import Path

import pytest

from mail import assign
from runtime.accounts import GONE_S, Accounts, AccountsError, AssignmentsError, Places
from runtime.clock import SystemClock


def write(directory: Path, name: str, text: str) -> None:
    """As useradd(8) does: a new file takes the place of the old one."""
    draft = directory / f"{name}.new"
    draft.write_text(text)
    draft.replace(directory / name)


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    accounts = Accounts(Places(str(tmp_path), "/homes"))
    write(tmp_path, "passwd", "ann:x:1001:1001::/home/ann:/bin/sh\n")
    ann = accounts.find("ann")
    assert ann is not None
    assert ann.home == "/home/ann"
    write(tmp_path, "passwd", "bob:x:1002:1002::/home/bob:/bin/sh\n")
    assert accounts.find("ann") is None
    assert accounts.find("bob") is not None


def test_a_missing_passwd_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    accounts = Accounts(Places(str(tmp_path), "/homes"))
    with pytest.raises(AccountsError, match="passwd: No such file"):
        accounts.find("ann")
    write(tmp_path, "passwd", "ann:x:1001:1001::/home/ann:/bin/sh\n")
    assert accounts.find("ann") is not None
    os.unlink(tmp_path / "passwd")
    with pytest.raises(AccountsError):
        accounts.find("ann")


def test_login_defs_beside_the_files_says_where_people_begin(tmp_path: Path) -> None:
    accounts = Accounts(Places(str(tmp_path), "/homes"))
    write(tmp_path, "passwd", "old:x:500:500::/home/old:/bin/sh\n")
    assert accounts.find("old") is None
    write(tmp_path, "login.defs", "UID_MIN 500\n")
    assert accounts.find("old") is not None


def test_alias_is_the_account_of_that_name_or_else_the_alias_directory(tmp_path: Path) -> None:
    accounts = Accounts(Places(str(tmp_path), "/homes", "/state/alias", 7790))
    write(tmp_path, "passwd", "ann:x:1001:1001::/home/ann:/bin/sh\n")
    found = accounts.find("alias")
    assert found is not None
    assert (found.uid, found.gid, found.home) == (7790, 7790, "/state/alias")
    write(tmp_path, "passwd", "alias:x:120:65534::/var/qmail/alias:/bin/true\n")
    found = accounts.find("alias")
    assert found is not None
    assert (found.uid, found.home) == (120, "/var/qmail/alias")


def test_a_relative_home_lies_below_the_homes_directory(tmp_path: Path) -> None:
    write(tmp_path, "passwd", "demo:x:7801:7801::demo:/bin/sh\n")
    found = Accounts(Places(str(tmp_path), "/state/homes")).find("demo")
    assert found is not None
    assert found.home == "/state/homes/demo"


def test_without_root_everybody_is_the_invoking_user(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    write(
        tmp_path,
        "passwd",
        f"ann:x:1001:1001::/missing/ann:/bin/sh\nbob:x:500:0::{there}:/bin/sh\nroot:x:0:0::/root:/bin/sh\n",
    )
    write(tmp_path, "group", "friends:x:90:ann\n")
    accounts = Accounts(Places(str(tmp_path), "/state/homes", "/state/alias", 7790, own=(4321, 0)))
    ann, alias = accounts.find("ann"), accounts.find("alias")
    assert ann is not None
    assert (ann.uid, ann.gid, ann.groups, ann.home) == (4321, 0, (), "/state/homes/ann")
    assert alias is not None
    assert (alias.uid, alias.home) == (4321, "/state/alias")
    assert accounts.find("root") is None


def test_a_shadow_entry_is_found_and_a_missing_file_is_an_error(tmp_path: Path) -> None:
    accounts = Accounts(Places(str(tmp_path), "/homes"))
    with pytest.raises(AccountsError):
        accounts.shadow("ann")
    write(tmp_path, "shadow", "ann:$6$x:1:0:99999:7:::\n")
    entry = accounts.shadow("ann")
    assert entry is not None
    assert entry.password_hash == "$6$x"
    assert accounts.shadow("bob") is None


JOE = "=joe:joe:1001:100:/home/joe:::\n"
ANN = "+ann-:ann:1002:100:/home/ann:-::\n"


class Stopped(SystemClock):
    """A clock that the test moves."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


class Users:
    """A directory of users/ with Accounts that look into it, and what they say to the operator."""

    def __init__(self, path: Path, own: tuple[int, int] | None = None) -> None:
        self.path = path
        self.alerts: list[str] = []
        self.clock = Stopped()
        write(path, "passwd", "root:x:0:0::/root:/bin/sh\n")
        places = Places(str(path), "/state/homes", "/state/alias", 7790, own, users_dir=str(path))
        self.accounts = Accounts(places, self.alerts.append, self.clock)

    def assigned(self, local: str) -> str | None:
        found = self.accounts.assignment(local)
        return found.key if found else None


def test_an_assignment_is_obeyed_as_soon_as_the_text_is_replaced(tmp_path: Path) -> None:
    users = Users(tmp_path)
    assert users.assigned("joe") is None
    write(tmp_path, "assign", JOE + ".\n")
    assert users.assigned("joe") == "=joe"
    write(tmp_path, "assign", ANN + ".\n")
    assert (users.assigned("joe"), users.assigned("ann-x")) == (None, "+ann-")
    assert users.alerts == []


@pytest.mark.parametrize("spoilt", ["", ANN, ANN + "joe\n.\n"])
def test_a_spoilt_text_changes_nothing_and_is_told_once(tmp_path: Path, spoilt: str) -> None:
    users = Users(tmp_path)
    write(tmp_path, "assign", JOE + ".\n")
    users.accounts.prime()
    write(tmp_path, "assign", spoilt)
    for _ in range(3):
        assert (users.assigned("joe"), users.assigned("ann-x")) == ("=joe", None)
    [alert] = users.alerts
    assert alert.startswith(f"{tmp_path}/assign: ")
    assert "stays in force" in alert
    write(tmp_path, "assign", ANN + ".\n")
    assert users.assigned("ann-x") == "+ann-"


def test_a_text_that_was_never_whole_leaves_everything_unknown(tmp_path: Path) -> None:
    write(tmp_path, "assign", JOE)
    users = Users(tmp_path)
    users.accounts.prime()
    for _ in range(2):
        with pytest.raises(AssignmentsError, match="assign"):
            users.assigned("somebody")
    assert len(users.alerts) == 1
    assert "deferred" in users.alerts[0]


def test_a_text_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "assign").mkdir()
    with pytest.raises(AccountsError, match="directory"):
        Users(tmp_path).assigned("joe")


def test_a_text_that_an_editor_has_away_for_a_moment_stays_in_force(tmp_path: Path) -> None:
    users = Users(tmp_path)
    write(tmp_path, "assign", JOE + ".\n")
    assert users.assigned("joe") == "=joe"
    os.unlink(tmp_path / "assign")
    assert users.assigned("joe") == "=joe"
    users.clock.now_s += GONE_S
    assert users.assigned("joe") is None


def test_cdb_is_read_where_there_is_no_text(tmp_path: Path) -> None:
    users = Users(tmp_path)
    (tmp_path / "cdb").write_bytes(assign.compiled(f"{JOE}.\n".encode()))
    assert users.assigned("Joe") == "=joe"
    write(tmp_path, "assign", ANN + ".\n")
    assert users.assigned("joe") is None
    os.unlink(tmp_path / "assign")
    (tmp_path / "cdb").write_bytes(b"cut off")
    assert users.assigned("ann-x") == "+ann-"
    assert len(users.alerts) == 1


def test_an_assigned_account_has_the_numbers_of_its_line_and_the_groups_of_its_user(tmp_path: Path) -> None:
    users = Users(tmp_path)
    write(tmp_path, "group", "friends:x:90:joe,ann\n")
    write(tmp_path, "assign", JOE + ANN + "=rel:rel:1003:1003:homes/r/el:::\n.\n")
    joe, ann, rel = (users.accounts.find(key) for key in ("=joe", "+ann-", "=rel"))
    assert joe is not None
    assert (joe.name, joe.uid, joe.gid, joe.groups, joe.home, joe.key) == ("joe", 1001, 100, (90,), "/home/joe", "=joe")
    assert ann is not None
    assert ann.key == "+ann-"
    assert rel is not None
    assert rel.home == "/state/homes/r/el"
    assert users.accounts.find("=nobody") is None


@pytest.mark.parametrize("ids", ["0:100", "1001:0", "999:100", "x:100"])
def test_an_assignment_to_root_or_to_a_system_account_is_no_account(tmp_path: Path, ids: str) -> None:
    users = Users(tmp_path)
    write(tmp_path, "assign", f"=joe:joe:{ids}:/home/joe:::\n.\n")
    assert users.assigned("joe") == "=joe"
    assert users.accounts.find("=joe") is None


def test_qmails_own_alias_user_is_the_alias_account_of_here(tmp_path: Path) -> None:
    users = Users(tmp_path)
    write(tmp_path, "assign", "+:alias:64010:2108:/var/qmail/alias:-::\n+a-:alias:120:120:/srv/a:-::\n.\n")
    found = users.accounts.find("+")
    assert found is not None
    assert (found.uid, found.home, found.key) == (7790, "/state/alias", "+")
    other = users.accounts.find("+a-")
    assert other is not None
    assert (other.uid, other.home) == (120, "/srv/a")


def test_without_root_an_assigned_account_is_the_invoking_user_too(tmp_path: Path) -> None:
    users = Users(tmp_path, own=(4321, 4321))
    write(tmp_path, "assign", JOE + "=here:here:5:5:/:::\n=root:root:0:0:/:::\n.\n")
    joe, here = users.accounts.find("=joe"), users.accounts.find("=here")
    assert joe is not None
    assert (joe.uid, joe.gid, joe.home) == (4321, 4321, "/state/homes/joe")
    assert here is not None
    assert (here.uid, here.home) == (4321, "/")
    assert users.accounts.find("=root") is None
