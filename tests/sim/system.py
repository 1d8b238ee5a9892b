"""The kernel of a simulated world: descriptors, locks, and the way into every system call.

Every call first asks the world: it may stop the process, kill it, fail the call, cut the power. Then it costs time, in
which others run, and then it happens, all at once. Knows the file system and who is calling; decides nothing about
faults.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any, Protocol

from tests.sim.filesystem import FileSystem, Node
from tests.sim.scheduler import Killed


class Caller(Protocol):
    """The process that makes a call."""

    name: str
    host: str
    pid: int
    dead: bool
    files: "dict[int, OpenFile]"


class OpenFile:
    """An open file description."""

    def __init__(self, node: Node, path: str, flags: int) -> None:
        self.node = node
        self.path = path
        self.flags = flags
        self.position = 0


class System:
    """The kernel of one world. `caller` says who runs now; `before` and `after` are the world's say in every call."""

    def __init__(
        self, volume: FileSystem, caller: Callable[[], Caller], before: Callable[[Caller, str, str], None]
    ) -> None:
        self.volume = volume
        self.caller = caller
        self._before = before
        self.now_us: Callable[[], int] = lambda: 0
        self._fds = 10

    def enter(self, call: str, path: str) -> Caller:
        """Everything that may happen before a call does."""
        caller = self.caller()
        if caller.dead:
            raise Killed
        self._before(caller, call, path)
        if caller.dead:
            raise Killed
        return caller

    def open(self, path: str, flags: int, mode: int = 0o777, **_: Any) -> int:
        caller = self.enter("create" if flags & os.O_CREAT else "open", path)
        found: Node | None = None
        if self.volume.exists(path):
            found = self.volume.find(path)
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, "File exists", path)
        elif flags & os.O_CREAT:
            found = self.volume.make(caller.host, path, False)
        else:
            found = self.volume.find(path)
        if flags & os.O_DIRECTORY and found.names is None:
            raise OSError(errno.ENOTDIR, "Not a directory", path)
        if flags & os.O_TRUNC and found.data:
            self.volume.resize(caller.host, found, 0)
        self._fds += 1
        caller.files[self._fds] = OpenFile(found, path, flags)
        found.opened += 1
        return self._fds

    def close(self, fd: int) -> None:
        caller = self.caller()
        if caller.dead:
            raise Killed
        self.drop(caller, fd)

    def drop(self, caller: Caller, fd: int, lock_until_us: int = 0) -> None:
        """Closes a descriptor, of the living and of the dead; a lock goes with it, or when a dead host is noticed."""
        file = caller.files.pop(fd, None)
        if file is None:
            raise OSError(errno.EBADF, "Bad file descriptor")
        file.node.opened -= 1
        if file.node.lock is file:
            file.node.lock_until_us = lock_until_us
            if not lock_until_us:
                file.node.lock = None
        self.volume.released(file.node)

    def file(self, caller: Caller, fd: int) -> OpenFile:
        if fd not in caller.files:
            raise OSError(errno.EBADF, "Bad file descriptor")
        return caller.files[fd]

    def write_at(self, fd: int, octets: bytes, offset: int | None) -> int:
        caller = self.caller()
        path = caller.files[fd].path if fd in caller.files else ""
        caller = self.enter("write", path)
        file = self.file(caller, fd)
        at = file.position if offset is None else offset
        if file.flags & os.O_APPEND:
            at = len(file.node.data)
        self.volume.write(caller.host, file.node, at, octets)
        if offset is None:
            file.position = at + len(octets)
        return len(octets)

    def read_at(self, fd: int, count: int, offset: int | None) -> bytes:
        caller = self.caller()
        if caller.dead:
            raise Killed
        file = self.file(caller, fd)
        at = file.position if offset is None else offset
        octets = bytes(file.node.data[at : at + count])
        if offset is None:
            file.position = at + len(octets)
        return octets

    def sync(self, fd: int, call: str) -> None:
        caller = self.caller()
        path = caller.files[fd].path if fd in caller.files else ""
        caller = self.enter("fsyncdir" if self.file(caller, fd).node.names is not None else call, path)
        self.volume.sync(self.file(caller, fd).node)

    def flock(self, fd: int, operation: int) -> None:
        caller = self.enter("flock", self.file(self.caller(), fd).path)
        file = self.file(caller, fd)
        node = file.node
        if node.lock is not None and node.lock_until_us and node.lock_until_us <= self.now_us():
            node.lock, node.lock_until_us = None, 0
        if operation & fcntl.LOCK_UN:
            if node.lock is file:
                node.lock = None
            return
        if node.lock is not None and node.lock is not file:
            raise OSError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
        node.lock = file
