"""Accounts in passwd(5), shadow(5) and group(5) files of ours: making, changing and removing them, one at a time.

The files are those of the state directory, or of a directory that is mounted for them; a host's own /etc is never
changed, for useradd(8) does that better. A relative home means homes/<name>, so that the state directory can be moved.
What a person is asked and told is cli/users.py.
"""

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import re
import secrets
import select
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from cli.places import Places
from cli.refusal import EXIT_TEMPORARY, Refusal
from cli.topology import DEMO_UID
from mail.accounts import NAME_MAX_OCTETS, parse_uid_min
from runtime.clock import SystemClock
from runtime.durable import Disk
from runtime.passwords import PasswordError, make_hash

DEMO = "demo"
GROUP = "mailusers"
NO_LOGIN = "/usr/sbin/nologin"

_FILES = {"passwd": 0o644, "shadow": 0o600, "group": 0o644}
# useradd(8)'s rule for names, without the upper case that qmail ignores.
_NAME = re.compile(rf"[a-z_][a-z0-9_-]{{0,{NAME_MAX_OCTETS - 1}}}\Z")
# Their mail is somebody's by other means: qmail-getpw(8) passes root over, the others are aliases or no people.
_RESERVED = frozenset({"root", "alias", "postmaster", "mailer-daemon", "nobody", GROUP})
# 16 of 32 characters are 80 bits; no two of them look alike.
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_PASSWORD_CHARACTERS = 16
_GROUP_ID = 7_800  # of `mailusers`, where it is free
_ID_LAST = 59_999  # UID_MAX of login.defs
_DAY_MS = 86_400_000
_LOCK_WITHIN_S = 15.0  # as lckpwdf(3)
_LOCK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Added:
    """An account that was made: `home_kept` when its home was there before."""

    password: str
    uid: int
    home: str
    home_kept: bool


def ours(places: Places) -> bool:
    """Whether the account files are this state directory's own, rather than the host's."""
    return os.path.dirname(places.accounts) == places.state


def has_demo(places: Places) -> bool:
    """Whether mail for postmaster can go to the demo account."""
    return ours(places) and _Files(places).fields("passwd", DEMO) is not None


def ensure_demo(places: Places) -> str | None:
    """Makes the account files with the account `demo` when there is no passwd file; returns its new password.

    The password is kept in the state directory's demo.password, which only its owner can read.
    """
    if not ours(places) or os.path.exists(os.path.join(places.accounts, "passwd")):
        return None
    password = made_up()
    with changing(places, DEMO, "add") as files:
        Disk().replace_file(places.demo_password, f"{password}\n".encode(), 0o600)
        _write_account(files, DEMO, password)
    return password


def made_up() -> str:
    """A new password that nobody needs to think of."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_PASSWORD_CHARACTERS))


def add(places: Places, name: str, password: str | None = None) -> Added:
    """A new account with a free uid, a home with a Maildir, no shell; its password is made up unless it is given."""
    if not _NAME.match(name):
        raise Refusal(
            f"{name!r} is not a user name: use lower-case letters, digits, - and _, at most {NAME_MAX_OCTETS}"
        )
    if name in _RESERVED or _is_system_account(name):
        raise Refusal(f"{name} is no name for a person: alias/.qmail-{name} says where its mail goes: edit that")
    with changing(places, name, "add") as files:
        if files.fields("passwd", name) is not None:
            raise Refusal(f"there is an account {name} already: choose another name, or `seapost user passwd {name}`")
        return _write_account(files, name, password or made_up())


def set_password(places: Places, name: str, password: str) -> None:
    """From now on this is the password of the account, and the old one is not."""
    hashed = _hashed(password)
    with changing(places, name, "passwd") as files:
        _must_be_a_persons(files, name)
        fields = files.fields("shadow", name) or [name, "", "", "", "", "", "", "", ""]
        fields[1] = hashed
        if fields[2:3] not in ([], [""]):
            fields[2] = str(SystemClock().wall_ms() // _DAY_MS)  # when it was changed
        files.put("shadow", name, ":".join(fields))


def remove(places: Places, name: str) -> str:
    """Nobody has this name any more; returns the home, with whatever is in it, or "" when there is none of ours."""
    with changing(places, name, "del") as files:
        fields = _must_be_a_persons(files, name)
        files.drop("passwd", name)  # first: without this line there is no account
        files.drop("shadow", name)
        files.leave_groups(name, int(fields[3]))
    home = os.path.join(places.homes, name)
    elsewhere = os.path.isabs(fields[5]) and fields[5] != home
    return home if os.path.isdir(home) and not os.path.islink(home) and not elsewhere else ""


def remove_home(home: str) -> None:
    """The home and everything in it are gone; at once for everybody who looks for it by its name."""
    folder, name = os.path.split(home)
    gone = os.path.join(folder, f".{name}.removed")
    disk = Disk()
    with contextlib.suppress(FileNotFoundError):
        disk.remove_tree(gone)  # what a removal that was killed has left
    disk.rename(home, gone)
    disk.sync_directory(folder)
    disk.remove_tree(gone)


@contextlib.contextmanager
def changing(places: Places, name: str, what: str) -> Iterator["_Files"]:
    """The account files, while nobody else changes them; Refusal when they are the host's or cannot be written."""
    directory = places.accounts
    os.umask(0o022)
    if ours(places):
        os.makedirs(directory, mode=0o755, exist_ok=True)
    if not os.path.isdir(directory):
        raise Refusal(f"{directory}: there is no such directory: make it, or name the right one in ACCOUNTS_DIR")
    if _is_hosts(directory) or not os.access(directory, os.W_OK):
        by_hand = _BY_HAND[what].replace("NAME", name)
        raise Refusal(f"{directory}: these accounts are not changed from here: on their host say `{by_hand}`")
    with _locked(os.path.join(directory, ".pwd.lock")):
        yield _Files(places)


_BY_HAND = {
    "add": f"groupadd -f {GROUP} && useradd -m -g {GROUP} -s {NO_LOGIN} NAME && passwd NAME",
    "passwd": "passwd NAME",
    "del": "userdel NAME",
}


class _Files:
    """The lines of the three files, each change of which is whole and durable. Lines that are not ours stay."""

    def __init__(self, places: Places) -> None:
        self.places = places

    def lines(self, file: str) -> list[str]:
        try:
            with open(self._path(file), encoding="utf-8", errors="surrogateescape") as opened:
                return opened.read().splitlines()
        except FileNotFoundError:
            return []

    def fields(self, file: str, name: str) -> list[str] | None:
        """The first line of this name, taken apart."""
        return next((line.split(":") for line in self.lines(file) if _name(line) == name), None)

    def put(self, file: str, name: str, line: str) -> None:
        """The only line of this name."""
        self._replace(file, [*(one for one in self.lines(file) if _name(one) != name), line])

    def drop(self, file: str, name: str) -> None:
        before = self.lines(file)
        kept = [line for line in before if _name(line) != name]
        if kept != before:
            self._replace(file, kept)

    def leave_groups(self, name: str, gid: int) -> None:
        """The account is in no group, and the group that was its own is gone."""
        others = any(line.split(":")[3:4] == [str(gid)] for line in self.lines("passwd"))
        kept = []
        for line in self.lines("group"):
            fields = line.split(":")
            if len(fields) == 4:
                if fields[0] == name and fields[2] == str(gid) and not others:
                    continue
                fields[3] = ",".join(one for one in fields[3].split(",") if one != name)
            kept.append(":".join(fields))
        if kept != self.lines("group"):
            self._replace("group", kept)

    def ids(self, file: str) -> set[int]:
        """Every uid of passwd, or gid of group."""
        fields = (line.split(":") for line in self.lines(file))
        return {int(one[2]) for one in fields if len(one) > 2 and one[2].isdecimal()}

    def _path(self, file: str) -> str:
        return os.path.join(self.places.accounts, file)

    def _replace(self, file: str, lines: list[str]) -> None:
        """With the mode and the owner that the file had."""
        path, disk = self._path(file), Disk()
        draft = f"{path}.draft"
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(draft)  # nobody else has the lock
        fd = disk.create(draft)
        try:
            try:
                found = os.stat(path)
                os.fchown(fd, found.st_uid, found.st_gid)
                os.fchmod(fd, stat.S_IMODE(found.st_mode))
            except FileNotFoundError:
                os.fchmod(fd, _FILES[file])
            text = "".join(f"{line}\n" for line in lines)
            disk.write_all(fd, [text.encode("utf-8", "surrogateescape")])
            disk.sync_file(fd)
            disk.rename(draft, path)
        except BaseException:
            disk.unlink(draft)
            raise
        finally:
            os.close(fd)
        disk.sync_directory(self.places.accounts)


def _write_account(files: _Files, name: str, password: str) -> Added:
    hashed = _hashed(password)
    home = os.path.join(files.places.homes, name)
    kept = os.path.lexists(home)
    uid = _owner_of(files, home) if kept else _free_uid(files)
    gid = _mail_users(files)
    if not kept:
        _make_home(home, uid, gid)
    # passwd last: an account exists when its line there does, and its password is there already.
    files.put("shadow", name, f"{name}:{hashed}:::::::")
    files.put("passwd", name, f"{name}:x:{uid}:{gid}:{name}:homes/{name}:{NO_LOGIN}")
    return Added(password, uid, home, kept)


def _make_home(home: str, uid: int, gid: int) -> None:
    """0700, with a Maildir and a .qmail that says so. It is filled before it is the user's: root follows no link of
    theirs."""
    folder, name = os.path.split(home)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    draft, disk = os.path.join(folder, f".{name}.new"), Disk()
    with contextlib.suppress(FileNotFoundError):
        disk.remove_tree(draft)
    disk.make_directory(draft)
    paths = [os.path.join(draft, one) for one in ("Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur")]
    for path in paths:
        disk.make_directory(path)
    dot_qmail = os.path.join(draft, ".qmail")
    disk.write_new_file(dot_qmail, b"./Maildir/\n", 0o600)
    if os.geteuid() == 0:
        for path in (*reversed(paths), dot_qmail, draft):
            os.chown(path, uid, gid, follow_symlinks=False)
    disk.rename(draft, home)
    disk.sync_directory(folder)


def _owner_of(files: _Files, home: str) -> int:
    """The uid of a home that is there already: the mail in it stays its owner's."""
    found = os.stat(home, follow_symlinks=False)
    uid = found.st_uid
    if not stat.S_ISDIR(found.st_mode):
        raise Refusal(f"{home} is there and is no directory: move it away")
    if os.geteuid() != 0 and uid == os.getuid():
        return uid
    if uid < _uid_min(files) or uid in files.ids("passwd") or _is_known_here(uid):
        raise Refusal(f"{home} is there and belongs to uid {uid}, which is somebody else: move it away or chown it")
    return uid


def _free_uid(files: _Files) -> int:
    """One that no account has, none of this machine either, and no home that was kept."""
    if os.geteuid() != 0:
        return os.getuid()  # everybody is the invoking user
    homes = files.places.homes
    taken = files.ids("passwd")
    if os.path.isdir(homes):
        taken |= {entry.stat(follow_symlinks=False).st_uid for entry in os.scandir(homes)}
    for uid in range(max(DEMO_UID, _uid_min(files)), _ID_LAST + 1):
        if uid not in taken and not _is_known_here(uid):
            return uid
    raise Refusal(f"{files.places.accounts}/passwd: no uid up to {_ID_LAST} is free: remove accounts")


def _mail_users(files: _Files) -> int:
    """The gid of the group of all mail accounts, which is made where it is missing."""
    found = files.fields("group", GROUP)
    if found is not None:
        gid = int(found[2]) if len(found) > 2 and found[2].isdecimal() else 0
        if not gid:
            raise Refusal(f"{files.places.accounts}/group: the line of {GROUP} has no group id: write one into it")
        return gid
    gid = os.getgid()
    if os.geteuid() == 0:
        taken = files.ids("group")
        gid = next(one for one in range(_GROUP_ID, _ID_LAST) if one not in taken and not _is_group_here(one))
    files.put("group", GROUP, f"{GROUP}:x:{gid}:")
    return gid


def _must_be_a_persons(files: _Files, name: str) -> list[str]:
    """The passwd line of an account that this command may change."""
    fields = files.fields("passwd", name)
    if fields is None:
        raise Refusal(f"there is no account {name}: `seapost user list` shows who there is")
    uid = int(fields[2]) if len(fields) == 7 and fields[2].isdecimal() and fields[3].isdecimal() else 0
    if os.geteuid() == 0 and (uid < _uid_min(files) or name in _RESERVED):
        raise Refusal(f"{name} is a system account (uid {fields[2] if len(fields) > 2 else '?'}): it is left alone")
    return fields


def _uid_min(files: _Files) -> int:
    return parse_uid_min("\n".join(files.lines("login.defs")))


def _hashed(password: str) -> str:
    try:
        return make_hash(password)
    except PasswordError as error:
        raise Refusal(str(error)) from error


def _name(line: str) -> str:
    return line.partition(":")[0]


def _is_hosts(directory: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samefile(directory, "/etc")
    return False


def _is_system_account(name: str) -> bool:
    """Whether this machine has a system account of that name: one more of it would only confuse."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name).pw_uid < parse_uid_min("")
    return False


def _is_known_here(uid: int) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwuid(uid))
    return False


def _is_group_here(gid: int) -> bool:
    with contextlib.suppress(KeyError):
        return bool(grp.getgrgid(gid))
    return False


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """As lckpwdf(3) locks /etc, but in the directory of these files."""
    clock = SystemClock()
    until = clock.monotonic() + _LOCK_WITHIN_S
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN) or clock.monotonic() >= until:
                    raise Refusal(
                        f"{path}: somebody else is changing the accounts: try again when that has ended", EXIT_TEMPORARY
                    ) from error
            select.select((), (), (), _LOCK_EVERY_S)
        yield
    finally:
        os.close(fd)
