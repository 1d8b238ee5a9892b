"""A Maildir as one POP3 session sees it: locked, listed once, changed at QUIT only. Runs as the user, in the home.

Knows maildir(5) and descriptors; must not know POP3 or sockets. Everything is opened relative to a directory
descriptor, without following links and without waiting (a FIFO in new/ neither hangs nor is read). tmp/ is left alone:
local sweeps it, because what lies there is its memory of what is already delivered.

What a crash leaves behind: before QUIT nothing has changed. During QUIT some of the deleted messages are gone and some
messages are in cur/ instead of new/; each of them is whole, its unique id is the same, and the client, which has not
seen +OK, asks again.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from array import array
from collections.abc import Container
from dataclasses import dataclass

from mail.maildir import acceptable, unique_part
from runtime import faults
from runtime.durable import Disk
from services.pop3.exchange import MESSAGES_MAX, UID_MAX_CHARACTERS, Opened
from services.pop3.protocol import Maildrop
from services.pop3.stuffing import OctetCount

_FOLDER = "Maildir"
_READ_OCTETS = 256 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Where a directory cannot be locked (NFS), sessions go unlocked: each only ever removes what its client has seen.
_NO_LOCKS_HERE = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class MaildropError(Exception):
    """There is no session. `why` is what the client is told."""

    def __init__(self, why: Opened) -> None:
        super().__init__(why.value)
        self.why = why


@dataclass(frozen=True, slots=True)
class _Entry:
    mtime_s: int
    name: str
    folder: str  # new or cur
    size: int


class OpenMaildir:
    """The user's Maildir, locked until `close`. `maildrop` lists it; numbers count from 1 in that order."""

    def __init__(self, disk: Disk, home: str = ".") -> None:
        """Locks and lists, making what is missing of the Maildir; MaildropError when there can be no session."""
        self._disk = disk
        self._folders: dict[str, int] = {}
        self._changed: set[str] = set()
        try:
            self._open(home)
            entries = sorted(self._scan(), key=lambda entry: (entry.mtime_s, entry.name))[:MESSAGES_MAX]
            self._list(entries)
        except OSError as error:
            self.close()
            known = {
                errno.EWOULDBLOCK: Opened.IN_USE,
                errno.ELOOP: Opened.NO_MAILDROP,
                errno.ENOTDIR: Opened.NO_MAILDROP,
            }
            raise MaildropError(known.get(error.errno or 0, Opened.UNREADABLE)) from error

    def open_message(self, number: int) -> int | None:
        """A descriptor to read the message with; None when it has gone or is no readable regular file any more."""
        entry = self._entries[number - 1]
        return _open_regular(entry.name, self._folders[entry.folder])

    def settle(self, deleted: tuple[int, ...]) -> bool:
        """QUIT: removes the deleted, moves what stays from new/ to cur/. True when nothing deleted is left, durably."""
        faults.point(faults.Point.POP3_BEFORE_UNLINK)
        removed = self._remove([self._entries[number - 1] for number in deleted])
        # A crash from here to the syncs may bring removed messages back; the client has no +OK yet.
        faults.point(faults.Point.POP3_AFTER_UNLINK)
        going = set(deleted)
        for number, entry in enumerate(self._entries, 1):
            if entry.folder == "new" and number not in going:
                self._move_to_cur(entry)
        try:
            for folder in sorted(self._changed):
                self._disk.sync_directory(".", dir_fd=self._folders[folder])
        except OSError:
            return False
        return removed

    def close(self) -> None:
        """Gives up the lock."""
        while self._folders:
            os.close(self._folders.popitem()[1])

    # -- how ----------------------------------------------------------------------------------------------------------

    def _open(self, home: str) -> None:
        home_fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Maildir itself may be a link, as local's deliveries allow, but to a directory of this user only.
            top = self._folders[_FOLDER] = self._opened_or_made(_FOLDER, home_fd, _DIRECTORY & ~os.O_NOFOLLOW)
        finally:
            os.close(home_fd)
        if os.fstat(top).st_uid != os.geteuid():
            raise OSError(errno.ENOTDIR, "not this user's directory")
        try:
            fcntl.flock(top, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
        for folder in ("tmp", "new", "cur"):
            self._folders[folder] = self._opened_or_made(folder, top)

    def _opened_or_made(self, name: str, parent: int, flags: int = _DIRECTORY) -> int:
        try:
            return os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # a delivery was quicker
                self._disk.make_directory(name, dir_fd=parent)
            self._disk.sync_directory(".", dir_fd=parent)
            return os.open(name, flags, dir_fd=parent)

    def _scan(self) -> list[_Entry]:
        """What is in new/ and cur/, in this order: a message that another program moves or flags meanwhile is seen
        twice rather than never, and counts once, where it was seen last."""
        found: dict[tuple[int, str], _Entry] = {}
        for folder in ("new", "cur"):
            with os.scandir(self._folders[folder]) as names:
                for one in names:
                    if not acceptable(one.name):
                        continue
                    try:
                        status = one.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISREG(status.st_mode):
                        entry = _Entry(int(status.st_mtime), one.name, folder, status.st_size)
                        found[status.st_ino, unique_part(one.name)] = entry
        return list(found.values())

    def _list(self, entries: list[_Entry]) -> None:
        uids: dict[str, None] = {}
        for entry in entries:
            uids[_unique_id(entry, uids)] = None
        self._entries = entries
        self.maildrop = Maildrop(list(uids), array("Q", map(self._octets, entries)))

    def _octets(self, entry: _Entry) -> int:
        """Octets as the client will have them (RFC 1939 section 11), for which the file is read. One that cannot be
        read is listed with its size on the disk, and refused when it is asked for."""
        fd = _open_regular(entry.name, self._folders[entry.folder])
        if fd is None:
            return entry.size
        count = OctetCount()
        try:
            left = entry.size
            while left > 0 and (piece := os.read(fd, min(left, _READ_OCTETS))):
                count.add(piece)
                left -= len(piece)
        except OSError:
            return entry.size
        finally:
            os.close(fd)
        return count.total()

    def _remove(self, entries: list[_Entry]) -> bool:
        everything = True
        missing: set[str] = set()
        for entry in entries:
            try:
                self._unlink(entry)
            except FileNotFoundError:
                missing.add(unique_part(entry.name))
            except OSError:
                everything = False
        return self._remove_renamed(missing) and everything

    def _remove_renamed(self, missing: set[str]) -> bool:
        """Another program may have flagged or moved what is to go: it is still the same message."""
        if not missing:
            return True
        try:
            for entry in self._scan():
                if unique_part(entry.name) in missing:
                    self._unlink(entry)
        except OSError:
            return False
        return True

    def _unlink(self, entry: _Entry) -> None:
        self._changed.add(entry.folder)
        self._disk.unlink(entry.name, dir_fd=self._folders[entry.folder])

    def _move_to_cur(self, entry: _Entry) -> None:
        """A message that cannot be moved stays where it is, and is listed again."""
        target = entry.name if ":" in entry.name else f"{entry.name}:2,"
        with contextlib.suppress(OSError):
            try:
                os.stat(target, dir_fd=self._folders["cur"], follow_symlinks=False)
            except FileNotFoundError:  # rename(2) would replace what stands there
                self._changed.update(("new", "cur"))
                self._disk.rename(f"new/{entry.name}", f"cur/{target}", dir_fd=self._folders[_FOLDER])


def _open_regular(name: str, folder: int) -> int | None:
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _unique_id(entry: _Entry, taken: Container[str]) -> str:
    """The name up to its flags; a hash when that is too long for UIDL, or when two files share it."""
    name = unique_part(entry.name)
    path = f"{entry.folder}/{entry.name}"
    choices = (name[: UID_MAX_CHARACTERS + 1], *(hashlib.sha256(text.encode()).hexdigest() for text in (name, path)))
    return next(one for one in choices if 0 < len(one) <= UID_MAX_CHARACTERS and one not in taken)
