"""The account files of one directory, read again when one of them is replaced or changed.

Knows where they are, whose homes are where, and what running without root means. Reads no home: who owns one is found
out by the spawner's child. An unreadable file is AccountsError, never "no such account": ignorance means later.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from mail import assign
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
from mail.assign import Assigned, Assignments
from runtime.clock import Clock, SystemClock

_FILE_MAX_OCTETS = 64 * 1024 * 1024  # half a million accounts; more is a mistake, and is held in memory whole
# An editor may move a file away before it writes it anew: until it has been gone for so long it is obeyed as it was.
GONE_S = 5.0
# Where qmail has its alias user: a users/assign that was copied from there means the alias account of here.
_QMAIL_ALIAS_HOME = "/var/qmail/alias"

_NOTHING = Assignments({})

T = TypeVar("T")


class AccountsError(Exception):
    """An account file cannot be read; the text names it and the remedy."""


class AssignmentsError(AccountsError):
    """users/assign or users/cdb is not whole, and was not while this process lives."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where accounts are. `own` is (uid, gid) of the one user that everybody is when nothing runs as root; without a
    `users_dir` nothing is assigned."""

    accounts_dir: str
    homes_dir: str
    alias_dir: str = ""
    alias_uid: int = 7_790
    own: tuple[int, int] | None = None
    users_dir: str = ""

    @classmethod
    def here(
        cls, accounts_dir: str, homes_dir: str, alias_dir: str = "", alias_uid: int = 7_790, users_dir: str = ""
    ) -> "Places":
        """As this process sees them. Ask before a front gives up root."""
        own = None if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        return cls(accounts_dir, homes_dir, alias_dir, alias_uid, own, users_dir)


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
            seen = _seen(self._path)
            if seen != self._seen or self._value is None:
                self._value = self._parse(self._content())
                self._seen = seen
        except FileNotFoundError as error:
            if self._missing is None:
                raise _unreadable(self._path, error) from error
            self._value, self._seen = self._missing, None
        except OSError as error:
            raise _unreadable(self._path, error) from error
        return self._value

    def _content(self) -> str:
        with open(self._path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read(_FILE_MAX_OCTETS + 1)
        if len(content) > _FILE_MAX_OCTETS:
            raise AccountsError(f"{self._path}: longer than {_FILE_MAX_OCTETS} octets: is it the right file?")
        return content


def _seen(path: str) -> tuple[int, int, int, int]:
    """What changes when the file is replaced or written to."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _unreadable(path: str, error: OSError) -> AccountsError:
    return AccountsError(f"{path}: {error.strerror}: let uid {os.geteuid()} read it")


class _AssignFile:
    """users/assign, or users/cdb where there is nothing else, as a copied installation may have it.

    The text is obeyed as soon as it is replaced; qmail waited for qmail-newu. One that is not whole is never obeyed:
    what was read before stays in force, with an alert.
    """

    def __init__(self, users_dir: str, alert: Callable[[str], None], clock: Clock) -> None:
        self._paths = [os.path.join(users_dir, name) for name in ("assign", "cdb")] if users_dir else []
        self._alert = alert
        self._clock = clock
        self._seen: tuple[int, int, int, int] | None = None
        self._value: Assignments | None = None
        self._trouble = ""
        self._gone_at: float | None = None

    def read(self) -> Assignments:
        """What is assigned now; AssignmentsError when that is not known, AccountsError when a file cannot be read."""
        for path in self._paths:
            try:
                found = _seen(path)
                if found != self._seen:
                    self._parse(path)
                    self._seen = found
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(path, error) from error
            self._gone_at = None
            if self._value is None:
                raise AssignmentsError(self._trouble)
            return self._value
        return self._without_file()

    def _without_file(self) -> Assignments:
        if self._value is not None:
            now = self._clock.monotonic()
            self._gone_at = now if self._gone_at is None else self._gone_at
            if now < self._gone_at + GONE_S:
                return self._value
        self._value, self._seen, self._gone_at = None, None, None
        return _NOTHING

    def _parse(self, path: str) -> None:
        with open(path, "rb") as file:
            content = file.read(_FILE_MAX_OCTETS + 1)
        try:
            if len(content) > _FILE_MAX_OCTETS:
                raise assign.BadAssign(f"longer than {_FILE_MAX_OCTETS} octets: is it the right file?")
            self._value = (assign.parse if path == self._paths[0] else assign.read_cdb)(content)
        except assign.BadAssign as error:
            self._trouble = f"{path}: {error}"
            still = "what it said before stays in force" if self._value else "mail to every address here is deferred"
            self._alert(f"{self._trouble}; until then {still}")


class Accounts:
    """Who has mail here. `alert` is told of a users/assign that cannot be obeyed."""

    def __init__(
        self, places: Places, alert: Callable[[str], None] = lambda text: None, clock: Clock | None = None
    ) -> None:
        self._places = places
        self._assign = _AssignFile(places.users_dir, alert, clock or SystemClock())
        directory = places.accounts_dir
        self._passwd = _File(os.path.join(directory, "passwd"), parse_passwd)
        self._shadow = _File(os.path.join(directory, "shadow"), parse_shadow)
        no_groups: dict[str, tuple[int, ...]] = {}
        self._group = _File(os.path.join(directory, "group"), parse_group, no_groups)
        self._defs = _File(os.path.join(directory, "login.defs"), parse_uid_min, UID_MIN_DEFAULT)

    def find(self, key: str) -> Account | None:
        """The account with this `Account.key`, uid, gid and home as they are to be used; None when it gets no mail."""
        if key.startswith((assign.EXACT, assign.WILDCARD)):
            return self._assigned(key)
        account = self._passwd.read().get(key)
        if account is None:
            return self._alias() if key == ALIAS else None
        if not may_have_mail(account, self._uid_min()):
            return None
        return self._resolved(with_groups(account, self._group.read()))

    def names(self) -> list[str]:
        """Every name in passwd, sorted; `find` knows who of them gets mail."""
        return sorted(self._passwd.read())

    def assignment(self, local: str) -> Assigned | None:
        """What users/assign says of a local part; `find` knows whether its account may have mail."""
        return self._assign.read().find(local)

    def uid_may_have_mail(self, user: str, uid: int, gid: int) -> bool:
        """Whether users/assign may give mail to these numbers."""
        return may_have_mail(Account(user, uid, gid, "."), self._uid_min())

    def prime(self) -> None:
        """Reads the assignments now, so that there is something to stay in force when the file is spoilt later."""
        with contextlib.suppress(AccountsError):
            self._assign.read()

    def shadow(self, name: str) -> Shadow | None:
        """The shadow entry of that name. Only a short-lived child of pop3's spawner asks."""
        return self._shadow.read().get(name)

    def hashes(self) -> list[str]:
        """Every password field there is, for runtime/passwords.py to see which scheme is used here."""
        return [entry.password_hash for entry in self._shadow.read().values()]

    def _assigned(self, key: str) -> Account | None:
        assigned = self._assign.read().get(key)
        if assigned is None or not self.uid_may_have_mail(assigned.user, assigned.uid, assigned.gid):
            return None
        if assigned.user == ALIAS and assigned.home == _QMAIL_ALIAS_HOME:
            alias = self.find(ALIAS)
            return replace(alias, assigned=key) if alias else None
        # Relative ones as in passwd: homes/joe is joe in the directory of homes, wherever that is.
        home = os.path.join(self._places.homes_dir, assigned.home.removeprefix("homes/"))
        account = Account(assigned.user, assigned.uid, assigned.gid, home, assigned=key)
        return self._resolved(with_groups(account, self._group.read()))

    def _uid_min(self) -> int:
        # Without root the numbers in the file are nobody's: everything happens as the invoking user.
        return self._defs.read() if self._places.own is None else 1

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
