"""strace as a hand that reaches into a process: kills it at its n-th call of a kind, or gives that call an error.

Counts as strace does: each thread and each kind of call by itself. Needs nothing of the process it is attached to.
"""

import re
import select
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.stack import patience

_ATTACHED_S = 30.0
_DETACHED_S = 10.0


@dataclass(frozen=True, slots=True)
class Injection:
    """What happens to which call: `effect` as strace(1) writes it, such as signal=KILL or error=EIO.

    `when` is strace's too: 3, 3+ (from the third on), 3..5. `path` leaves alone what does not touch it.
    """

    calls: str
    effect: str
    when: str = "1"
    path: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        chosen = ("-P", self.path) if self.path else ()
        return (*chosen, "-e", f"trace={self.calls}", "-e", f"inject={self.calls}:{self.effect}:when={self.when}")


@contextmanager
def attached(strace: str, pid: int, words: Sequence[str], report: Path, alone: bool = False) -> Iterator[None]:
    """Attaches to every thread of a process and to its children, or to one thread `alone`; detaches at the end.

    `words` are strace's own, such as those of an Injection; `report` gets what it saw.
    """
    with subprocess.Popen(
        [strace, *(() if alone else ("-f",)), "-o", str(report), *words, "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        assert select.select([process.stderr], [], [], _ATTACHED_S)[0], "strace says nothing"
        said = process.stderr.readline()
        if "attached" not in said:
            process.kill()
            raise AssertionError(f"strace does not attach to {pid}: {said}")
        try:
            yield
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_DETACHED_S)
            except subprocess.TimeoutExpired:  # it waits for a thread of a process that it has killed
                process.kill()
                process.communicate()


@dataclass(frozen=True, slots=True)
class Call:
    """The n-th call of its kind of a thread. `changes`: a file or directory, or makes a change durable."""

    name: str
    number: int
    changes: bool


# What `calls` wants to be listed: every call that names a file or has a descriptor, and the syncs.
LISTING = ("-y", "-s", "0", "-e", "trace=%file,%desc,fsync,fdatasync,syncfs,sync_file_range")
_CALL = re.compile(r"(\w+)\(")
_CHANGES = re.compile(
    r"(mkdir|rename|unlink|rmdir|link|write|pwrite|fallocate|ftruncate|fsync|fdatasync|syncfs|flock)"
    r"|openat\(.*O_(CREAT|TRUNC)"
)


def calls(seen: str, about: str) -> list[Call]:
    """The calls that have to do with a path, of what `attached` saw of one thread with LISTING."""
    counts: Counter[str] = Counter()
    found = []
    for line in seen.splitlines():
        if match := _CALL.match(line):
            counts[match[1]] += 1
            if about in line:
                found.append(Call(match[1], counts[match[1]], bool(_CHANGES.match(line))))
    return found


def child_of(pid: int) -> int:
    """The one process that a process has started; waits for one."""
    for _ in patience(_ATTACHED_S):
        if children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            return int(children[0])
    raise AssertionError(f"{pid} has no children")
