"""The only way to the disk: write, sync, link, rename, unlink, each checked, each by a name that says what it does.

The spool is worked by full paths (a directory descriptor would follow a rename, and a rename is how a log is taken
over); Maildirs are worked by `dir_fd`, so that nothing a user does to a path above can lead elsewhere. No call here is
ever retried: after a failed sync the page cache may hold data that looks durable and is not.
"""

import contextlib
import ctypes
import os
import shutil
from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_SYNC_FILE_RANGE_WRITE = 2

_IOV_MAX = 1_024  # the kernel's limit of buffers in one writev(2)


class Disk:
    """The machine's disk. The simulation has another, which forgets what was not synced."""

    def write_all(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        """Appends every buffer at the descriptor's position; returns the octets written. Short writes are finished."""
        total = 0
        for start in range(0, len(buffers), _IOV_MAX):
            group = list(buffers[start : start + _IOV_MAX])
            expected = sum(len(buffer) for buffer in group)
            written = os.writev(fd, group)
            if written < expected:
                rest = memoryview(b"".join(group))[written:]
                while rest:
                    rest = rest[os.write(fd, rest) :]
            total += expected
        return total

    def sync_data(self, fd: int) -> None:
        """Contents and length of the file are on the disk."""
        os.fdatasync(fd)

    def sync_file(self, fd: int) -> None:
        """Contents and all metadata of the file are on the disk."""
        os.fsync(fd)

    def start_writing(self, fd: int) -> None:
        """The kernel begins to write the file's pages: a hint before the `sync_data` of many files, no promise."""
        _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)

    def sync_filesystem(self, fd: int) -> None:
        """Everything written to the file system of `fd` is on the disk. A write error since `fd` was opened is OSError
        (Linux 5.8 and later), so open it before the first write that matters."""
        if _libc.syncfs(fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        """The names in the directory are on the disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def create(self, path: str, mode: int = 0o600, dir_fd: int | None = None) -> int:
        """A new file, open for reading and writing; FileExistsError when the name is taken, by a link too."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, mode, dir_fd=dir_fd)

    def open_to_append(self, path: str, mode: int = 0o600) -> int:
        """A file of which every write goes to its end, open for reading too; made if it is missing. Links are followed,
        and nobody is waited for, whatever is there: look at it (fstat(2)) before writing."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(path, flags, mode)

    def preallocate(self, fd: int, octets: int) -> None:
        """The blocks are the file's; reading them gives zeros."""
        os.posix_fallocate(fd, 0, octets)

    def can_preallocate(self, fd: int, octets: int) -> bool:
        """Whether the file system gives blocks by itself (fallocate(2)); where not, `preallocate` writes them all."""
        return not _libc.fallocate(fd, 0, ctypes.c_int64(0), ctypes.c_int64(octets))

    def truncate(self, fd: int, octets: int) -> None:
        """The file ends there (on the disk once it is synced)."""
        os.ftruncate(fd, octets)

    def link(self, existing: str, new: str, dir_fd: int | None = None) -> None:
        """A second name; FileExistsError when it is taken. The election of one among many."""
        os.link(existing, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd, follow_symlinks=False)

    def rename(self, old: str, new: str, dir_fd: int | None = None) -> None:
        """Moves the name, replacing what stood there: use it only where the target is ours or cannot exist."""
        os.rename(old, new, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)

    def rename_across(self, old: tuple[int, str], new: tuple[int, str]) -> None:
        """`rename` from one directory, given by its descriptor, into another of the same file system."""
        os.rename(old[1], new[1], src_dir_fd=old[0], dst_dir_fd=new[0])

    def unlink(self, path: str, dir_fd: int | None = None) -> None:
        """The name is gone (on the disk once the directory is synced)."""
        os.unlink(path, dir_fd=dir_fd)

    def remove_tree(self, path: str) -> None:
        """The directory and everything in it are gone. Only for what has been renamed out of everybody's sight."""
        shutil.rmtree(path)

    def remove_directory(self, path: str) -> None:
        """An empty directory is gone."""
        os.rmdir(path)

    def make_directory(self, path: str, mode: int = 0o700, dir_fd: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=dir_fd)

    def write_new_file(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """A small file that appears whole or not at all, durable with its name; FileExistsError when it is there."""
        draft = f"{path}.{os.getpid()}.draft"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            self.write_all(fd, [content])
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(draft, path)
        finally:
            os.unlink(draft)
        self.sync_directory(os.path.dirname(path) or ".")

    def replace_file(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """A file whose old or new content is there at any instant, durable on return. When it fails nothing is left."""
        draft = f"{path}.{os.getpid()}.draft"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        try:
            try:
                self.write_all(fd, [content])
                os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(draft, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        self.sync_directory(os.path.dirname(path) or ".")
