"""One `up` on a state directory at a time, and what an `up` that was killed left running.

The kernel holds the lock, so it is free whenever the process is gone, however it went.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from cli.places import Places
from cli.refusal import EXIT_TEMPORARY, Refusal
from cli.supervisor import start_ticks
from runtime.clock import SystemClock


@dataclass(frozen=True, slots=True)
class Running:
    """A process that a file in run/ names, and that still runs."""

    name: str
    pid: int
    rpc: str
    http: str


@contextlib.contextmanager
def hold(places: Places) -> Iterator[None]:
    """Holds the lock of the state directory; Refusal (75) names the process that has it."""
    os.makedirs(places.run, mode=0o755, exist_ok=True)
    path = os.path.join(places.run, "up.lock")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Refusal(
            f"{path}: {error.strerror}: run as the user who made {places.state}, or give --state DIR"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Refusal(
                f"{places.state}: `up` with pid {pid} runs there already: stop it (kill {pid}), "
                "or give another --state DIR",
                EXIT_TEMPORARY,
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def running(places: Places) -> list[Running]:
    """Every process of the stack that runs now, by the files in run/; empty where there are none (in a container)."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for file in sorted(os.listdir(places.run)):
            name, dot, ending = file.rpartition(".")
            if not dot or ending != "json":
                continue
            facts = _read(os.path.join(places.run, file))
            pid = facts.get("pid")
            if isinstance(pid, int) and start_ticks(pid) == facts.get("started"):
                found.append(Running(name, pid, str(facts.get("rpc", "")), str(facts.get("http", ""))))
    return found


def end(processes: list[Running], drain_s: float) -> None:
    """Ends what an earlier `up`, killed, left running: SIGTERM, that long to drain, then SIGKILL to the whole group."""
    watched = {}
    for process in processes:
        with contextlib.suppress(OSError):
            watched[process.pid] = os.pidfd_open(process.pid)
            os.kill(process.pid, signal.SIGTERM)
    _wait(list(watched.values()), drain_s)
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    _wait(list(watched.values()), drain_s)
    for fd in watched.values():
        os.close(fd)


def _wait(pidfds: list[int], seconds: float) -> None:
    """Returns when every process is gone, or after that long."""
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    for fd in pidfds:
        select.select([fd], [], [], max(0.0, deadline - clock.monotonic()))


def _read(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            facts = json.load(file)
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
