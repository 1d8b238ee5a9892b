"""`seapost user add|del|passwd|list`: what a person is asked and told about accounts. The files are cli/accounts.py."""

import argparse
import getpass
import json
import os
import re
import sys
from collections.abc import Iterator

from cli import accounts, escape
from cli.places import Places
from cli.refusal import EXIT_FAILED, EXIT_USAGE, Refusal
from mail.accounts import ALIAS, Account
from runtime.accounts import Accounts, AccountsError
from runtime.accounts import Places as AccountPlaces
from runtime.passwords import PASSWORD_MAX_OCTETS

_TRIES = 3  # at typing the same password twice
_FORWARD = re.compile(r"&?([^@|./#+& \t][^@]*)(@.*)?\Z")


def add(places: Places, options: argparse.Namespace) -> int:
    """Makes an account; a password that was made up is printed."""
    name: str = options.name
    given = _password(name, options, made_up=options.random or not sys.stdin.isatty())
    made = accounts.add(places, name, given)
    print(f"account {name} is made" if given else f"account {name}, password {made.password}")
    if made.home_kept:
        print(f"seapost: {made.home} was there before: its mail is now {name}'s again", file=sys.stderr)
    return 0


def passwd(places: Places, options: argparse.Namespace) -> int:
    """Another password."""
    name: str = options.name
    given = _password(name, options, made_up=options.random)
    password = given or accounts.made_up()
    accounts.set_password(places, name, password)
    print(f"account {name} has a new password" if given else f"account {name}, password {password}")
    return 0


def delete(places: Places, options: argparse.Namespace) -> int:
    """Ends an account, and says what still points to it."""
    name: str = options.name
    if options.remove_home and not options.yes:
        _ask(f"end the account {name} and remove its home with all mail in it? [y/N] ")
    home = accounts.remove(places, name)
    if home and options.remove_home:
        accounts.remove_home(home)
        home = ""
    print(f"account {name} has ended" + (f"; its home {home} is still there" if home else ""))
    for file in _forwards(places, name):
        print(f"seapost: {file} still forwards to {name}: name somebody else in it", file=sys.stderr)
    return 0


def show(places: Places, options: argparse.Namespace) -> int:
    """Who gets mail, a line each."""
    for account in _who_gets_mail(places):
        if options.json:
            known = {"name": account.name, "uid": account.uid, "gid": account.gid, "home": account.home}
            print(json.dumps(known))
        else:
            print(escape.plain(account.name))
    return 0


def _who_gets_mail(places: Places) -> list[Account]:
    """Accounts of the passwd file that local would take mail for, but for what only their homes can tell."""
    where = AccountPlaces.here(places.accounts, places.homes)
    try:
        known = Accounts(where)
        found = [known.find(name) for name in known.names()]
    except AccountsError as error:
        raise Refusal(str(error)) from error
    return [account for account in found if account is not None and account.name != ALIAS]


def _password(name: str, options: argparse.Namespace, made_up: bool) -> str | None:
    """What the person types twice, or the first line that a script sends; None when one is to be made up."""
    if options.password_stdin:
        return _fit(_first_line())
    if made_up:
        return None
    if not sys.stdin.isatty():
        raise Refusal(f"nobody is here to be asked for {name}'s password: say --password-stdin or --random", EXIT_USAGE)
    for _ in range(_TRIES):
        try:
            typed = _fit(getpass.getpass(f"new password of {name} (nothing: one is made up): "), may_be_empty=True)
            if not typed:
                return None
            if getpass.getpass("once more: ") == typed:
                return typed
        except EOFError as error:
            raise Refusal("nothing was done", EXIT_FAILED) from error
        print("seapost: the two are not the same", file=sys.stderr)
    raise Refusal("nothing was done", EXIT_FAILED)


def _first_line() -> str:
    line = sys.stdin.buffer.readline(PASSWORD_MAX_OCTETS + 3)
    try:
        return line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise Refusal("the password on standard input is not UTF-8: send it in UTF-8", EXIT_USAGE) from error


def _fit(password: str, may_be_empty: bool = False) -> str:
    if not password and not may_be_empty:
        raise Refusal("the password is empty: send one line", EXIT_USAGE)
    if not password.isprintable() or len(password.encode()) > PASSWORD_MAX_OCTETS:
        raise Refusal(
            f"the password has more than {PASSWORD_MAX_OCTETS} octets, or a control character: choose another",
            EXIT_USAGE,
        )
    return password


def _ask(question: str) -> None:
    """Returns when the answer is yes."""
    if not sys.stdin.isatty():
        raise Refusal("nobody is here to be asked: nothing was done: say --yes", EXIT_USAGE)
    sys.stderr.write(question)
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refusal("nothing was done", EXIT_FAILED)


def _forwards(places: Places, name: str) -> Iterator[str]:
    """Aliases that would bounce now."""
    if not os.path.isdir(places.alias):
        return
    for entry in sorted(os.listdir(places.alias)):
        path = os.path.join(places.alias, entry)
        if entry.startswith(".qmail-") and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                targets = (_FORWARD.match(line.strip()) for line in file.read(64 * 1024).split("\n"))
                if any(target and target.group(1).lower() == name for target in targets):
                    yield path
