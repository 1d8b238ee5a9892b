"""A file system in memory that keeps two truths: what processes see, and what a power cut would leave.

Written octets are in doubt until the file is synced, in pieces of 512; names are in doubt until their directory is. Two
kinds of it, by seed: `journal` keeps the order of all changes of names, and any sync writes all of them down, as ext4
does; `weak` promises nothing but what was synced, one by one. A failed sync loses what it was to write and looks clean
afterwards, as Linux does. Knows no processes: whoever calls says which host it is.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

SECTOR = 512
_BLOCKS = 1 << 20

# What stands in a directory's list for a name that was removed.
Names = dict[str, "Node"]


class Node:
    """A file or a directory: as seen, and as it is on the disk."""

    __slots__ = (
        "changed_us",
        "data",
        "disk",
        "disk_names",
        "links",
        "lock",
        "lock_until_us",
        "names",
        "number",
        "opened",
        "pending",
    )

    def __init__(self, number: int, is_directory: bool) -> None:
        self.number = number
        self.names: Names | None = {} if is_directory else None
        self.disk_names: Names = {}
        self.data = bytearray()
        self.disk = bytearray()
        self.pending: list[tuple[str, int, bytes]] = []
        self.links = 0
        self.opened = 0
        self.changed_us = 0
        self.lock: object | None = None
        self.lock_until_us = 0


@dataclass(slots=True)
class Change:
    """Names set (to a node) or removed (None), all at once or not at all."""

    host: str
    names: list[tuple[Node, str, Node | None]]


@dataclass(slots=True)
class Survival:
    """What of the unsynced outlives one power cut: by chance, each cut in its own manner."""

    chance: Random
    manner: str = "some"
    kept: int = field(default=0)

    def keeps(self) -> bool:
        if self.manner == "none":
            return False
        if self.manner == "all":
            return True
        return self.chance.random() < 0.5


class FileSystem:
    """One volume, seen alike from every host."""

    def __init__(self, chance: Random, weak: bool) -> None:
        self._chance = chance
        self.weak = weak
        self.full = False
        self.now_us: Callable[[], int] = lambda: 0
        self._free: list[int] = []
        self._last = 1
        self._journal: list[Change] = []
        self._files: dict[int, Node] = {}
        self.root = self._node(True)
        self.root.links = 1

    # -- names --------------------------------------------------------------------------------------------------------

    def find(self, path: str) -> Node:
        """The node at an absolute path; FileNotFoundError, NotADirectoryError as the kernel has them."""
        node = self.root
        for part in path.split("/"):
            if not part or part == ".":
                continue
            if node.names is None:
                raise _error(errno.ENOTDIR, path)
            found = node.names.get(part)
            if found is None:
                raise _error(errno.ENOENT, path)
            node = found
        return node

    def parent(self, path: str) -> tuple[Node, str]:
        """The directory of a path, and the path's last name."""
        folder, _, name = path.rstrip("/").rpartition("/")
        node = self.find(folder)
        if node.names is None:
            raise _error(errno.ENOTDIR, path)
        return node, name

    def exists(self, path: str) -> bool:
        try:
            self.find(path)
        except OSError:
            return False
        return True

    def make(self, host: str, path: str, is_directory: bool) -> Node:
        folder, name = self.parent(path)
        assert folder.names is not None
        if name in folder.names:
            raise _error(errno.EEXIST, path)
        self._room(path)
        node = self._node(is_directory)
        self._change(host, [(folder, name, node)])
        return node

    def link(self, host: str, existing: str, new: str) -> None:
        node = self.find(existing)
        folder, name = self.parent(new)
        assert folder.names is not None
        if name in folder.names:
            raise _error(errno.EEXIST, new)
        self._change(host, [(folder, name, node)])

    def rename(self, host: str, old: str, new: str) -> None:
        node = self.find(old)
        source, source_name = self.parent(old)
        folder, name = self.parent(new)
        assert folder.names is not None
        there = folder.names.get(name)
        if there is node:
            return
        if there is not None and there.names:
            raise _error(errno.ENOTEMPTY, new)
        if there is not None and (there.names is None) != (node.names is None):
            raise _error(errno.ENOTDIR if node.names is not None else errno.EISDIR, new)
        self._change(host, [(source, source_name, None), (folder, name, node)])

    def remove(self, host: str, path: str, is_directory: bool) -> None:
        node = self.find(path)
        if is_directory and node.names is None:
            raise _error(errno.ENOTDIR, path)
        if not is_directory and node.names is not None:
            raise _error(errno.EISDIR, path)
        if node.names:
            raise _error(errno.ENOTEMPTY, path)
        folder, name = self.parent(path)
        self._change(host, [(folder, name, None)])

    def _change(self, host: str, names: list[tuple[Node, str, Node | None]]) -> None:
        for folder, name, node in names:
            assert folder.names is not None
            gone = folder.names.pop(name, None)
            if gone is not None:
                gone.links -= 1
            if node is not None:
                folder.names[name] = node
                node.links += 1
        self._journal.append(Change(host, names))

    def _node(self, is_directory: bool) -> Node:
        if self._free and self._chance.random() < 0.5:
            number = self._free.pop()  # as ext4 does: the number of a file that is gone serves again
        else:
            self._last += 1
            number = self._last
        node = Node(number, is_directory)
        self._files[id(node)] = node
        return node

    def released(self, node: Node) -> None:
        """Nobody has the node open any more: without a name, now and on the disk, it is gone."""
        if node.links <= 0 and not node.opened and id(node) in self._files and not self._on_disk(node):
            del self._files[id(node)]
            self._free.append(node.number)

    def _on_disk(self, node: Node) -> bool:
        if any(node is one for change in self._journal for _, _, one in change.names):
            return True
        return any(
            node is one
            for folder in self._files.values()
            if folder.names is not None
            for one in folder.disk_names.values()
        )

    # -- octets -------------------------------------------------------------------------------------------------------

    def write(self, host: str, node: Node, offset: int, octets: bytes) -> None:
        if offset + len(octets) > len(node.data):
            self._room("")
        _put(node.data, offset, octets)
        node.changed_us = self.now_us()
        node.pending.append((host, offset, octets))

    def resize(self, host: str, node: Node, size: int) -> None:
        """Longer with zeros, or shorter."""
        if size > len(node.data):
            self._room("")
        _resize(node.data, size)
        node.pending.append((host, -1, size.to_bytes(8, "big")))

    def _room(self, path: str) -> None:
        if self.full:
            raise _error(errno.ENOSPC, path)

    # -- the disk -----------------------------------------------------------------------------------------------------

    def sync(self, node: Node) -> None:
        """All of a file is on the disk, or all names of a directory; with a journal every name there is."""
        if node.names is None:
            for _, offset, octets in node.pending:
                _apply(node.disk, offset, octets)
            node.pending.clear()
            if self.weak:
                return
        self._commit(None if not self.weak else node)

    def _commit(self, folder: Node | None) -> None:
        left: list[Change] = []
        for change in self._journal:
            if folder is None or any(one is folder for one, _, _ in change.names):
                _settle(change)
            else:
                left.append(change)
        self._journal = left

    def fail_sync(self, node: Node) -> None:
        """A sync that fails: the pages count as clean, whether they were written or not; nothing says so later."""
        for _, offset, octets in node.pending:
            if offset < 0:
                _apply(node.disk, offset, octets)
                continue
            for start in range(0, len(octets), SECTOR):
                if self._chance.random() < 0.3:
                    _apply(node.disk, offset + start, octets[start : start + SECTOR])
        node.pending.clear()
        if len(node.disk) != len(node.data):
            _resize(node.disk, len(node.data))

    def drop_caches(self) -> None:
        """Clean pages are read from the disk again: where a sync had failed, the old octets come back."""
        for node in self._files.values():
            if node.names is None:
                _reread(node)

    def power_cut(self, hosts: set[str], survival: Survival) -> None:
        """What these hosts had not synced survives in part; what others have is not touched."""
        kept: list[Change] = []
        in_order = True
        for change in self._journal:
            if change.host not in hosts:
                kept.append(change)
                continue
            keeps = survival.keeps() if self.weak else in_order
            if not self.weak and in_order and survival.manner == "some" and survival.chance.random() < 0.3:
                in_order = keeps = False
            if survival.manner == "none":
                keeps = False
            if keeps:
                _settle(change)
        self._journal = kept
        for node in self._files.values():
            if node.names is None:
                self._cut_file(node, hosts, survival)
        self._rebuild(kept)

    def _cut_file(self, node: Node, hosts: set[str], survival: Survival) -> None:
        left: list[tuple[str, int, bytes]] = []
        for host, offset, octets in node.pending:
            if host not in hosts:
                left.append((host, offset, octets))
            elif offset < 0:
                if survival.keeps():
                    _apply(node.disk, offset, octets)
            else:
                start = 0
                while start < len(octets):
                    # Sectors are those of the file: a write that begins inside one ends with it.
                    stop = min(len(octets), start + SECTOR - (offset + start) % SECTOR)
                    if survival.keeps():
                        _apply(node.disk, offset + start, octets[start:stop])
                    start = stop
        node.pending = left
        _reread(node)

    def _rebuild(self, kept: list[Change]) -> None:
        """What is seen after a cut: what is on the disk, and on it what the living hosts still have to write."""
        for node in self._files.values():
            node.links = 0
            if node.names is not None:
                node.names = dict(node.disk_names)
        for change in kept:
            if _possible(change, lambda folder: folder.names or {}):
                for folder, name, node_or_none in change.names:
                    assert folder.names is not None
                    folder.names.pop(name, None)
                    if node_or_none is not None:
                        folder.names[name] = node_or_none
        for node in list(self._files.values()):
            for one in (node.names or {}).values():
                one.links += 1
        self.root.links = 1

    def tree(self) -> list[str]:
        """Every path there is, for the trace."""
        found: list[str] = []

        def walk(node: Node, path: str) -> None:
            for name in sorted(node.names or {}):
                assert node.names is not None
                found.append(f"{path}/{name}")
                walk(node.names[name], f"{path}/{name}")

        walk(self.root, "")
        return found


def _possible(change: Change, names: Callable[[Node], Names]) -> bool:
    """Whether a change finds what it needs: a rename its source, which a lost change before it may have made."""
    moved = next((node for _, _, node in change.names if node is not None), None)
    if len(change.names) == 1 or moved is None:
        return True
    folder, name, _ = change.names[0]
    return names(folder).get(name) is moved


def _settle(change: Change) -> None:
    if _possible(change, lambda folder: folder.disk_names):
        for folder, name, node in change.names:
            folder.disk_names.pop(name, None)
            if node is not None:
                folder.disk_names[name] = node


def _reread(node: Node) -> None:
    node.data = bytearray(node.disk)
    for _, offset, octets in node.pending:
        _apply(node.data, offset, octets)


def _apply(data: bytearray, offset: int, octets: bytes) -> None:
    if offset < 0:
        _resize(data, int.from_bytes(octets, "big"))
    else:
        _put(data, offset, octets)


def _put(data: bytearray, offset: int, octets: bytes) -> None:
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(octets)] = octets


def _resize(data: bytearray, size: int) -> None:
    if size < len(data):
        del data[size:]
    else:
        data.extend(bytes(size - len(data)))


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
