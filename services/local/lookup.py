"""Finding and opening the .qmail file of an address, in the home that this process stands in, as the user it is.

The delivery and the question at RCPT look in the same way, so that they cannot disagree. Links are followed, for list
managers make .qmail files that are links; as the user, they lead nowhere that the user may not read.
"""

import errno
import os
import stat
from dataclasses import dataclass

from mail.outcome import Deferred, Failed
from services.local import dotqmail, texts

# As open(2) says that there is no such file; links that go in a circle are none for qmail either. Everything else is
# ignorance: later.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.ELOOP})
_WRITABLE_BY_OTHERS = 0o002  # conf-patrn of qmail
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO or a device must not hold us up


class LookupTrouble(Exception):
    """It cannot be said now what becomes of the address; the text is qmail's."""


@dataclass(frozen=True, slots=True)
class DotFile:
    """What an address asks for: the content of its .qmail file; empty content stands for the default delivery. No name:
    there is no file."""

    content: bytes
    forward_only: bool
    name: str = ""


def home_report() -> str:
    """Why nothing may be delivered in this home now; "" when all is well (qmail-local, steps 2 and 3)."""
    mode = os.stat(".").st_mode
    if mode & _WRITABLE_BY_OTHERS:
        return texts.HOME_WRITABLE
    if mode & stat.S_ISVTX:
        return texts.HOME_STICKY
    return ""


def home_has_moved(home: str) -> bool:
    """Whether what is called so is another directory than this process stands in: removed, restored from a backup,
    mounted. Where the user may not see that, only a home that is gone altogether counts."""
    here = os.stat(".")
    try:
        return not os.path.samestat(here, os.stat(home))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return not here.st_nlink


def exists(dash: str, ext: str) -> bool:
    """Whether the address is somebody's; LookupTrouble when that cannot be said."""
    if not dash:
        return True
    for name in dotqmail.file_names(dash, ext):
        fd, _ = _open(name)
        if fd >= 0:
            os.close(fd)
            return True
    return False


def find(dash: str, ext: str) -> DotFile | Failed | Deferred:
    """The first .qmail file of the address, read; Failed when there is none and the address needs one."""
    try:
        for name in dotqmail.file_names(dash, ext):
            fd, mode = _open(name)
            if fd >= 0:
                return DotFile(_read(fd, name), bool(mode & stat.S_IXUSR), name)
    except LookupTrouble as trouble:
        return Deferred(str(trouble))
    return Failed(texts.NO_MAILBOX) if dash else DotFile(b"", False)


def there(name: str) -> bool:
    """Whether a file of that name is there; LookupTrouble when that cannot be said."""
    try:
        os.stat(name)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        raise LookupTrouble(texts.cannot_open(name, error.errno or 0)) from error
    return True


def _open(name: str) -> tuple[int, int]:
    """(descriptor, mode) of a regular file that may be obeyed; descriptor -1 when there is none of that name."""
    try:
        fd = os.open(name, _OPEN)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return -1, 0
        raise LookupTrouble(texts.cannot_open(name, error.errno or 0)) from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return -1, 0
    trouble = _unfit(found)
    if trouble:
        os.close(fd)
        raise LookupTrouble(trouble)
    return fd, found.st_mode


def _unfit(found: os.stat_result) -> str:
    if found.st_mode & _WRITABLE_BY_OTHERS:
        return texts.DOT_WRITABLE
    if found.st_uid not in (0, os.getuid()):  # a hard link to what somebody else wrote is nobody's instruction here
        return texts.DOT_OTHERS
    return ""


def _read(fd: int, name: str) -> bytes:
    try:
        with open(fd, "rb", buffering=0) as file:
            return file.read(dotqmail.FILE_MAX_OCTETS + 1) or b""
    except OSError as error:
        raise LookupTrouble(texts.cannot_open(name, error.errno or 0)) from error
