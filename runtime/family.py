"""Ending a program's whole family: children, children's children, and those who left their parents or their session.

Whoever is the child subreaper above them (prctl(2)) sees all of them below itself in /proc, whatever they did. They
are stopped first, so that nobody forks any more, then killed, and looked for again until nobody is left. Signals go to
a pidfd whose process was looked at again, never to a bare number, and never to "everybody".
"""

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from runtime.clock import Clock

# Ending takes milliseconds; a fork bomb of a thousand, a second. Who is left then hangs in the kernel.
ENDED_WITHIN_S = 3.0
# Rounds of stopping before the killing begins all the same: somebody wakes them up again.
_STOP_ROUNDS_MAX = 20
# Deaths waited for at once, each with a descriptor; the next look finds the others.
_WATCHED_MAX = 256
_DEAD = "ZXx"


@dataclass(frozen=True, slots=True)
class Relative:
    """One row of /proc: `started` is in ticks since the boot, and tells a process from the next of the same number."""

    pid: int
    state: str
    parent: int
    session: int
    started: int

    @property
    def is_alive(self) -> bool:
        return self.state not in _DEAD


Find = Callable[[], list[Relative]]


def end(find: Find, clock: Clock, within_s: float = ENDED_WITHIN_S) -> bool:
    """Ends everybody whom `find` returns, until it returns nobody. False when somebody is left after that time."""
    deadline = clock.monotonic() + within_s
    while living := find():
        if clock.monotonic() >= deadline:
            return False
        _stop(find, living)
        _kill(find(), max(0.0, deadline - clock.monotonic()))
    return True


def below_this_process() -> list[Relative]:
    """Everybody alive below this process, which must be the child subreaper. Reaps the dead. Nobody is below when
    there is no child: orphans have become children before their parent can be waited for."""
    if not reap():
        return []
    table = everybody()
    return [one for one in descendants(table, {os.getpid()}) if one.is_alive]


def lost_below(ancestor: int, session: int) -> list[Relative]:
    """Everybody alive whom the death of a child left to `ancestor`: its own children are in its session, programs
    never are."""
    table = everybody()
    roots = {one.pid for one in table.values() if one.parent == ancestor and one.session != session}
    lost = (*(table[pid] for pid in roots), *descendants(table, roots))
    return [one for one in lost if one.is_alive]


def reap() -> bool:
    """Takes the dead children away; False when there is no child any more, dead or alive."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return False
    return True


def descendants(table: Mapping[int, Relative], of: Iterable[int]) -> list[Relative]:
    """Everybody below the given processes, without them."""
    children: dict[int, list[Relative]] = {}
    for one in table.values():
        children.setdefault(one.parent, []).append(one)
    found: list[Relative] = []
    parents = list(of)
    while parents:
        young = children.pop(parents.pop(), [])
        found.extend(young)
        parents.extend(one.pid for one in young)
    return found


def everybody() -> dict[int, Relative]:
    """All processes that /proc shows."""
    found = (_look(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return {one.pid: one for one in found if one}


def _look(pid: int) -> Relative | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # proc_pid_stat(5): the name may hold anything, a parenthesis too.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return Relative(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def _stop(find: Find, living: list[Relative]) -> None:
    """Whoever has been sent SIGSTOP adds no child any more; once a look shows nobody else, they are complete."""
    told: set[tuple[int, int]] = set()
    for _ in range(_STOP_ROUNDS_MAX):
        fresh = [one for one in living if (one.pid, one.started) not in told]
        if not fresh:
            return
        for one in fresh:
            told.add((one.pid, one.started))
            _signal(one, signal.SIGSTOP)
        living = find()


def _kill(living: list[Relative], within_s: float) -> None:
    """Sends SIGKILL to each, and waits until they are dead, or for so many seconds."""
    poll = select.poll()
    watched: set[int] = set()
    try:
        for one in living:
            fd = _signal(one, signal.SIGKILL, keep=len(watched) < _WATCHED_MAX)
            if fd >= 0:
                watched.add(fd)
                poll.register(fd, select.POLLIN)
        dying = set(watched)
        while dying:
            dead = poll.poll(int(within_s * 1_000) + 1)
            if not dead:
                return
            for fd, _ in dead:
                poll.unregister(fd)
                dying.discard(fd)
    finally:
        for fd in watched:
            os.close(fd)


def _signal(one: Relative, number: signal.Signals, keep: bool = False) -> int:
    """Signals this very process. Its pidfd when it is to be kept, otherwise -1."""
    try:
        fd = os.pidfd_open(one.pid)
    except OSError:  # it has gone
        return -1
    with contextlib.suppress(OSError):
        seen = _look(one.pid)
        if seen and seen.started == one.started:
            signal.pidfd_send_signal(fd, number)
            if keep:
                return fd
    os.close(fd)
    return -1
