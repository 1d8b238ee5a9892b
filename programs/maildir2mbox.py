"""maildir2mbox(1): moves the messages of $MAILDIR into the mbox $MAIL, by way of $MAILTMP, under the mbox's lock.

The new mbox is on the disk, and so is its name, before the first message is removed: whatever happens, no message is
missing. When it happens in between, messages are in both; the next run then finds them in the mbox and leaves them out.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mail import mbox, trouble
from programs.complaint import TEMPORARY, Fatal, because, reported, say
from runtime.clock import SystemClock
from runtime.durable import Disk

_COPY_OCTETS = 256 * 1024
_FORGOTTEN_S = 36 * 3_600  # what nobody has looked at in tmp/ for so long is nobody's
_RETURN_PATH = b"Return-Path: <"
_UNKNOWN = b"XXX"


class Message(NamedTuple):
    """A file of the Maildir, and its last change, in unix seconds."""

    name: str
    changed_s: int

    def pieces(self) -> Iterator[bytes]:
        """What stands for it in the mbox."""
        try:
            with open(self.name, "rb", buffering=0) as file:
                octets = file.read()
        except OSError as error:
            raise because(f"unable to read $MAILDIR/{self.name}: ", error) from error
        yield mbox.from_line(_sender(octets), self.changed_s)
        yield from mbox.body(octets)


def main(words: Sequence[str]) -> int:
    """0 when every message that was there is in the mbox; 111 with a reason otherwise, and then nothing has changed."""
    return reported("maildir2mbox", _move, words)


def _move(words: Sequence[str]) -> int:
    os.umask(0o077)
    where, draft, maildir = (_named(name) for name in ("MAIL", "MAILTMP", "MAILDIR"))
    try:
        os.chdir(maildir)
    except OSError as error:
        raise because(f"unable to chdir to {maildir}: ", error) from error
    disk, now_s = Disk(), SystemClock().wall_ms() // 1_000
    _clean(disk, now_s)
    messages = sorted((*_scan("new", now_s), *_scan("cur", now_s)), key=lambda one: (one.changed_s, one.name))
    if not messages:
        return 0
    lock = _lock(where)  # until the process ends
    try:
        _rewrite(disk, where, draft, messages)
    finally:
        os.close(lock)
    for message in messages:
        try:
            disk.unlink(message.name)
        except OSError as error:
            what = f"$MAILDIR/{message.name} will be delivered twice; unable to unlink"
            say(f"maildir2mbox: warning: {what}: {trouble.words(error.errno)}")
    return 0


def _rewrite(disk: Disk, where: str, draft: str, messages: Sequence[Message]) -> None:
    missing = _missing(where, messages)
    try:
        if missing:
            _write_draft(disk, where, draft, missing)
    except OSError as error:
        raise because(f"unable to write to {draft}: ", error) from error
    try:
        if missing:
            disk.rename(draft, where)
        disk.sync_directory(os.path.dirname(where) or ".")
    except OSError as error:
        raise because(f"unable to move {draft} to {where}: ", error) from error


def _write_draft(disk: Disk, where: str, draft: str, messages: Sequence[Message]) -> None:
    """The old mbox, then the messages, durable in a file of another name."""
    fd = _open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "unable to create")
    try:
        for octets in _octets(where):
            disk.write_all(fd, [octets])
        for message in messages:
            disk.write_all(fd, list(message.pieces()))
        disk.sync_file(fd)
    finally:
        os.close(fd)


def _missing(where: str, messages: Sequence[Message]) -> list[Message]:
    """The messages that no earlier run has put into the mbox and died before it removed them."""
    by_line: dict[bytes, list[Message]] = {}
    for message in messages:
        by_line.setdefault(next(message.pieces()), []).append(message)
    found: set[str] = set()
    fd, position = _open(where, os.O_RDONLY, "unable to read"), 0
    with open(fd, "rb") as file:
        for line in file:
            for message in by_line.get(line, ()) if line.startswith(b"From ") else ():
                if message.name not in found and _stands(fd, position, message):
                    found.add(message.name)
                    break
            position += len(line)
    return [message for message in messages if message.name not in found]


def _stands(fd: int, position: int, message: Message) -> bool:
    for piece in message.pieces():
        if os.pread(fd, len(piece), position) != piece:
            return False
        position += len(piece)
    return True


def _octets(path: str) -> Iterator[bytes]:
    fd = _open(path, os.O_RDONLY, "unable to read")
    try:
        while octets := os.read(fd, _COPY_OCTETS):
            yield octets
    finally:
        os.close(fd)


def _lock(where: str) -> int:
    """The locked mbox, which is the file of that name still; made when it is missing."""
    import fcntl

    while True:
        fd = _open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT, "unable to lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.stat(where)):
                return fd
        except FileNotFoundError:
            pass  # it was replaced, or removed, while we waited
        except OSError as error:
            raise because(f"unable to lock {where}: ", error) from error
        os.close(fd)


def _open(path: str, flags: int, trouble_with: str) -> int:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise because(f"{trouble_with} {path}: ", error) from error
    return fd


def _scan(part: str, now_s: int) -> Iterator[Message]:
    """Messages that have not changed in this second: what comes in it would come in another order."""
    try:
        names = os.listdir(part)
    except OSError as error:
        raise because(f"unable to scan $MAILDIR/{part}: ", error) from error
    for name in names:
        path = f"{part}/{name}"
        try:
            changed_s = int(os.stat(path).st_mtime)
        except OSError:
            continue  # somebody has just taken it
        if not name.startswith(".") and changed_s < now_s:
            yield Message(path, changed_s)


def _clean(disk: Disk, now_s: int) -> None:
    """Removes from tmp/ what was left there; whatever goes wrong here is no matter."""
    try:
        for name in os.listdir("tmp"):
            if not name.startswith(".") and now_s > os.stat(f"tmp/{name}").st_atime + _FORGOTTEN_S:
                disk.unlink(f"tmp/{name}")
    except OSError:
        return


def _sender(message: bytes) -> bytes:
    line, newline, _ = message.partition(b"\n")
    if not newline or not line.startswith(_RETURN_PATH):
        return _UNKNOWN
    return line[len(_RETURN_PATH) :].removesuffix(b">")


def _named(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise Fatal(TEMPORARY, f"{name} not set")
    return value
