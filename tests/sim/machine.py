"""What `os`, `fcntl`, `shutil` and `open` are to the queue's modules in a simulated process.

A call that the queue makes and that is not here is a mistake that says so.
"""

import errno
import fcntl
import os
import posixpath
from collections.abc import Callable, Sequence
from typing import Any

from tests.sim.filesystem import Node
from tests.sim.system import System


class SimPath:
    """os.path, of which most is only text."""

    def __init__(self, system: System) -> None:
        self._system = system

    def exists(self, path: str) -> bool:
        self._system.enter("stat", path)
        return self._system.volume.exists(path)

    def isdir(self, path: str) -> bool:
        return self.exists(path) and self._system.volume.find(path).names is not None

    def isfile(self, path: str) -> bool:
        return self.exists(path) and self._system.volume.find(path).names is None

    def getsize(self, path: str) -> int:
        self._system.enter("stat", path)
        return len(self._system.volume.find(path).data)

    def realpath(self, path: str) -> str:
        return posixpath.normpath(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(posixpath, name)


class Entry:
    """What scandir(3) yields."""

    def __init__(self, folder: str, name: str, node: Node, of: "SimOs") -> None:
        self.name = name
        self.path = posixpath.join(folder, name)
        self._node = node
        self._os = of

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._node.names is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._node.names is None

    def is_symlink(self) -> bool:
        return False

    def inode(self) -> int:
        return self._node.number

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._os.stat(self.path)


class Listing(list[Entry]):
    """scandir's iterator, which is its own context."""

    def __enter__(self) -> "Listing":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


class SimOs:
    """`os`, as the queue's modules have it. Constants and text are the real one's."""

    _PLAIN = ("strerror", "fspath", "fsencode", "fsdecode", "stat_result", "environ", "sep", "SEEK_DATA", "SEEK_HOLE")

    def __init__(self, system: System) -> None:
        self._system = system
        self.path = SimPath(system)
        self.open = system.open
        self.close = system.close

    def __getattr__(self, name: str) -> Any:
        if name.isupper() or name in self._PLAIN:
            return getattr(os, name)
        raise AttributeError(f"the simulated system has no os.{name}: tests/sim/machine.py")

    # -- octets -------------------------------------------------------------------------------------------------------

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        return self._system.write_at(fd, b"".join(buffers), None)

    def write(self, fd: int, octets: bytes) -> int:
        return self._system.write_at(fd, bytes(octets), None)

    def pwrite(self, fd: int, octets: bytes, offset: int) -> int:
        return self._system.write_at(fd, bytes(octets), offset)

    def read(self, fd: int, count: int) -> bytes:
        return self._system.read_at(fd, count, None)

    def pread(self, fd: int, count: int, offset: int) -> bytes:
        return self._system.read_at(fd, count, offset)

    def preadv(self, fd: int, buffers: Sequence[Any], offset: int) -> int:
        done = 0
        for buffer in buffers:
            octets = self._system.read_at(fd, len(buffer), offset + done)
            buffer[: len(octets)] = octets
            done += len(octets)
        return done

    def lseek(self, fd: int, offset: int, whence: int) -> int:
        file = self._system.file(self._system.caller(), fd)
        size = len(file.node.data)
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            if offset >= size:
                raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
            file.position = offset if whence == os.SEEK_DATA else size
        else:
            file.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: file.position, os.SEEK_END: size}[whence]
        return file.position

    def fsync(self, fd: int) -> None:
        self._system.sync(fd, "fsync")

    def fdatasync(self, fd: int) -> None:
        self._system.sync(fd, "fdatasync")

    def posix_fallocate(self, fd: int, offset: int, octets: int) -> None:
        caller = self._system.enter("fallocate", self._system.file(self._system.caller(), fd).path)
        node = self._system.file(caller, fd).node
        if offset + octets > len(node.data):
            self._system.volume.resize(caller.host, node, offset + octets)

    def fdopen(self, fd: int, mode: str = "r") -> "SimFile":
        return SimFile(self, fd, "b" not in mode)

    def ftruncate(self, fd: int, size: int) -> None:
        caller = self._system.enter("truncate", self._system.file(self._system.caller(), fd).path)
        self._system.volume.resize(caller.host, self._system.file(caller, fd).node, size)

    def posix_fadvise(self, fd: int, offset: int, octets: int, advice: int) -> None:
        pass

    # -- names --------------------------------------------------------------------------------------------------------

    def link(self, existing: str, new: str, **_: Any) -> None:
        caller = self._system.enter("link", new)
        self._system.volume.link(caller.host, existing, new)

    def rename(self, old: str, new: str, **_: Any) -> None:
        caller = self._system.enter("rename", new)
        self._system.volume.rename(caller.host, old, new)

    replace = rename

    def unlink(self, path: str, **_: Any) -> None:
        caller = self._system.enter("unlink", path)
        node = self._system.volume.find(path)
        self._system.volume.remove(caller.host, path, False)
        self._system.volume.released(node)

    remove = unlink

    def rmdir(self, path: str) -> None:
        caller = self._system.enter("rmdir", path)
        self._system.volume.remove(caller.host, path, True)

    def mkdir(self, path: str, mode: int = 0o777, **_: Any) -> None:
        caller = self._system.enter("mkdir", path)
        self._system.volume.make(caller.host, path, True)

    def makedirs(self, path: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        if posixpath.dirname(path) != path and not self._system.volume.exists(posixpath.dirname(path)):
            self.makedirs(posixpath.dirname(path), mode, True)
        if exist_ok and self._system.volume.exists(path):
            return
        self.mkdir(path, mode)

    def listdir(self, path: str) -> list[str]:
        self._system.enter("listdir", path)
        node = self._system.volume.find(path)
        if node.names is None:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return list(node.names)

    def scandir(self, path: str) -> Listing:
        names = self._system.volume.find(path).names or {}
        return Listing(Entry(path, name, names[name], self) for name in self.listdir(path))

    def stat(self, path: str | int, **_: Any) -> os.stat_result:
        if isinstance(path, int):
            return self.fstat(path)
        self._system.enter("stat", path)
        return _stat(self._system.volume.find(path))

    lstat = stat

    def fstat(self, fd: int) -> os.stat_result:
        return _stat(self._system.file(self._system.caller(), fd).node)

    def statvfs(self, path: str) -> os.statvfs_result:
        free = 0 if self._system.volume.full else 1 << 20
        return os.statvfs_result((4096, 4096, 1 << 21, free, free, 1 << 20, 1 << 19, 1 << 19, 0, 255))

    # -- who ----------------------------------------------------------------------------------------------------------

    def getpid(self) -> int:
        return self._system.caller().pid

    def geteuid(self) -> int:
        return 0


class SimFcntl:
    """`fcntl`: only the lock of a whole file."""

    LOCK_EX, LOCK_NB, LOCK_UN, LOCK_SH = fcntl.LOCK_EX, fcntl.LOCK_NB, fcntl.LOCK_UN, fcntl.LOCK_SH

    def __init__(self, system: System) -> None:
        self.flock = system.flock


class SimShutil:
    """`shutil`: only the removal of a tree."""

    def __init__(self, of: SimOs, system: System) -> None:
        self._os = of
        self._system = system

    def rmtree(self, path: str) -> None:
        for name in self._os.listdir(path):
            child = posixpath.join(path, name)
            if self._system.volume.find(child).names is not None:
                self.rmtree(child)
            else:
                self._os.unlink(child)
        self._os.rmdir(path)


class SimFile:
    """What `open` gives for reading, and `fdopen` for writing too; it buffers nothing."""

    def __init__(self, of: SimOs, fd: int, is_text: bool) -> None:
        self._os = of
        self._fd = fd
        self._is_text = is_text

    def __enter__(self) -> "SimFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, count: int = -1) -> Any:
        octets = self._os.read(self._fd, 1 << 40 if count < 0 else count)
        return octets.decode("ascii") if self._is_text else octets

    def readinto(self, buffer: Any) -> int:
        octets = self._os.read(self._fd, len(buffer))
        buffer[: len(octets)] = octets
        return len(octets)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._os.lseek(self._fd, offset, whence)

    def fileno(self) -> int:
        return self._fd

    def write(self, octets: bytes) -> int:
        return self._os.write(self._fd, octets)

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._os.close(fd)


def opener(of: SimOs) -> Callable[..., SimFile]:
    """`open`, for reading."""

    def open_file(path: str | int, mode: str = "r", *_: Any, **options: Any) -> SimFile:
        assert set(mode) <= set("rb"), "the queue writes through runtime/durable.py"
        fd = path if isinstance(path, int) else of.open(path, os.O_RDONLY)
        return SimFile(of, fd, "b" not in mode)

    return open_file


def _stat(node: Node) -> os.stat_result:
    kind = 0o040700 if node.names is not None else 0o100600
    seconds = node.changed_us // 1_000_000
    times = {"st_mtime_ns": node.changed_us * 1_000, "st_ctime_ns": node.changed_us * 1_000}
    return os.stat_result((kind, node.number, 1, node.links, 0, 0, len(node.data), seconds, seconds, seconds), times)
