"""The weakest file system that keeps its word: what a crash may leave of the calls that runtime/durable.py made.

`Tape` stands in for the `os` that module sees, does every call and remembers it. `Tape.state` then builds in another
folder what a power cut after any call may leave: what was synced, and of the rest any part. Data come in sectors, names
independently of each other and of what they name (as in ALICE, OSDI 2014). A rename is atomic, and in a Maildir the
names of one directory come in their order: publishing stands on that, and every journaling file system gives it.
"""

import fcntl
import json
import os
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR = 512
# What changes nothing that a crash could lose.
_HARMLESS = {"close", "getpid", "strerror", "path"}


@dataclass(eq=False, slots=True)
class Node:
    """A file or a directory, whatever its names are."""

    is_directory: bool
    is_ordered: bool = False  # names in it are kept in their order, or lost from some moment on


@dataclass(frozen=True, slots=True)
class Data:
    """Octets of a file, or with `octets` None its new length."""

    node: Node
    offset: int
    octets: bytes | None


@dataclass(frozen=True, slots=True)
class Names:
    """Names that change together: of each the directory and what it names from then on, None for nothing."""

    changes: tuple[tuple[Node, str, Node | None], ...]


@dataclass(frozen=True, slots=True)
class Synced:
    """A file's data or a directory's names are kept from here on; everything when `node` is None."""

    node: Node | None


Step = Data | Names | Synced


class _Libc:
    """The calls that Python has no name for."""

    def __init__(self, tape: "Tape", real: Any) -> None:
        self._tape = tape
        self._real = real

    def syncfs(self, fd: int) -> int:
        with self._tape.lock:
            self._tape.steps.append(Synced(None))
        return 0

    def __getattr__(self, name: str) -> Any:
        assert name == "sync_file_range", f"{name}: teach tests/harness/weakdisk.py this call"
        return getattr(self._real, name)


@dataclass
class Tape:
    """Every call below `root`, in order. `marks`: lines that were told, each with the number of steps before it."""

    root: Path
    steps: list[Step] = field(default_factory=list)
    marks: list[tuple[int, list[Any]]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _nodes: dict[int, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._top = self._new(os.stat(self.root).st_ino, True)

    def libc(self, real: Any) -> Any:
        return _Libc(self, real)

    def tell(self, *said: object) -> None:
        """Takes a line of tests/harness/mailroom.py."""
        with self.lock:
            self.marks.append((len(self.steps), json.loads(json.dumps(said))))

    def told(self, moment: int) -> list[list[Any]]:
        """The lines that had been told after so many steps, and before the next."""
        return [said for number, said in self.marks if number <= moment]

    # -- the calls, as runtime/durable.py makes them ------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        assert name in _HARMLESS or name.startswith("O_"), f"os.{name}: teach tests/harness/weakdisk.py this call"
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        with self.lock:
            before = os.path.lexists(_full(path, dir_fd))
            fd = os.open(path, flags, mode, dir_fd=dir_fd)
            if not before:
                self._name((path, dir_fd, self._new(os.fstat(fd).st_ino, False)))
            elif flags & os.O_TRUNC:
                self.steps.append(Data(self._of(fd), 0, None))
            return fd

    def write(self, fd: int, octets: bytes | memoryview) -> int:
        with self.lock:
            appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
            at = os.lseek(fd, 0, os.SEEK_END if appends else os.SEEK_CUR)
            written = os.write(fd, octets)
            self.steps.append(Data(self._of(fd), at, bytes(octets[:written])))
            return written

    def writev(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        return self.write(fd, b"".join(buffers))

    def fsync(self, fd: int) -> None:
        with self.lock:
            self._discover(fd)
            self.steps.append(Synced(self._of(fd)))

    fdatasync = fsync

    def posix_fallocate(self, fd: int, offset: int, octets: int) -> None:
        with self.lock:
            os.posix_fallocate(fd, offset, octets)
            self.steps.append(Data(self._of(fd), offset + octets, None))

    def ftruncate(self, fd: int, octets: int) -> None:
        with self.lock:
            os.ftruncate(fd, octets)
            self.steps.append(Data(self._of(fd), octets, None))

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        with self.lock:
            os.mkdir(path, mode, dir_fd=dir_fd)
            self._name((path, dir_fd, self._new(os.stat(path, dir_fd=dir_fd).st_ino, True)))

    def link(
        self, old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None, **options: Any
    ) -> None:
        with self.lock:
            os.link(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, **options)
            self._name((new, dst_dir_fd, self._at(new, dst_dir_fd)))

    def rename(self, old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        with self.lock:
            os.rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            self._name((old, src_dir_fd, None), (new, dst_dir_fd, self._at(new, dst_dir_fd)))

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        with self.lock:
            os.unlink(path, dir_fd=dir_fd)
            self._name((path, dir_fd, None))

    def rmtree(self, path: str) -> None:
        """As shutil's: everything in it goes, and then it itself."""
        for entry in os.listdir(path):
            inner = os.path.join(path, entry)
            if os.path.isdir(inner):
                self.rmtree(inner)
            else:
                self.unlink(inner)
        with self.lock:
            os.rmdir(path)
            self._name((path, None, None))

    def _name(self, *changes: tuple[str, int | None, Node | None]) -> None:
        found = []
        for path, dir_fd, node in changes:
            directory, name = os.path.split(_full(path, dir_fd))
            above = self._directory(directory)
            found.append((above, name, node))
            if node is not None:
                node.is_ordered = above.is_ordered or name == "Maildir"
        self.steps.append(Names(tuple(found)))

    def _directory(self, path: str) -> Node:
        """The node of a directory; one that was made without us, as os.makedirs does, is noticed now."""
        inode = os.stat(path).st_ino
        if inode not in self._nodes:
            self._name((path, None, self._new(inode, True)))
        return self._nodes[inode]

    def _discover(self, fd: int) -> None:
        """Before a directory is synced, what was made in it without us has to be known."""
        path = os.readlink(f"/proc/self/fd/{fd}")
        for entry in os.scandir(path) if os.path.isdir(path) else ():
            if entry.is_dir(follow_symlinks=False):
                self._directory(entry.path)

    def _new(self, inode: int, is_directory: bool) -> Node:
        node = self._nodes[inode] = Node(is_directory)
        return node

    def _of(self, fd: int) -> Node:
        return self._nodes[os.fstat(fd).st_ino]

    def _at(self, path: str, dir_fd: int | None) -> Node:
        return self._nodes[os.stat(path, dir_fd=dir_fd, follow_symlinks=False).st_ino]

    # -- the states ---------------------------------------------------------------------------------------------------

    def state(self, target: Path, moment: int, dice: random.Random | None) -> None:
        """Builds in an empty folder what a cut after so many steps leaves; without dice everything has arrived."""
        names: dict[Node, dict[str, Node]] = {}
        contents: dict[Node, bytearray] = {}
        for step in self._surviving(moment, dice):
            if isinstance(step, Names):
                for directory, name, node in step.changes:
                    entries = names.setdefault(directory, {})
                    if node is None:
                        entries.pop(name, None)
                    else:
                        entries[name] = node
            else:
                _apply(contents.setdefault(step.node, bytearray()), step)
        _build(target, self._top, names, contents)

    def _surviving(self, moment: int, dice: random.Random | None) -> Iterator[Data | Names]:
        last: dict[Node | None, int] = {}
        for number, step in enumerate(self.steps[:moment]):
            if isinstance(step, Synced):
                last[step.node] = number
        everything = last.get(None, -1)
        mood = dice.choice((0.1, 0.5, 0.9)) if dice else 1.0
        over: set[Node] = set()  # ordered directories that have lost a name: they lose all that come after it
        for number, step in enumerate(self.steps[:moment]):
            if isinstance(step, Synced):
                continue
            nodes = [step.node] if isinstance(step, Data) else [directory for directory, _, _ in step.changes]
            kept = number < max(everything, *(last.get(node, -1) for node in nodes))
            if dice is None or kept:
                yield step
            elif isinstance(step, Names):
                if dice.random() < mood and not over.intersection(nodes):
                    yield step
                else:
                    over.update(node for node in nodes if node.is_ordered)
            elif step.octets is None:
                if dice.random() < mood:
                    yield step
            else:
                yield from _sectors(step, dice, mood)


def _sectors(step: Data, dice: random.Random, mood: float) -> Iterator[Data]:
    """Those parts of a write that arrived."""
    assert step.octets is not None
    position = 0
    while position < len(step.octets):
        end = position + SECTOR - (step.offset + position) % SECTOR
        if dice.random() < mood:
            yield Data(step.node, step.offset + position, step.octets[position:end])
        position = end


def _apply(content: bytearray, step: Data) -> None:
    if step.octets is None:
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    content.extend(bytes(max(0, step.offset - len(content))))
    content[step.offset : step.offset + len(step.octets)] = step.octets


def _build(target: Path, top: Node, names: dict[Node, dict[str, Node]], contents: dict[Node, bytearray]) -> None:
    built: dict[Node, Path] = {}
    waiting = [(target, top)]
    while waiting:
        directory, node = waiting.pop()
        for name, child in names.get(node, {}).items():
            path = directory / name
            if child.is_directory:
                path.mkdir()
                waiting.append((path, child))
            elif child in built:
                os.link(built[child], path)
            else:
                path.write_bytes(contents.get(child, b""))
                built[child] = path


def _full(path: str, dir_fd: int | None) -> str:
    return path if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
