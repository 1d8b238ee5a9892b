"""The quarantine: torn tails and damaged octets of logs, copied aside for somebody to look at.

Nothing counts on what is in here, and nobody but a person reads it. So it is bounded, it gives way to the mail when
the disk is full, and no trouble with it stops anybody.
"""

import contextlib
import os
from dataclasses import dataclass

from runtime.durable import Disk

# A torn tail or a damaged stretch is copied up to this size: enough to see what it was.
COPY_MAX_OCTETS = 8 * 1024 * 1024

# All of it together. A process that is killed again and again leaves a torn tail each time; a thousand show enough.
FILES_MAX = 1_000
OCTETS_MAX = 1024**3
assert COPY_MAX_OCTETS * 8 < OCTETS_MAX, "several copies fit"

# What was cut off before anybody was told of it: the first to go. Damage is what a person may still need.
_TORN = ".torn"


@dataclass(frozen=True, slots=True)
class _Copy:
    """A file of the quarantine; the oldest is the least."""

    since_ns: int
    path: str
    octets: int


class Quarantine:
    """The directory at one path."""

    def __init__(self, path: str, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def set_aside(self, label: str, octets: bytes) -> str:
        """Copies octets under a name; returns the path, or says in words that they were not copied and why."""
        path = os.path.join(self._path, label)
        octets = octets[:COPY_MAX_OCTETS]
        try:
            if not self._has_room(path, len(octets)):
                return "nowhere, for the quarantine is full"
            self._disk.replace_file(path, octets)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._disk.unlink(f"{path}.{os.getpid()}.draft")
            return f"nowhere, for {error.strerror}"
        return path

    def _has_room(self, path: str, octets: int) -> bool:
        """Whether there is room for one more; the oldest torn tails are removed to make it."""
        copies = sorted(self._copies(path), key=lambda copy: copy.since_ns)
        torn = iter([copy for copy in copies if copy.path.endswith(_TORN)])
        files, total = len(copies) + 1, sum(copy.octets for copy in copies) + octets
        while files > FILES_MAX or total > OCTETS_MAX:
            oldest = next(torn, None)
            if oldest is None:
                return False
            with contextlib.suppress(FileNotFoundError):  # another replica made room too
                self._disk.unlink(oldest.path)
            files, total = files - 1, total - oldest.octets
        return True

    def _copies(self, but: str) -> list[_Copy]:
        copies = []
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.path == but:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    copies.append(_Copy(found.st_mtime_ns, entry.path, found.st_size))
        return copies
