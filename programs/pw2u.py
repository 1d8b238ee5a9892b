"""qmail-pw2u(8): turns passwd(5) on standard input into the lines of a users/assign on standard output.

Nothing is written before everything is known, so that a pipe into a file ends in a whole assign or in none.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from programs import place
from programs.complaint import PERMANENT, TEMPORARY, Fatal, reported
from programs.options import WRONG, Options
from programs.stdio import standard_output

_ALIAS = b"alias"
_READ_OCTETS = 1024 * 1024

# What to do about homes (letters o, h, H): an account without one is skipped, ends the program, or is taken.
_SKIP, _STOP, _TAKE = 2, 1, 0


@dataclass(slots=True)
class _Rules:
    """What the letters say."""

    dash: bytes = b"-"
    homes: int = _SKIP
    upper_case: bool = False
    brk: bytes = b"-"  # the break character; b"" for none


@dataclass(slots=True)
class _Lists:
    """What the files in users/ say; None is for one that is not there. Names are in lower case."""

    include: frozenset[bytes] | None
    exclude: frozenset[bytes] | None
    mail_names: dict[bytes, bytes]
    accounts: dict[bytes, bytes] = field(default_factory=dict)  # `:user:uid:gid:home:` of those that were taken
    alias_found: bool = False


def main(words: Sequence[str]) -> int:
    """0 when a whole assign has been written, 100 for a wrong letter, 111 with a reason in qmail's words."""
    return reported("qmail-pw2u", _convert, words)


def _convert(words: Sequence[str]) -> int:
    rules = _Rules()
    for letter, word in Options("qmail-pw2u", words, "/ohHuUc:C"):
        if letter == WRONG:
            return PERMANENT
        _LETTERS[letter](rules, os.fsencode(word))
    parent, users = os.path.split(place.users())
    try:
        os.chdir(parent)
    except OSError as error:
        raise Fatal(TEMPORARY, "unable to chdir") from error
    lists = _Lists(_names(f"{users}/include"), _names(f"{users}/exclude"), _mail_names(f"{users}/mailnames"))
    lines = list(_accounts(rules, lists))
    if not lists.alias_found:
        raise Fatal(TEMPORARY, "unable to find alias user")
    lines += _subusers(_content(f"{users}/subusers") or b"", rules, lists)
    standard_output([*lines, _content(f"{users}/append") or b"", b".\n"])
    return 0


def _accounts(rules: _Rules, lists: _Lists) -> Iterator[bytes]:
    for line in _input().split(b"\n"):
        fields = line.split(b":", 6)
        if b"\0" in line or len(fields) < 7:
            continue
        user, _, uid, gid, _, home, _ = fields
        if not _may_have_mail(user, rules, lists) or not _has_home(home, _number(uid), rules):
            continue
        account = b":%b:%b:%b:%b:" % (user, uid, gid, home)
        lists.accounts[user.lower()] = account
        if user == _ALIAS:
            lists.alias_found = True
            yield b"+%b%b::\n" % (account, rules.dash)
        for name in filter(None, lists.mail_names.get(user.lower(), user).split(b":")):
            yield b"=%b%b::\n" % (name, account)
            if rules.brk:
                yield b"+%b%b%b%b::\n" % (name, rules.brk, account, rules.dash)


def _may_have_mail(user: bytes, rules: _Rules, lists: _Lists) -> bool:
    if user != user.lower() and not rules.upper_case:
        return False
    if lists.include is not None and user.lower() not in lists.include:
        return False
    return lists.exclude is None or user.lower() not in lists.exclude


def _has_home(home: bytes, uid: int, rules: _Rules) -> bool:
    if not uid:
        return False
    if rules.homes == _TAKE:
        return True
    try:
        return os.stat(home).st_uid == uid
    except FileNotFoundError as error:
        if rules.homes == _STOP:
            raise Fatal(TEMPORARY, b"unable to stat " + home) from error
        return False
    except OSError as error:
        raise Fatal(TEMPORARY, b"unable to stat " + home) from error


def _subusers(text: bytes, rules: _Rules, lists: _Lists) -> Iterator[bytes]:
    for line in text.split(b"\n"):
        sub, *rest = line.split(b":", 3)
        if len(rest) < 2:
            continue
        user, pre = rest[:2]
        account = lists.accounts.get(user.lower())
        if account is None:
            raise Fatal(TEMPORARY, b"unable to find %b user for subuser" % user)
        if len(rest) < 3:  # no colon behind the prefix
            continue
        yield b"=%b%b%b:%b:\n" % (sub, account, rules.dash, pre)
        if rules.brk:
            yield b"+%b%b%b%b:%b-:\n" % (sub, rules.brk, account, rules.dash, pre)


def _number(digits: bytes) -> int:
    return int(digits[: len(digits) - len(digits.lstrip(b"0123456789"))] or b"0")


def _input() -> bytes:
    octets = bytearray()
    try:
        while piece := os.read(0, _READ_OCTETS):
            octets += piece
    except OSError as error:
        raise Fatal(TEMPORARY, "unable to read input") from error
    return bytes(octets)


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Fatal(TEMPORARY, "unable to read controls") from error


def _listed(path: str) -> list[bytes] | None:
    content = _content(path)
    if content is None:
        return None
    lines = (line.rstrip(b" \t") for line in content.split(b"\n"))
    return [line for line in lines if line and not line.startswith(b"#")]


def _names(path: str) -> frozenset[bytes] | None:
    lines = _listed(path)
    return None if lines is None else frozenset(line.lower() for line in lines)


def _mail_names(path: str) -> dict[bytes, bytes]:
    """By account; of two lines for one the last counts, as in qmail's maps."""
    lines = (line.partition(b":") for line in _listed(path) or ())
    return {user.lower(): names for user, colon, names in lines if colon}


def _set_dash(rules: _Rules, word: bytes) -> None:
    rules.dash = b"-/"


def _homes(strategy: int) -> Callable[[_Rules, bytes], None]:
    def set_homes(rules: _Rules, word: bytes) -> None:
        rules.homes = strategy

    return set_homes


def _upper(taken: bool) -> Callable[[_Rules, bytes], None]:
    def set_upper(rules: _Rules, word: bytes) -> None:
        rules.upper_case = taken

    return set_upper


def _set_break(rules: _Rules, word: bytes) -> None:
    rules.brk = word[:1]


_LETTERS: dict[str, Callable[[_Rules, bytes], None]] = {
    "/": _set_dash,
    "o": _homes(_SKIP),
    "h": _homes(_STOP),
    "H": _homes(_TAKE),
    "u": _upper(True),
    "U": _upper(False),
    "c": _set_break,
    "C": lambda rules, word: _set_break(rules, b""),
}
