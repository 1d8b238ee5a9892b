"""The account files as they change under a running service."""

import os
from pathlib import Path

import pytest

from runtime.accounts import Accounts, AccountsError, Places


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
