"""How much memory, how many processes and descriptors there are: the machine's, or the container's if it has less.

Reads what the kernel tells (proc(5), cgroups(7), both versions); what is not told is not limited.
"""

import resource

# Where a container sees its own limits; on a host these are the root's, which has none.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PROCESS_LIMITS = ("/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max")
_MACHINE_PROCESSES = "/proc/sys/kernel/pid_max"
_UNLIMITED = 1 << 62
_UNKNOWN_MEMORY = 1 << 30  # no proc(5): something small


def memory_octets() -> int:
    """All the memory that this process and its kind may have together, in octets."""
    return min(_machine_memory(), *_limits(_MEMORY_LIMITS))


def processes() -> int:
    """How many processes there may be."""
    return min(_limits((_MACHINE_PROCESSES, *_PROCESS_LIMITS)))


def descriptors() -> int:
    """How many files and sockets this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else _UNLIMITED


def take_all_descriptors() -> None:
    """Raises the soft limit to the hard one: it is low only for programs that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _machine_memory() -> int:
    for line in _read("/proc/meminfo").split("\n"):
        name, _, value = line.partition(":")
        if name == "MemTotal" and value.split()[:1]:
            return int(value.split()[0]) * 1024
    return _UNKNOWN_MEMORY


def _limits(paths: tuple[str, ...]) -> list[int]:
    """The numbers in those files; one that says `max`, or is not there, is no limit."""
    said = [_read(path).strip() for path in paths]
    return [int(number) for number in said if number.isdecimal()] or [_UNLIMITED]


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4_096)
    except OSError:
        return ""
