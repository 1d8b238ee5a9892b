"""A mount namespace in which a program sees files of its own at the system's places: account files, a whole folder.

The system's files are never written. Needs root and unshare(1) of util-linux.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.mailhost import CROWD, reader_name
from tests.bench.package import Missing

# Accounts made up for a namespace have ids from here on, as far as the system's files leave them free.
_FIRST_ID = 7_700
_NOWHERE = ("/dev/log",)  # hidden, so that nothing of the bench is written to the system's log

# "$@" is the program; pairs of source and target come before the word --.
_MOUNT_AND_RUN = """\
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1; shift 2; done
shift
exec "$@"
"""


def command(mounts: Mapping[Path, Path], program: Sequence[str]) -> list[str]:
    """The command that runs `program` where each key is seen at its value; raises Missing without root or unshare."""
    unshare = _unshare()
    pairs = [str(path) for pair in mounts.items() for path in pair]
    return [
        unshare,
        "--mount",
        "--propagation",
        "private",
        "--",
        "sh",
        "-c",
        _MOUNT_AND_RUN,
        "sh",
        *pairs,
        "--",
        *program,
    ]


def _unshare() -> str:
    found = shutil.which("unshare")
    if found is None or os.geteuid() != 0:
        raise Missing("a mount namespace needs root and unshare(1)")
    return found


class Accounts:
    """Copies of /etc/passwd and /etc/group with additions."""

    def __init__(self, place: Path) -> None:
        """The copies, and homes of the additions, will be in `place`. Raises Missing as `command` does."""
        _unshare()
        self._place = place
        self._passwd = Path("/etc/passwd").read_text(encoding="utf-8", errors="surrogateescape")
        self._group = Path("/etc/group").read_text(encoding="utf-8", errors="surrogateescape")
        self._next = _FIRST_ID

    def add_group(self, name: str) -> int:
        """The id of the group, made when it is missing."""
        found = _id_of(self._group, name)
        if found is None:
            found = self._free_id()
            self._group += f"{name}:x:{found}:\n"
        return found

    def add_user(self, name: str, home: str = "/nonexistent") -> int:
        """The id of the user, made when it is missing, with a group of the same name."""
        found = _id_of(self._passwd, name)
        if found is None:
            group = self.add_group(name)
            found = self._free_id()
            self._passwd += f"{name}:x:{found}:{group}::{home}:/bin/sh\n"
        return found

    def add_reader(self, name: str) -> Path:
        """A user with a home and an empty Maildir in it; returns the Maildir's new/. The name must not exist yet."""
        if _id_of(self._passwd, name) is not None:
            raise Missing(f"the system has a user {name} already")
        home = self._place / "homes" / name
        uid, gid = self.add_user(name, str(home)), self.add_group(name)
        for folder in (home, home / "Maildir", *(home / "Maildir" / part for part in ("tmp", "new", "cur"))):
            folder.mkdir(parents=True, mode=0o700)
            os.chown(folder, uid, gid)
        return home / "Maildir/new"

    def add_crowd(self) -> Path:
        """The readers of tests/bench/mailhost.py; returns the directory of their homes."""
        for number in range(CROWD):
            self.add_reader(reader_name(number))
        return self._place / "homes"

    def write(self) -> None:
        for name, content in (("passwd", self._passwd), ("group", self._group)):
            (self._place / name).write_text(content, encoding="utf-8", errors="surrogateescape")
            (self._place / name).chmod(0o644)

    def mounts(self) -> dict[Path, Path]:
        """What `command` must show where; call `write` before."""
        shown = {self._place / name: Path("/etc", name) for name in ("passwd", "group")}
        for hidden in map(Path, _NOWHERE):
            if hidden.exists():
                (self._place / "nothing").touch()
                shown[self._place / "nothing"] = hidden.resolve()
        return shown

    def _free_id(self) -> int:
        taken = {line.split(":")[2] for line in (self._passwd + self._group).splitlines() if line.count(":") >= 2}
        while str(self._next) in taken:
            self._next += 1
        self._next += 1
        return self._next - 1


def _id_of(entries: str, name: str) -> int | None:
    for line in entries.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2:
            return int(fields[2])
    return None
