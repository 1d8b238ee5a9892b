"""What can go wrong, and at which moment.

A fault has a moment: a time, the n-th passing of a crash point, or the n-th system call of a kind in a kind of thread
(a log's commits, a takeover in the pool, the loop). Which faults a history has is drawn in fate.py; the world
makes them happen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tests.sim.process import SimProcess


class World(Protocol):
    """What a fault can do to the world."""

    @property
    def quiet(self) -> bool: ...

    @property
    def queues(self) -> list[SimProcess]: ...

    def living(self, role: str) -> list[SimProcess]: ...

    def kill(self, process: SimProcess, back_s: float, silently: bool = False) -> None: ...

    def power_cut(self, hosts: set[str], back_s: float) -> None: ...

    def pause(self, process: SimProcess, seconds: float) -> None: ...

    def terminate(self, process: SimProcess) -> None: ...

    def later(self, seconds: float, call: Callable[[], None]) -> None: ...

    def arm(self, trigger: "Trigger") -> None: ...

    def disk_error(self, calls: int) -> None: ...

    def partition(self, one: str, other: str, seconds: float) -> None: ...

    def redis(self, what: str, seconds: float) -> None: ...

    def jump(self, host: str, seconds: float) -> None: ...

    def reset_streams(self, part: float) -> None: ...

    def drop_caches(self) -> None: ...

    def fill_disk(self, seconds: float) -> None: ...


Action = Callable[[World, SimProcess], None]


@dataclass(slots=True)
class Trigger:
    """A fault that waits for its moment: the `nth` time that `name` happens in a thread of this kind ("" for any)."""

    name: str
    kind: str
    nth: int
    what: str
    action: Action
    path: str = ""

    def sees(self, name: str, kind: str, path: str) -> bool:
        """Counts; says whether this is the moment."""
        if name != self.name or (self.kind and kind != self.kind) or self.path not in path:
            return False
        self.nth -= 1
        return self.nth == 0
