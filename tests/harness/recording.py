"""The machine's disk, which also remembers what was asked of it and in which order."""

import os
from collections.abc import Sequence

from runtime.durable import Disk


class RecordingDisk(Disk):
    """Does everything, and notes (what, name): a descriptor is noted by its file's name."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    def write_all(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        self._note("write", _name(fd))
        return super().write_all(fd, buffers)

    def sync_data(self, fd: int) -> None:
        super().sync_data(fd)
        self._note("sync", _name(fd))

    def sync_file(self, fd: int) -> None:
        super().sync_file(fd)
        self._note("sync", _name(fd))

    def sync_filesystem(self, fd: int) -> None:
        super().sync_filesystem(fd)
        self._note("sync all", _name(fd))

    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        super().sync_directory(path, dir_fd)
        self._note("sync directory", os.path.basename(path))

    def create(self, path: str, mode: int = 0o600, dir_fd: int | None = None) -> int:
        self._note("create", os.path.basename(path))
        return super().create(path, mode, dir_fd)

    def link(self, existing: str, new: str, dir_fd: int | None = None) -> None:
        self._note("link", os.path.basename(new))
        super().link(existing, new, dir_fd)

    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        self._note("rename", os.path.basename(new))
        super().rename(old, new, dir_fd)

    def rename_across(self, old: tuple[int, str], new: tuple[int, str]) -> None:
        self._note("rename", new[1])
        super().rename_across(old, new)

    def unlink(self, path: str, dir_fd: int | None = None) -> None:
        self._note("unlink", os.path.basename(path))
        super().unlink(path, dir_fd)

    def replace_file(self, path: str, content: bytes, mode: int = 0o600) -> None:
        super().replace_file(path, content, mode)
        self._note("replace", os.path.basename(path))

    def _note(self, what: str, name: str) -> None:
        self.done.append((what, name))


def _name(fd: int) -> str:
    return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
