"""File systems of a test's own on loop devices and in memory, and the power cut of one that is mounted.

Everything that is mounted is unmounted when its block ends, whatever happened in it. Root only: `missing_part` says
what else the machine lacks.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness.stack import patience

# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number, _IOR('X', 125, __u32); 2: nothing that was not synced goes to
# the disk, not even the journal.
_SHUTDOWN = 0x8004587D
_NOTHING_MORE = 2
_MNT_DETACH = 2

MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
PACKAGES = {"ext4": "e2fsprogs", "xfs": "xfsprogs", "btrfs": "btrfs-progs"}
# The least that mkfs takes, and room for the work. The files are sparse.
OCTETS = {"ext4": 96 << 20, "xfs": 320 << 20, "btrfs": 128 << 20}

_GLANCE_S = 5.0  # for how long another program may have a file open that it only looked at

_libc = ctypes.CDLL(None, use_errno=True)


def missing_part(kind: str) -> tuple[str, str] | None:
    """What the machine lacks for a file system of this kind, and the remedy; None when nothing."""
    if os.geteuid() != 0:
        return "root", "mounting wants it"
    if not Path("/dev/loop-control").exists():
        return "loop devices", "modprobe loop"
    maker = MAKERS[kind][0]
    if shutil.which(maker) is None:
        return maker, f"apt-get install {PACKAGES[kind]}"
    if kind not in Path("/proc/filesystems").read_text().split():
        return f"the file system {kind}", f"modprobe {kind}"
    return None


@dataclass
class Volume:
    """A file system in a file, mounted at `point` while it is up."""

    kind: str
    image: Path
    point: Path
    options: str = "loop"
    up: bool = field(default=False)

    @classmethod
    def make(cls, kind: str, image: Path, point: Path, octets: int = 0, extra: tuple[str, ...] = ()) -> "Volume":
        """An empty one, not mounted. `extra` are words for mkfs."""
        with image.open("wb") as file:
            file.truncate(octets or OCTETS[kind])
        _run(*MAKERS[kind], *extra, str(image))
        point.mkdir(parents=True, exist_ok=True)
        return cls(kind, image, point)

    def mount(self) -> None:
        _run("mount", "-t", self.kind, "-o", self.options, str(self.image), str(self.point))
        self.up = True

    def cut(self) -> None:
        """The power fails: what was not synced is gone, and every later call fails with EIO."""
        fd = os.open(self.point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NOTHING_MORE))
        finally:
            os.close(fd)

    def unmount(self) -> None:
        """OSError while somebody has a file open there, and goes on having it: what looks at every mount of a machine
        (a monitor, a file manager) has one for a moment."""
        if not self.up:
            return
        for _ in patience(_GLANCE_S):
            with contextlib.suppress(OSError):
                _unmount(self.point, 0)
                self.up = False
                return
        _unmount(self.point, 0)
        self.up = False

    @contextlib.contextmanager
    def mounted(self) -> Iterator["Volume"]:
        """Mounted in this block; unmounted after it: from under somebody only when the block has failed."""
        self.mount()
        try:
            yield self
        except BaseException:
            if self.up:
                _unmount(self.point, _MNT_DETACH)
                self.up = False
            raise
        self.unmount()


@contextlib.contextmanager
def in_memory(point: Path, options: str) -> Iterator[Path]:
    """A tmpfs with these options (`size=8m,nr_inodes=100`), mounted in this block."""
    point.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point))
    try:
        yield point
    finally:
        try:
            _unmount(point, 0)
        except OSError:
            _unmount(point, _MNT_DETACH)


@contextlib.contextmanager
def quick_folder(directory: Path) -> Iterator[Path]:
    """A folder in memory, where nothing waits for a disk; where there is none, in this directory."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else directory) as found:
        yield Path(found)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


def _unmount(point: Path, flags: int) -> None:
    if _libc.umount2(os.fsencode(point), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(point))
