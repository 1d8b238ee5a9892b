"""A simulated process: what runtime/serve.py gives to a service, its clock, its events, its life and death.

The service's own `main` runs in it. Knows how a process ends in each of the ways it can; what it does meanwhile is the
service's affair, and when it ends the world's.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from runtime.events import Events
from runtime.serve import Process
from tests.sim.loop import SimLoop
from tests.sim.network import Servicers
from tests.sim.scheduler import Actor, Event, Scheduler
from tests.sim.system import OpenFile

# 2023-11-14: where every world begins.
EPOCH_MS = 1_700_000_000_000

_LOG_NAME_OCTETS = 4


@dataclass(slots=True)
class HostTime:
    """The clocks of one host: by how much its wall clock was set, when it was started, which start that was."""

    jumped_ms: int = 0
    booted_us: int = 0
    boot: int = 1


class SimClock:
    """Wall time that may jump, by host; monotonic time that does not, and begins anew when its host does."""

    def __init__(self, scheduler: Scheduler, host: "HostTime", scale: float) -> None:
        self._scheduler = scheduler
        self._host = host
        self._scale = scale
        self._began_ms = self.wall_ms() - self.boot_ms()

    def wall_ms(self) -> int:
        return EPOCH_MS + self._scheduler.now_us // 1_000 + self._host.jumped_ms

    def boot_ms(self) -> int:
        return (self._scheduler.now_us - self._host.booted_us) // 1_000

    def steady_ms(self) -> int:
        return self._began_ms + self.boot_ms()

    def monotonic(self) -> float:
        return self._scheduler.now_us / 1_000_000

    def scaled(self, seconds: float) -> float:
        return seconds * self._scale


class SimChance:
    """The kernel's randomness. The name of a log may well be that of one that was removed; `log_names` gives it."""

    def __init__(self, chance: Random, log_names: Callable[[], bytes]) -> None:
        self._chance = chance
        self._log_names = log_names

    def octets(self, count: int) -> bytes:
        return self._log_names() if count == _LOG_NAME_OCTETS else self._chance.randbytes(count)


class SimEvents(Events):
    """Events that go to the world instead of to standard output."""

    def __init__(self, instance: str, clock: SimClock, told: Callable[[str, dict[str, object]], None]) -> None:
        super().__init__(instance, clock)
        self._told = told

    def _emit(self, event: str, line: str, /, **fields: object) -> None:
        self._told(event, fields)

    def flush(self) -> None:
        pass


@dataclass(slots=True)
class _Rpc:
    grpc: Servicers
    address: str = "sim"


class SimProcess(Process):
    """One life of one process; `keep`, `stop` and the exit status are those of the real one."""

    def __init__(
        self,
        body: tuple[str, str, str, int],
        scheduler: Scheduler,
        clock: SimClock,
        chance: Random,
        told: "Callable[[SimProcess, str, dict[str, object]], None]",
    ) -> None:
        self.name, self.role, self.host, self.pid = body
        self.instance = self.name
        self.dead = False
        self.paused = False
        self.serving = False
        self.held: list[Event] = []
        self.files: dict[int, OpenFile] = {}
        self.scheduler = scheduler
        self.clock = clock  # type: ignore[assignment]
        self.chance = SimChance(chance, lambda: chance.randbytes(_LOG_NAME_OCTETS))  # type: ignore[assignment]
        self.events = SimEvents(self.name, clock, lambda event, fields: told(self, event, fields))
        self.identity = None  # type: ignore[assignment]
        self.servicers = Servicers()
        self.rpc = _Rpc(self.servicers)  # type: ignore[assignment]
        self.actor: Actor = scheduler.actor(self, "loop") if self.role == "queue" else scheduler.main
        self.loop = SimLoop(scheduler, self, self.actor, chance)  # type: ignore[abstract]
        self.stopping = asyncio.Event()
        self.exit_status = 0
        self._on_hangup: list[Any] = []
        self._on_alarm: list[Any] = []
        self.ended: Callable[[SimProcess, BaseException | None], None] = lambda process, error: None

    def begin(self, main: Callable[["SimProcess"], Any]) -> None:
        """Runs the service; `ended` is told when it returned by itself."""

        async def live() -> None:
            error: BaseException | None = None
            try:
                await main(self)
            except Exception as raised:
                error = raised
            self.loop.call_soon(self.ended, self, error)

        self.scheduler.at(0, self, lambda: self._begin(live()))

    def _begin(self, life: Any) -> None:
        self.loop.create_task(life)

    def call(self, what: Callable[[], None]) -> None:
        """As a signal handler would."""
        self.loop.call_soon(what)

    async def serve(self, **addresses: str) -> None:
        self.serving = True
        self.events.started()
        await self.stopping.wait()
        self.events.stopping()

    async def set_ready(self, ready: bool) -> None:
        pass

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def resume(self) -> None:
        """SIGCONT: what was missed happens now."""
        if self.paused:
            self.paused = False
            held, self.held = self.held, []
            self.scheduler.again(held)
