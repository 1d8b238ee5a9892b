"""A block device that remembers: a file that records every write and every flush, in their order, and marks between.

The file is served through the kernel's FUSE protocol (fuse.h, protocol 7.31) from a thread of this process, so that a
loop device can stand on it; `marks` beside it takes lines from any process, recorded between the writes. `Recording`
then makes the images that a power cut at any moment may leave: what was flushed is there, of the rest any part.
"""

import contextlib
import ctypes
import os
import random
import stat
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

SECTOR = 512
_BLOCK = 4096
_MAX_WRITE = 128 * 1024
_EIO, _ENOENT, _ENOSYS = 5, 2, 38

_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
_FSYNC, _FLUSH, _INIT, _OPENDIR, _RELEASEDIR, _INTERRUPT, _DESTROY, _BATCH_FORGET = 20, 25, 26, 27, 29, 36, 38, 42
_SILENT = {_FORGET, _INTERRUPT, _BATCH_FORGET}
_EMPTY = {_RELEASE, _FLUSH, _RELEASEDIR, _DESTROY}
_BIG_WRITES, _ASYNC_READ = 1 << 5, 1 << 0
_DIRECT_IO = 1
_ROOT, _DISK, _MARKS = 1, 2, 3
_NAMES = {b"disk": _DISK, b"marks": _MARKS}
_MS_NOSUID, _MS_NODEV, _MNT_DETACH = 2, 4, 2

_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")
_libc = ctypes.CDLL(None, use_errno=True)


class Write(NamedTuple):
    """Octets that went to the device; they are there for certain only after the next Flush."""

    offset: int
    octets: bytes


class Flush(NamedTuple):
    """Everything before this is on the device."""


class Mark(NamedTuple):
    """A line that somebody wrote at this moment."""

    line: bytes


Entry = Write | Flush | Mark


@dataclass
class Recording:
    """The device's first content, and everything that happened to it."""

    before: bytes
    entries: list[Entry] = field(default_factory=list)

    def moments(self) -> list[int]:
        """Every number of entries after which a cut makes a difference: behind each write and each flush."""
        return [number for number, entry in enumerate(self.entries, 1) if not isinstance(entry, Mark)]

    def marks(self, moment: int) -> list[bytes]:
        """What had been said by then."""
        return [entry.line for entry in self.entries[:moment] if isinstance(entry, Mark)]

    def image(self, path: Path, moment: int, dice: random.Random | None) -> None:
        """Writes what a cut at that moment leaves. Without dice every write arrived in its order and the last one is
        whole; with them any of the unflushed writes may be missing, in blocks, and one is torn between two sectors."""
        flushed = max((n for n, entry in enumerate(self.entries[:moment]) if isinstance(entry, Flush)), default=0)
        with path.open("wb") as file:
            file.write(self.before)
            for number, entry in enumerate(self.entries[:moment]):
                if isinstance(entry, Write):
                    for offset, octets in [entry] if dice is None or number < flushed else _survivors(entry, dice):
                        file.seek(offset)
                        file.write(octets)


def _survivors(write: Write, dice: random.Random) -> Iterator[Write]:
    """The parts of an unflushed write that arrived: whole blocks, any of them; now and then a part of one."""
    lot = dice.random()
    if lot < 0.3:
        return
    for start in range(0, len(write.octets), _BLOCK):
        octets = write.octets[start : start + _BLOCK]
        if lot < 0.6:
            yield Write(write.offset + start, octets)
        elif lot < 0.9:
            if dice.random() < 0.5:
                yield Write(write.offset + start, octets)
        else:
            yield Write(write.offset + start, octets[: SECTOR * dice.randrange(len(octets) // SECTOR + 1)])


class RecordingDevice:
    """Serves the file of a recording at `point`/disk while its block lasts."""

    def __init__(self, recording: Recording, point: Path) -> None:
        self._recording = recording
        self._content = bytearray(recording.before)
        self._point = point
        self._fd = -1
        self.bad: list[range] = []  # octets that do not read any more

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        self._point.mkdir(parents=True, exist_ok=True)
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._fd},rootmode={stat.S_IFDIR:o},user_id=0,group_id=0".encode()
        point = os.fsencode(self._point)
        if _libc.mount(b"recorder", point, b"fuse", _MS_NOSUID | _MS_NODEV, options):
            os.close(self._fd)
            raise OSError(ctypes.get_errno(), "cannot mount FUSE")
        thread = threading.Thread(target=self._serve, name="recorder", daemon=True)
        thread.start()
        try:
            yield self._point
        finally:
            _libc.umount2(point, _MNT_DETACH)
            thread.join(30)
            os.close(self._fd)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fd, _MAX_WRITE + 4096)
            except InterruptedError:
                continue
            except OSError:
                return  # unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in _SILENT:
                continue
            answer = self._answer(opcode, node, memoryview(request)[_IN.size :])
            body = b"" if isinstance(answer, int) else answer
            error = answer if isinstance(answer, int) else 0
            with contextlib.suppress(FileNotFoundError):  # nobody waits for this answer any more
                os.writev(self._fd, [_OUT.pack(_OUT.size + len(body), -error, unique), body])
            if opcode == _DESTROY:
                return

    def _answer(self, opcode: int, node: int, data: memoryview) -> bytes | int:
        """The reply's octets, or the number of an error."""
        match opcode:
            case 26:  # INIT
                flags = _BIG_WRITES | _ASYNC_READ
                return struct.pack("<IIIIHHIIHHII24x", 7, 31, 1 << 17, flags, 16, 12, _MAX_WRITE, 1, 0, 0, 0, 0)
            case 1:  # LOOKUP
                found = _NAMES.get(bytes(data).rstrip(b"\0"))
                return (
                    struct.pack("<QQQQII", found, 0, 3600, 3600, 0, 0) + self._attributes(found) if found else _ENOENT
                )
            case 3 | 4:  # GETATTR, SETATTR
                return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
            case 14 | 27:  # OPEN, OPENDIR
                return struct.pack("<QIi", node, _DIRECT_IO if node == _MARKS else 0, 0)
            case 15:  # READ
                _, offset, size = struct.unpack_from("<QQI", data)
                if any(offset < one.stop and offset + size > one.start for one in self.bad):
                    return _EIO
                return bytes(self._content[offset : offset + size])
            case 16:  # WRITE
                return self._write(node, data)
            case 20:  # FSYNC
                self._recording.entries.append(Flush())
                return b""
            case 17:  # STATFS
                return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, _BLOCK, 255, _BLOCK, 0)
        return b"" if opcode in _EMPTY else _ENOSYS

    def _write(self, node: int, data: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        octets = bytes(data[40 : 40 + size])
        if node == _MARKS:
            self._recording.entries.append(Mark(octets))
        else:
            self._content[offset : offset + size] = octets
            self._recording.entries.append(Write(offset, octets))
        return struct.pack("<II", size, 0)

    def _attributes(self, node: int) -> bytes:
        size = {_DISK: len(self._content)}.get(node, 0)
        mode = stat.S_IFDIR | 0o700 if node == _ROOT else stat.S_IFREG | 0o600
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, size, size // SECTOR, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, _BLOCK, 0
        )
