"""Prepares a state directory: what is missing is made with working defaults, what is there is never changed.

The same code serves `up` on one machine and `init` in a container, where each directory may be a volume of its own.
As root the directories belong to the services that need them; otherwise everything is the invoking user's.
"""

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cli import accounts, certs, configfast, embedded
from cli.places import CHECKOUT, Places
from cli.refusal import Refusal
from cli.topology import ALIAS_UID, BY_NAME, SERVICES, SUBMIT
from mail.accounts import ALIAS, parse_passwd
from mail.hostname import is_host
from runtime.clock import SystemClock
from runtime.durable import Disk

# Mail for these goes to the first account, so that somebody reads it (RFC 2142, RFC 5321 4.5.1).
_ALIASES = ("postmaster", "mailer-daemon", "root")

SHIPPED_CONTROL = os.path.join(CHECKOUT, "control")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` made or found."""

    mail_name: str
    demo_password: str | None  # None when the demo account was there before, or accounts are not ours


@dataclass(frozen=True, slots=True)
class Owners:
    """Whom directories are given to; None leaves them the invoking user's."""

    queue: int | None
    redis: int | None
    alias: int | None
    services: bool  # each service's event directory is its own
    operator: int | None = None  # who runs the cli, when that is not root: in a container there is no root to be

    @classmethod
    def choose(cls, drops: bool, redis_uid: int | None = None, operator_uid: int | None = None) -> "Owners":
        """`drops`: the services will run under their own uids (only root can have that)."""
        root = os.geteuid() == 0
        dropped = root and drops
        redis = BY_NAME["redis"].uid if redis_uid is None else redis_uid
        return cls(
            queue=BY_NAME["queue"].uid if dropped else (0 if root else None),
            redis=redis if dropped else (0 if root else None),
            alias=ALIAS_UID if root else None,
            services=dropped,
            operator=operator_uid if root else None,
        )


def prepare(places: Places, environ: Mapping[str, str], owners: Owners) -> Prepared:
    """Makes everything that a first start needs; safe to run again. Refusal names what cannot be made and the fix."""
    os.umask(0o022)
    owners = replace(owners, alias=_alias_owner(places, owners.alias))
    try:
        _directories(places, owners)
        name = _controls(places, environ)
        password = accounts.ensure_demo(places)
        _aliases(places, owners)
        certs.ensure(places.tls, SystemClock())
        embedded.ensure_users(places.tls, owners.redis)
        if owners.operator is not None:
            _admit(places, owners.operator)
    except PermissionError as error:
        raise Refusal(
            f"{error.filename}: {error.strerror}: choose a directory of your own with --state DIR, "
            "or run as the user who made this one"
        ) from error
    except OSError as error:
        raise Refusal(f"{error.filename}: {error.strerror}: make room or choose another --state DIR") from error
    return Prepared(mail_name=name, demo_password=password)


def _directories(places: Places, owners: Owners) -> None:
    for path in (places.state, places.control, places.alias, places.users, places.homes, places.tls):
        os.makedirs(path, mode=0o755, exist_ok=True)
    for path in (places.log, places.events, places.run, places.directory(SUBMIT)):
        os.makedirs(path, mode=0o755, exist_ok=True)
    os.makedirs(places.spool, mode=0o700, exist_ok=True)
    if owners.queue is not None:
        _own_tree(places.spool, owners.queue)
    for service in SERVICES:
        if not service.answers_grpc:
            continue
        directory = os.path.join(places.events, service.name)
        os.makedirs(directory, mode=0o750, exist_ok=True)
        if os.geteuid() == 0:
            _own_tree(directory, service.uid if owners.services else 0)
    if owners.alias is not None and os.lstat(places.alias).st_uid == 0:
        os.chown(places.alias, owners.alias, owners.alias)
    elif owners.alias is not None and os.lstat(places.alias).st_uid == ALIAS_UID:
        _own_tree(places.alias, owners.alias)  # there is an account `alias` now, and was none before


def _alias_owner(places: Places, otherwise: int | None) -> int | None:
    """The uid of the account `alias`, as a machine with qmail has it: local delivers as that one."""
    if otherwise is None:
        return None
    try:
        with open(os.path.join(places.accounts, "passwd"), encoding="utf-8", errors="surrogateescape") as file:
            account = parse_passwd(file.read()).get(ALIAS)
    except OSError:
        account = None
    return account.uid if account is not None and account.uid else otherwise


def _admit(places: Places, operator: int) -> None:
    """Gives the operator's key to `operator`, and lets its group read every service's events."""
    keys = os.path.join(places.tls, "cli")
    for name in os.listdir(keys):
        os.chown(os.path.join(keys, name), operator, operator)
    for name in os.listdir(places.events):
        os.chown(os.path.join(places.events, name), -1, operator)


def _own_tree(path: str, uid: int) -> None:
    """Gives a service its directory; all of it when a start under another uid left files there."""
    if os.lstat(path).st_uid == uid:
        return
    for folder, _, names in os.walk(path):
        for name in names:
            os.chown(os.path.join(folder, name), uid, uid, follow_symlinks=False)
        if folder != path:
            os.chown(folder, uid, uid, follow_symlinks=False)
    os.chown(path, uid, uid)  # last: a crash on the way is mended by the next start


def _controls(places: Places, environ: Mapping[str, str]) -> str:
    me = os.path.join(places.control, "me")
    if not os.path.exists(me):
        name = environ.get("MAIL_NAME") or socket.gethostname()
        if not is_host(name):
            raise Refusal(
                f"environment variable MAIL_NAME={name!r} is not a host name: set it to this host's full name", 78
            )
        configfast.write(places.control, name)
    for shipped in sorted(os.listdir(SHIPPED_CONTROL)):
        target = os.path.join(places.control, shipped)
        if shipped != "README.md" and not os.path.lexists(target):
            with open(os.path.join(SHIPPED_CONTROL, shipped), "rb") as file:
                Disk().write_new_file(target, file.read(), 0o644)
    with open(me, encoding="utf-8", errors="replace") as control:
        return control.readline().strip()


def _aliases(places: Places, owners: Owners) -> None:
    """postmaster and its like: to the demo account where it is ours, else kept in the alias account's own Maildir."""
    to_demo = accounts.has_demo(places)
    for alias in _ALIASES:
        path = os.path.join(places.alias, f".qmail-{alias}")
        if os.path.lexists(path):
            continue
        Disk().write_new_file(path, b"&demo\n" if to_demo else b"./Maildir/\n", 0o644)
        if owners.alias is not None:
            os.chown(path, owners.alias, owners.alias)
        if not to_demo:
            _alias_maildir(places.alias, owners.alias)


def _alias_maildir(alias: str, owner: int | None) -> None:
    for name in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
        path = os.path.join(alias, name)
        if not os.path.isdir(path):
            os.mkdir(path, 0o700)
            if owner is not None:
                os.chown(path, owner, owner)


def redis_directory(places: Places, owners: Owners) -> str:
    """An empty directory for the Redis server that `up` starts: what it held may vanish at any time, and a file of
    another version, or a torn one, would keep it from starting."""
    path = os.path.join(places.run, "redis-0.data")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o700, exist_ok=True)
    if owners.redis is not None:
        os.chown(path, owners.redis, owners.redis)
    return path
