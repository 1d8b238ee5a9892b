"""What the machine says of itself: processor time of all of it and of families of processes, file systems.

Reads proc(5) only; knows nothing of mail.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def busy_s() -> float:
    """Seconds of processor time spent on anything since boot, all processors together (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq = (int(word) for word in file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    ticks: int  # its own, and those of children that it has waited for


def family_s(roots: Mapping[str, int]) -> dict[str, float]:
    """Seconds of processor time of each named process with all its descendants; one named below another is not in it.

    A descendant that ended counts once its parent has waited for it. A process that is not there counts nothing.
    """
    processes = dict(_processes())
    owners = {pid: name for name, pid in roots.items()}
    found = dict.fromkeys(roots, 0.0)
    for pid, process in processes.items():
        ancestor = pid
        while ancestor in processes and ancestor not in owners:
            ancestor = processes[ancestor].parent
        if ancestor in owners:
            found[owners[ancestor]] += process.ticks / _TICKS_PER_S
    return found


def _processes() -> Iterable[tuple[int, _Process]]:
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended meanwhile
            yield int(entry), _Process(int(fields[1]), sum(int(word) for word in fields[11:15]))


def wanting_s(pid: int) -> float:
    """Seconds that a process's living threads ran or waited for a processor (/proc/PID/task/TID/schedstat)."""
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):  # it has ended meanwhile
            nanoseconds += sum(int(word) for word in path.read_text(encoding="ascii").split()[:2])
    return nanoseconds / 1e9


def resident_octets(pid: int) -> int:
    """The memory of a process that is in RAM now (proc(5), /proc/PID/status, VmRSS)."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1_024
    return 0  # it has ended, and nobody has waited for it


def filesystem(path: Path) -> str:
    """The type of the file system that holds `path`, such as ext4; "unknown" when it cannot be told."""
    best, found = -1, "unknown"
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, mounted, kind, *_ = line.split()
            if path.resolve().is_relative_to(mounted) and len(mounted) >= best:
                best, found = len(mounted), kind
    return found


def unsearchable(path: Path) -> Path | None:
    """The first folder on the way to `path` that other users may not enter; None when they may enter all."""
    for folder in reversed((path, *path.parents)):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None
