"""Accounts in the state directory's own passwd, shadow and group: the first one, and adding more.

The files have the formats of passwd(5), shadow(5) and group(5). Accounts that are not ours (a host's /etc, mounted
read-only) are left alone. A relative home means homes/<name>, so that the state directory can be moved.
"""

import os
import re
import secrets

from cli.places import Places
from cli.refusal import Refusal
from cli.topology import DEMO_UID
from runtime.durable import Disk
from runtime.passwords import PasswordError, make_hash

DEMO = "demo"
_FILES = {"passwd": 0o644, "shadow": 0o600, "group": 0o644}
# useradd(8)'s rule for names, without the upper case that qmail ignores.
_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")
# 16 of 32 characters are 80 bits; no two of them look alike.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_PASSWORD_CHARACTERS = 16
_UID_LAST = 59_999  # UID_MAX of login.defs


def ours(places: Places) -> bool:
    """Whether the account files are this state directory's own, rather than the host's."""
    return os.path.dirname(places.accounts) == places.state


def has_demo(places: Places) -> bool:
    """Whether mail for postmaster can go to the demo account."""
    return ours(places) and DEMO in _entries(places, "passwd")


def ensure_demo(places: Places) -> str | None:
    """Makes the account files with the account `demo` when there is no passwd file; returns its new password.

    The password is kept in the state directory's demo.password, which only its owner can read.
    """
    if not ours(places) or os.path.exists(os.path.join(places.accounts, "passwd")):
        return None
    os.makedirs(places.accounts, mode=0o755, exist_ok=True)
    password = _make_password()
    Disk().replace_file(places.demo_password, f"{password}\n".encode(), 0o600)
    _write_account(places, DEMO, DEMO_UID if os.geteuid() == 0 else os.getuid(), password)
    return password


def add(places: Places, name: str) -> str:
    """A new account with the next free uid; returns the password made up for it."""
    if not ours(places):
        raise Refusal(f"{places.accounts}: these accounts are the host's: add the user there with adduser")
    if not _NAME.match(name):
        raise Refusal(f"{name!r} is not a user name: use lower-case letters, digits, - and _, at most 32")
    entries = _entries(places, "passwd")
    if name in entries:
        raise Refusal(f"there is an account {name} already: choose another name")
    uid = os.getuid()
    if os.geteuid() == 0:
        taken = {int(fields[2]) for fields in entries.values() if len(fields) > 2 and fields[2].isdecimal()}
        uid = next((uid for uid in range(DEMO_UID, _UID_LAST) if uid not in taken), -1)
        if uid < 0:
            raise Refusal(f"{places.accounts}/passwd: no uid from {DEMO_UID} to {_UID_LAST} is free: remove accounts")
    password = _make_password()
    _write_account(places, name, uid, password)
    return password


def names(places: Places) -> list[str]:
    """The names in the passwd file."""
    return sorted(_entries(places, "passwd"))


def _make_password() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_CHARACTERS))


def _write_account(places: Places, name: str, uid: int, password: str) -> None:
    try:
        hashed = make_hash(password)
    except PasswordError as error:
        raise Refusal(str(error)) from error
    _home(places, name, uid)
    gid = uid if os.geteuid() == 0 else os.getgid()
    # passwd last: an account exists when its line there does, and its password and group are then there already.
    _append(places, "shadow", f"{name}:{hashed}:::::::")
    _append(places, "group", f"{name}:x:{gid}:")
    _append(places, "passwd", f"{name}:x:{uid}:{gid}:{name}:homes/{name}:/usr/sbin/nologin")


def _home(places: Places, name: str, uid: int) -> None:
    home = os.path.join(places.homes, name)
    if not os.path.isdir(home):
        os.makedirs(home, mode=0o700)
        if os.geteuid() == 0:
            os.chown(home, uid, uid)


def _append(places: Places, file: str, line: str) -> None:
    """A line at the end, in place of one for the same name that a crash left behind."""
    path = os.path.join(places.accounts, file)
    name = line.partition(":")[0]
    kept = [":".join(fields) for other, fields in _entries(places, file).items() if other != name]
    Disk().replace_file(path, ("\n".join([*kept, line]) + "\n").encode(), _FILES[file])


def _entries(places: Places, file: str) -> dict[str, list[str]]:
    try:
        with open(os.path.join(places.accounts, file), encoding="utf-8", errors="surrogateescape") as opened:
            lines = opened.read().splitlines()
    except FileNotFoundError:
        return {}
    return {line.partition(":")[0]: line.split(":") for line in lines if line}
