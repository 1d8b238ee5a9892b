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
from runtime.durable import Disk


@dataclass(frozen=True, slots=True)
class Noted:
    """A process that a file in run/ names. With the pid, the time it started tells it from a later one."""

    name: str
    pid: int
    started: int
    rpc: str
    http: str

    @property
    def runs(self) -> bool:
        return self.started > 0 and start_ticks(self.pid) == self.started


@contextlib.contextmanager
def hold(places: Places) -> Iterator[None]:
    """Holds the lock of the state directory; Refusal (75) names the process that has it."""
    os.umask(0o022)
    try:
        os.makedirs(places.run, mode=0o755, exist_ok=True)
    except OSError as error:
        raise Refusal(f"{error.filename}: {error.strerror}: choose a directory of your own with --state DIR") from error
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


def noted(places: Places) -> list[Noted]:
    """Every process of the stack, by the files in run/; one that is just being started again is among them."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for file in sorted(os.listdir(places.run)):
            name, dot, ending = file.rpartition(".")
            if dot and ending == "json":
                facts = _read(os.path.join(places.run, file))
                pid, started = facts.get("pid"), facts.get("started")
                if isinstance(pid, int) and isinstance(started, int):
                    found.append(Noted(name, pid, started, str(facts.get("rpc", "")), str(facts.get("http", ""))))
    return found


def forget(places: Places) -> None:
    """Removes the files in run/ that name processes: those of an `up` that was killed are stale."""
    for one in noted(places):
        for ending in ("pid", "json"):
            with contextlib.suppress(FileNotFoundError):
                Disk().unlink(os.path.join(places.run, f"{one.name}.{ending}"))


def end(processes: list[Noted], drain_s: float) -> None:
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
