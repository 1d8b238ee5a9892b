"""Sends the message on standard input to every mail account, if whoever sent it may: for an alias's `.qmail` file.

Who may is said by its words: an address is an envelope sender, a name without @ is an account whose own programs
handed the message in on this machine, which the queue's first Received line says and nobody can forge. Whose mail
account is whose is mail/accounts.py; the account files are read as the alias user, who can read no password.
"""

import os
import re
from collections.abc import Sequence

from mail import accounts, control
from programs import place
from programs.complaint import PERMANENT, TEMPORARY, Fatal, because, die, reported, say
from programs.forward import from_delivery, hand_on

REFUSED = "You may not post here. (#5.7.1)"
_USAGE = "broadcast: usage: broadcast [ -a accounts ] [ -x name ] ... sender ..."

# Programs that answer mail by themselves leave alone what has this line (RFC 3834 2).
_BULK = b"Precedence: bulk\n"
# The first line of what a program handed in (mail/header.py); SMTP's says `from`. A line is read as long as this.
_BY_UID = re.compile(rb"Received: \(qmail [0-9a-z]{1,40} invoked by uid (\d{1,10})\); ")
_LINE_OCTETS = 200
_FILE_MAX_OCTETS = 16 * 1024 * 1024


def main(words: Sequence[str]) -> int:
    """0 when the message is queued for all mail accounts, 100 for others than the senders named, 111 in trouble."""
    accounts_dir, without, senders, rest = place.accounts(), set[str](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-a", "-x") and rest:
            value = rest.pop(0)
            accounts_dir = value if word == "-a" else accounts_dir
            without.update([value] if word == "-x" else [])
        elif word.startswith("-"):
            return die(PERMANENT, _USAGE)
        else:
            senders.append(word)
    if not senders:
        return die(PERMANENT, _USAGE)
    return reported("broadcast", lambda senders: _broadcast(accounts_dir, frozenset(without), senders), senders)


def _broadcast(accounts_dir: str, without: frozenset[str], senders: Sequence[str]) -> int:
    found = _passwd(accounts_dir)
    if not _may_post(from_delivery("SENDER"), senders, found):
        return die(PERMANENT, REFUSED)
    uid_min = accounts.parse_uid_min(_text(os.path.join(accounts_dir, "login.defs"), ""))
    names = [
        name
        for name, account in found.items()
        if name not in without
        and name != accounts.ALIAS
        and accounts.may_have_mail(account, uid_min)
        and _may_own(account)
    ]
    if not names:
        raise Fatal(TEMPORARY, f"no mail account in {accounts_dir} (#4.3.5)")
    host = os.fsencode(_host())
    recipients = [os.fsencode(name) + b"@" + host for name in names]
    queued = hand_on(from_delivery("NEWSENDER"), recipients, from_delivery("DTLINE") + _BULK)
    say(b"broadcast: qp %b to %d accounts" % (queued, len(recipients)))
    return 0


def _may_post(sender: bytes, allowed: Sequence[str], found: dict[str, accounts.Account]) -> bool:
    """Never a bounce, whoever is allowed."""
    if sender in (b"", b"#@[]"):
        return False
    try:
        handed_in = _BY_UID.match(os.pread(0, _LINE_OCTETS, 0))
    except OSError:  # no file: then this is no delivery of ours
        handed_in = None
    uid = int(handed_in.group(1)) if handed_in else -1
    for one in allowed:
        if "@" in one and os.fsencode(one).lower() == sender.lower():
            return True
        if one in found and found[one].uid == uid:
            return True
    return False


def _may_own(account: accounts.Account) -> bool:
    """An account that does not own its home is none; about a home that cannot be seen from here its owner's mail will
    tell."""
    try:
        return not os.path.isabs(account.home) or os.stat(account.home).st_uid == account.uid
    except OSError:
        return True


def _passwd(accounts_dir: str) -> dict[str, accounts.Account]:
    return accounts.parse_passwd(_text(os.path.join(accounts_dir, "passwd")))


def _text(path: str, missing: str | None = None) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_FILE_MAX_OCTETS)
    except FileNotFoundError as error:
        if missing is not None:
            return missing
        raise because(f"unable to read {path}: ", error) from error
    except OSError as error:
        raise because(f"unable to read {path}: ", error) from error


def _host() -> str:
    """A domain that is local, so that every account answers for its own name in it: the message's where it is one."""
    local = _listing("locals") or _listing("me")[:1]
    if not local:
        raise Fatal(TEMPORARY, "neither control/locals nor control/me says a name (#4.3.5)")
    here = os.environ.get("HOST", "").lower()
    return here if here in (one.lower() for one in local) else local[0]


def _listing(name: str) -> tuple[str, ...]:
    try:
        octets = place.control_text(name)
    except OSError as error:
        raise because(f"unable to read control/{name}: ", error) from error
    return control.listing(os.fsdecode(octets or b""))
