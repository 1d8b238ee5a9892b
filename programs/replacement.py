"""Puts a file in the place of another, whole or not at all, by way of a draft whose name the caller knows.

Who writes the same draft at the same time waits for the first, so neither moves a file that the other has only begun. A
draft that a killed program left is used again.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Sequence

from programs.complaint import TEMPORARY, Fatal, because
from runtime.durable import Disk

WORLD_READABLE = 0o644
_BY_UMASK = 0o644


def replace(target: str, draft: str, content: Sequence[bytes], mode: int | None = None, create: str = "create") -> None:
    """`target` has this content, durably; `mode` None is what the umask leaves of rw-r--r--. Raises Fatal in the words
    of qmail's programs (`create` is what a draft could not be opened for), and then nothing has changed."""
    try:
        fd = _claimed(draft)
    except OSError as error:
        raise because(f"unable to {create} {draft}: ", error) from error
    disk = Disk()
    try:
        try:
            disk.truncate(fd, 0)
            if mode is not None:
                os.fchmod(fd, mode)
            disk.write_all(fd, content)
            disk.sync_file(fd)
        except OSError as error:
            raise because(f"unable to write to {draft}: ", error) from error
        try:
            disk.rename(draft, target)
        except OSError as error:
            raise because(f"unable to move {draft} to {target}: ", error) from error
    except Fatal:
        with contextlib.suppress(OSError):
            disk.unlink(draft)
        raise
    finally:
        os.close(fd)
    try:
        disk.sync_directory(os.path.dirname(target) or ".")
    except OSError as error:
        raise because(f"unable to sync the directory of {target}: ", error) from error


def _claimed(draft: str) -> int:
    """The draft, open for nobody but us, who also have its name."""
    while True:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _BY_UMASK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Fatal(TEMPORARY, f"{draft} is not a file")
            if _names(draft, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _names(path: str, fd: int) -> bool:
    try:
        found = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False  # who had the draft before us has moved it
    return os.path.samestat(found, os.fstat(fd))
