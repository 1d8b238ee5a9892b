"""What the kernel says of a running process: who it is, what it may do, what it has open, what it was told.

Reads /proc as root; knows nothing of what the process is for.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# What a program is told, and by whom: qmail-command(8), then ours.
QMAILS = {
    *("SENDER", "NEWSENDER", "RECIPIENT", "USER", "HOME", "HOST", "HOST2", "HOST3", "HOST4", "LOCAL"),
    *("EXT", "EXT2", "EXT3", "EXT4", "DTLINE", "RPLINE", "UFLINE", "PATH"),
}
OURS = {"DELIVERY_ID", "SEAPOST_CONTROL", "SEAPOST_SOCKET_DIR"}


@dataclass(frozen=True, slots=True)
class Process:
    """One process, looked at once."""

    pid: int
    status: dict[str, str]
    threads: tuple[dict[str, str], ...]
    descriptors: dict[int, str]
    inet: tuple[str, ...]
    environment: frozenset[str]
    cwd: str

    @classmethod
    def look(cls, pid: int) -> "Process":
        at = Path("/proc") / str(pid)
        threads = tuple(_facts(task / "status") for task in (at / "task").iterdir())
        open_now = {}
        for one in (at / "fd").iterdir():
            try:
                open_now[int(one.name)] = str(one.readlink())
            except FileNotFoundError:  # closed meanwhile
                continue
        names = frozenset(
            word.partition(b"=")[0].decode() for word in (at / "environ").read_bytes().split(b"\0") if word
        )
        facts = _facts(at / "status")
        return cls(pid, facts, threads, open_now, _sockets(pid, open_now), names, str((at / "cwd").readlink()))

    @property
    def uids(self) -> set[int]:
        return {int(one) for one in self.status["Uid"].split()}

    @property
    def gids(self) -> set[int]:
        return {int(one) for one in self.status["Gid"].split()}

    @property
    def groups(self) -> set[int]:
        return {int(one) for one in self.status["Groups"].split()}

    @property
    def may(self) -> dict[str, int]:
        """Each set of capabilities as a mask; the same of every thread, or AssertionError."""
        masks = [{name: int(thread[name], 16) for name in CAPABILITY_SETS} for thread in self.threads]
        assert all(one == masks[0] for one in masks), "one thread may more than another"
        return masks[0]

    @property
    def gains_nothing(self) -> bool:
        """no_new_privs: no setuid program and no file capability helps."""
        return all(thread["NoNewPrivs"] == "1" for thread in self.threads)

    @property
    def files(self) -> list[str]:
        """What it has open by a name in a file system."""
        return [where for where in self.descriptors.values() if where.startswith("/") and "memfd:" not in where]


def _sockets(pid: int, descriptors: dict[int, str]) -> tuple[str, ...]:
    """The sockets of IP among them, listening or connected."""
    rows = [row.split() for kind in ("tcp", "tcp6", "udp", "udp6") for row in _rows(f"/proc/{pid}/net/{kind}")]
    inodes = {f"socket:[{row[9]}]": f"{row[1]} {row[2]}" for row in rows}
    return tuple(inodes[where] for where in descriptors.values() if where in inodes)


def _facts(path: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)


def _rows(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[1:]


def below(pid: int) -> list[int]:
    """Everybody below a process, parents first."""
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return children + [one for child in children for one in below(child)]


def of_uid(pids: list[int], uid: int) -> list[int]:
    """Those of the processes that are a user's."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if uid in Process.look(pid).uids:
                found.append(pid)
    return found
