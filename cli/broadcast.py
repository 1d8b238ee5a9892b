"""`seapost broadcast`: an alias that reaches every mail account, for those who may write to it.

Knows which two files of the alias account that takes and what they say; what is then done with a message is
programs/broadcast.py. A file that somebody else wrote is not replaced.
"""

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cli.places import Places
from cli.refusal import Refusal
from cli.topology import ALIAS_UID
from mail.address import acceptable
from runtime import accounts
from runtime.durable import Disk

_MARK = "# Made by `seapost broadcast`"
# What a local part needs to be a .qmail file's name as it stands; a dot becomes a colon there.
_NAME = re.compile(r"[a-z0-9_+:][a-z0-9_+:-]{0,60}\Z")
_ACCOUNT = re.compile(r"[a-z0-9_][a-z0-9_.+-]{0,30}\Z")
_OWNER_DEFAULT = "postmaster"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says: the alias, who may write to it, who gets the bounces, whom it leaves out."""

    address: str
    allow: Sequence[str]
    owner: str = _OWNER_DEFAULT
    without: Sequence[str] = ()


def set_up(places: Places, wish: Wish) -> list[str]:
    """Writes the two files, the second being who hears of bounces, and returns what was done; Refusal says the fix."""
    name = wish.address.partition("@")[0].lower().replace(".", ":")
    if not _NAME.match(name):
        raise Refusal(f"{wish.address!r} cannot be an alias: take a short name, such as all")
    if not wish.allow:
        raise Refusal("nobody may write to it: say --allow ADDRESS, or --allow NAME for an account of this machine")
    for one in wish.allow:
        if not acceptable(one) or ("@" not in one and not _ACCOUNT.match(one)):
            raise Refusal(f"{one!r} is neither an address nor an account's name")
    for one in wish.without:
        if not _ACCOUNT.match(one):
            raise Refusal(f"{one!r} is not an account's name")
    if not acceptable(wish.owner) or not wish.owner:
        raise Refusal(f"{wish.owner!r} is not an address")
    home = _alias_home(places, name)
    words = ["broadcast", "-a", places.accounts]
    words += [word for one in wish.without for word in ("-x", one)]
    words += wish.allow
    files = (
        (os.path.join(home, f".qmail-{name}-owner"), f"&{wish.owner}"),  # first: by then bounces have a place
        (os.path.join(home, f".qmail-{name}"), "|" + " ".join(map(shlex.quote, words))),
    )
    before = [_before(path) for path, _ in files]
    return [
        line for (path, instruction), old in zip(files, before, strict=True) for line in _write(path, instruction, old)
    ]


def _alias_home(places: Places, name: str) -> str:
    here = accounts.Accounts(accounts.Places.here(places.accounts, places.homes, places.alias, ALIAS_UID))
    try:
        if here.find(name) is not None:
            raise Refusal(f"there is an account {name}, which gets its own mail: take another name")
        alias = here.find("alias")
    except accounts.AccountsError as error:
        raise Refusal(str(error)) from error
    return alias.home if alias else places.alias


def _before(path: str) -> str | None:
    """What the file says, if it is there and ours."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read()
    except FileNotFoundError:
        return None
    if not content.startswith(_MARK):
        raise Refusal(f"{path} was made by somebody else: remove it, or take another --address")
    return content


def _write(path: str, instruction: str, before: str | None) -> list[str]:
    content = f"{_MARK}, which may replace this file.\n{instruction}\n"
    if before != content:
        Disk().replace_file(path, content.encode(), 0o644)
    done = "as it was" if before == content else "written" if before is None else "replaced"
    return [f"{path}: {done}", f"    {instruction}"]
