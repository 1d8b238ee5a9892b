"""The account files of one directory, read again when one of them is replaced or changed.

Knows where they are, whose homes are where, and what running without root means. Reads no home: who owns one is found
out by the spawner's child. An unreadable file is AccountsError, never "no such account": ignorance means later.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from mail.accounts import (
    ALIAS,
    UID_MIN_DEFAULT,
    Account,
    Shadow,
    may_have_mail,
    parse_group,
    parse_passwd,
    parse_shadow,
    parse_uid_min,
    with_groups,
)

_FILE_MAX_OCTETS = 64 * 1024 * 1024  # half a million accounts; more is a mistake, and is held in memory whole

T = TypeVar("T")


class AccountsError(Exception):
    """An account file cannot be read; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where accounts are. `own` is (uid, gid) of the one user that everybody is when nothing runs as root."""

    accounts_dir: str
    homes_dir: str
    alias_dir: str = ""
    alias_uid: int = 7_790
    own: tuple[int, int] | None = None

    @classmethod
    def here(cls, accounts_dir: str, homes_dir: str, alias_dir: str = "", alias_uid: int = 7_790) -> "Places":
        """As this process sees them. Ask before a front gives up root."""
        own = None if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        return cls(accounts_dir, homes_dir, alias_dir, alias_uid, own)


class _File(Generic[T]):
    """One file, parsed, and the stat it was parsed at."""

    def __init__(self, path: str, parse: Callable[[str], T], missing: T | None = None) -> None:
        self._path = path
        self._parse = parse
        self._missing = missing
        self._seen: tuple[int, int, int, int] | None = None
        self._value: T | None = missing

    def read(self) -> T:
        """What the file says now; AccountsError when it cannot be read."""
        try:
            found = os.stat(self._path)
            seen = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
            if seen != self._seen or self._value is None:
                self._value = self._parse(self._content())
                self._seen = seen
        except FileNotFoundError as error:
            if self._missing is None:
                raise self._unreadable(error) from error
            self._value, self._seen = self._missing, None
        except OSError as error:
            raise self._unreadable(error) from error
        return self._value

    def _content(self) -> str:
        with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read(_FILE_MAX_OCTETS + 1)
        if len(content) > _FILE_MAX_OCTETS:
            raise AccountsError(f"{self._path}: longer than {_FILE_MAX_OCTETS} octets: is it the right file?")
        return content

    def _unreadable(self, error: OSError) -> AccountsError:
        return AccountsError(f"{self._path}: {error.strerror}: let uid {os.geteuid()} read it")


class Accounts:
    """Who has mail here."""

    def __init__(self, places: Places) -> None:
        self._places = places
        directory = places.accounts_dir
        self._passwd = _File(os.path.join(directory, "passwd"), parse_passwd)
        self._shadow = _File(os.path.join(directory, "shadow"), parse_shadow)
        no_groups: dict[str, tuple[int, ...]] = {}
        self._group = _File(os.path.join(directory, "group"), parse_group, no_groups)
        self._defs = _File(os.path.join(directory, "login.defs"), parse_uid_min, UID_MIN_DEFAULT)

    def find(self, name: str) -> Account | None:
        """The account that gets mail under this name, uid, gid and home as they are to be used; None when none does."""
        account = self._passwd.read().get(name)
        if account is None:
            return self._alias() if name == ALIAS else None
        # Without root the numbers in the file are nobody's: everything happens as the invoking user.
        if not may_have_mail(account, self._defs.read() if self._places.own is None else 1):
            return None
        return self._resolved(with_groups(account, self._group.read()))

    def shadow(self, name: str) -> Shadow | None:
        """The shadow entry of that name. Only a short-lived child of pop3's spawner asks."""
        return self._shadow.read().get(name)

    def hashes(self) -> list[str]:
        """Every password field there is, for runtime/passwords.py to see which scheme is used here."""
        return [entry.password_hash for entry in self._shadow.read().values()]

    def _alias(self) -> Account | None:
        places = self._places
        if not places.alias_dir:
            return None
        return self._resolved(Account(ALIAS, places.alias_uid, places.alias_uid, os.path.abspath(places.alias_dir)))

    def _resolved(self, account: Account) -> Account:
        places = self._places
        home = account.home
        if places.own is not None:
            account = replace(account, uid=places.own[0], gid=places.own[1], groups=())
        if not os.path.isabs(home) or (places.own is not None and not os.path.isdir(home)):
            is_alias = account.name == ALIAS and places.alias_dir
            home = places.alias_dir if is_alias else os.path.join(places.homes_dir, account.name)
        return replace(account, home=os.path.abspath(home))
