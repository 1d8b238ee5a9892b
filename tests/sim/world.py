"""One history: a world made of a seed, in which the real queue runs, and everything that happens to it.

Knows every process and every fault; which code is real and which is modelled is said where it is put in place, in
`tests/sim/stage.py`. What the outcome must be is `tests/sim/verdict.py`.
"""

import errno
import os
import traceback
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from runtime.config import EXIT_IO, EXIT_TEMPORARY
from runtime.faults import Point
from services.queue.log import LostLog
from tests.sim.cast import Cast
from tests.sim.fate import Fate
from tests.sim.faults import Trigger
from tests.sim.filesystem import FileSystem, Survival
from tests.sim.hearsay import SPOOL, Hearsay
from tests.sim.leases import Leases
from tests.sim.machine import SimOs
from tests.sim.network import Network
from tests.sim.people import Post
from tests.sim.process import EPOCH_MS, HostTime, SimProcess
from tests.sim.scheduler import Killed, Scheduler
from tests.sim.system import Caller, System

_SYNCS = frozenset({"fsync", "fdatasync", "fsyncdir"})
_READS = frozenset({"stat", "open", "listdir", "flock"})
_ORDERLY = frozenset({0, EXIT_TEMPORARY, EXIT_IO})

# After the faults: everything that waits must be gone by then. Longer than the longest retry, lease and keepalive.
QUIET_MAX_S = 1_500


class World:
    """A seed's world. `run` is its history; then `post`, `trace` and `wrong` say what came of it."""

    def __init__(self, seed: int, controls: str, with_trace: bool = False) -> None:
        self.seed = seed
        self.trace: list[tuple[object, ...]] | None = [] if with_trace else None
        self.happened = 0
        self.wrong: list[str] = []
        self.post = Post()
        self.replicas = self.dice("replicas").choice((3, 3, 4, 5))
        self.taken = Counter[str]()
        self.crashes = 0
        self.passed: Counter[tuple[str, str]] = Counter()
        self.struck: Counter[tuple[str, str, str]] = Counter()
        self.quiet = False
        self._at_rest = 0
        self.scheduler = Scheduler()
        self.chance = self.dice("world")
        self.volume = FileSystem(self.dice("disk"), weak=self.chance.random() < 0.5)
        self.system = System(self.volume, self._caller, self._before)
        self.system.now_us = self.volume.now_us = self.now_us
        self.os = SimOs(self.system)
        self.network = Network(self.scheduler, self.dice("network"), self._moved, lambda: self.current)
        self.leases = Leases(self.dice("redis"), lambda: EPOCH_MS + self.scheduler.now_us // 1_000)
        self.times: dict[str, HostTime] = {}
        self.told = Hearsay(self)
        self.cast = Cast(self, controls)
        self._schedule = self.dice("schedule")
        self._errors_left = 0
        self._triggers: list[Trigger] = []
        self.one_host = self.chance.random() < 0.5
        self._fate = Fate(self.dice("faults"))
        self.active_s = self._fate.active_s

    # -- who there is -------------------------------------------------------------------------------------------------

    @property
    def current(self) -> SimProcess:
        """The process that runs now."""
        owner = self.scheduler.running.owner or self.scheduler.outside
        assert isinstance(owner, SimProcess)
        return owner

    @property
    def queues(self) -> list[SimProcess]:
        return self.living("queue")

    def living(self, role: str) -> list[SimProcess]:
        return [one for one in self.cast.processes.values() if one.role == role and not one.dead]

    @property
    def takeovers(self) -> int:
        """How often a log that had an owner before has got one."""
        return sum(count - 1 for count in self.taken.values())

    def now_us(self) -> int:
        return self.scheduler.now_us

    def boot_id(self) -> str:
        """/proc/sys/kernel/random/boot_id, for the process that runs now."""
        host = self.current.host
        return f"{sum(host.encode()):016x}{self.times[host].boot:016x}\n"

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.scheduler.at(round(seconds * 1_000_000), None, call)

    def _caller(self) -> Caller:
        return self.current

    def dice(self, name: str) -> Random:
        return Random(f"{self.seed}/{name}")

    # -- the history --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first start to the last copy, or to what was found wrong."""
        self._furnish()
        self.cast.populate()
        self._triggers, timed = self._fate.draw()
        self.note("history", self._fate.theme, "weak" if self.volume.weak else "journal", self.cast.segment_octets)
        for at_s, what, call in timed:
            self.later(at_s, lambda what=what, call=call: self._timed(what, call))  # type: ignore[misc]
        self.later(1.0, self._look)
        self.later(self.active_s, self._end_of_faults)
        self.scheduler.run()
        self._close()
        if self.scheduler.failure is not None:
            raise self.scheduler.failure

    def _furnish(self) -> None:
        volume = self.volume
        volume.make("", SPOOL, True)
        volume.sync(volume.root)

    # -- the calls of processes ---------------------------------------------------------------------------------------

    def _before(self, caller: Caller, call: str, path: str) -> None:
        process = self.current
        kind = self.scheduler.running.kind
        if call not in _READS:
            self.note("call", process.name, kind, call, path)
        self._strike(call, kind, path, process)
        if process.dead:
            raise Killed
        if process.paused:
            self.scheduler.park(1)
        elif call in _SYNCS:
            self.scheduler.park(self._schedule.choice((200, 1_000, 1_000, 4_000, 12_000)))
        elif self._schedule.random() < (0.05 if kind == "loop" else 0.2):
            self.scheduler.park(self._schedule.randrange(400))
        if self._errors_left and (call in _SYNCS or call in ("write", "create")) and kind != "loop":
            self._errors_left -= 1
            self.note("disk error", process.name, call, path)
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def point(self, name: Point) -> None:
        """A crash point is passed."""
        process = self.current
        if process.dead:
            raise Killed
        kind = self.scheduler.running.kind
        role = {"log": "owner", "pool": "taker", "loop": "queue"}.get(kind, process.role)
        self.passed[(name.value, role)] += 1
        self.note("point", process.name, name.value)
        self._strike(name.value, kind, "", process)
        if process.dead:
            raise Killed
        if process.paused and self.scheduler.running is not self.scheduler.main:
            self.scheduler.park(1)

    def _strike(self, name: str, kind: str, path: str, process: SimProcess) -> None:
        if self.quiet:
            return
        for trigger in list(self._triggers):
            if trigger.sees(name, kind, path):
                self._triggers.remove(trigger)
                role = {"log": "owner", "pool": "taker", "loop": "queue"}.get(kind, process.role)
                self.struck[(name, role, trigger.what)] += 1
                self.note("fault", trigger.what, "at", name, kind, process.name)
                trigger.action(self, process)
                if process.dead or process.paused:
                    return

    def _timed(self, what: str, call: Callable[["World"], None]) -> None:
        if not self.quiet:
            self.note("fault", what)
            call(self)

    # -- what can be done to it ---------------------------------------------------------------------------------------

    def kill(self, process: SimProcess, back_s: float, silently: bool = False) -> None:
        """SIGKILL; `silently`: with its host, so that nobody's kernel says so, and locks last for a while."""
        if process.dead:
            return
        self.crashes += 1
        self.note("killed", process.name, silently)
        self._bury(process, silently)
        self.later(back_s, self.cast.wanted[process.name])

    def _bury(self, process: SimProcess, silently: bool = False) -> None:
        process.dead = True
        process.serving = False
        until_us = self.now_us() + self._schedule.randrange(60_000_000) if silently and not self.one_host else 0
        for fd in list(process.files):
            self.system.drop(process, fd, until_us)
        self.network.gone(process, silently)
        self.post.busy.pop(process.pid, None)
        self.scheduler.unwind(process)

    def ended(self, process: SimProcess, error: BaseException | None) -> None:
        """A process has returned from its main."""
        where = "".join(traceback.format_exception(error)) if error else ""
        self.note("ended", process.name, process.exit_status, where)
        if (error is not None and not isinstance(error, OSError | LostLog)) or process.exit_status not in _ORDERLY:
            self.wrong.append(f"{process.name} ended with {error!r}, status {process.exit_status}")
        self._reproach(process)
        self._bury(process)
        self.later(self._schedule.choice((0.05, 1.0, 5.0)), self.cast.wanted[process.name])

    def _reproach(self, process: SimProcess) -> None:
        self.wrong.extend(f"{process.name}: {error}" for error in process.loop.errors)
        process.loop.errors.clear()

    def power_cut(self, hosts: set[str], back_s: float) -> None:
        """These hosts lose power: their processes, and what they had not synced."""
        self.crashes += 1
        self.note("power cut", sorted(hosts))
        for process in [one for one in self.cast.processes.values() if one.host in hosts and not one.dead]:
            self._bury(process, silently=True)
            self.later(back_s + self._schedule.uniform(0, 2), self.cast.wanted[process.name])
        for time in (self.times[host] for host in hosts):
            time.booted_us, time.boot = self.now_us(), time.boot + 1
        survival = Survival(self._schedule, self._schedule.choice(("none", "some", "some", "some", "all")))
        if self.volume.find(SPOOL).names is not None:
            self.volume.power_cut(hosts, survival)

    def pause(self, process: SimProcess, seconds: float) -> None:
        if process.dead or process.paused:
            return
        self.note("paused", process.name, seconds)
        process.pause()
        self.later(seconds, lambda: self.resume(process))

    def resume(self, process: SimProcess) -> None:
        if process.paused and not process.dead:
            self.note("resumed", process.name)
            process.resume()

    def terminate(self, process: SimProcess) -> None:
        self.note("SIGTERM", process.name)
        self.scheduler.at(0, process, lambda: process.call(process.stop))

    def arm(self, trigger: Trigger) -> None:
        if not self.quiet:
            self._triggers.append(trigger)

    def disk_error(self, calls: int) -> None:
        self._errors_left = calls

    def partition(self, one: str, other: str, seconds: float) -> None:
        if one == other:
            return
        pair = frozenset((one, other))
        self.note("cut off", one, other, seconds)
        self.network.cut.add(pair)

        def heal() -> None:
            self.network.cut.discard(pair)
            for stream in list(self.network.streams):
                stream.healed()

        self.later(seconds, heal)

    def redis(self, what: str, seconds: float) -> None:
        if what == "flush":
            self.leases.flush()
        elif what == "stale":
            self.leases.fail_over()
        elif what == "down":
            self.leases.up = False
        else:
            self.leases.slow = True
        self.later(seconds, self._redis_is_well)

    def _redis_is_well(self) -> None:
        self.leases.up, self.leases.slow = True, False

    def jump(self, host: str, seconds: float) -> None:
        self.times[host].jumped_ms += round(seconds * 1_000)

    def reset_streams(self, part: float) -> None:
        for stream in list(self.network.streams):
            if self._schedule.random() < part:
                stream.break_off("reset")

    def drop_caches(self) -> None:
        self.volume.drop_caches()

    def fill_disk(self, seconds: float) -> None:
        self.volume.full = True
        self.later(seconds, lambda: setattr(self.volume, "full", False))

    # -- the end ------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.network.look()
        self.leases.remember() if self._schedule.random() < 0.05 else None
        self.told.look_at_tokens()
        self.later(1.0, self._look)

    def _end_of_faults(self) -> None:
        """Every fault ends; there is at least one crash and one takeover in every history."""
        if (not self.crashes or not self.takeovers) and self.queues:
            self.kill(self.queues[0], 0.5)
        self.note("quiet")
        self.quiet = True
        self._triggers.clear()
        self._errors_left = 0
        self.volume.full = False
        self._redis_is_well()
        self.network.heal()
        for name, start in self.cast.wanted.items():
            if name in self.cast.processes:
                self.resume(self.cast.processes[name])
            self.later(0.1, start)
        self._quiet_since_us = self.now_us()
        self.later(5.0, self._is_over)

    def _is_over(self) -> None:
        if self.wrong or self.now_us() - self._quiet_since_us > QUIET_MAX_S * 1_000_000:
            self.wrong.extend(self.told.left() if not self.wrong else [])
            self.scheduler.end()
            return
        # What was asked a second ago must have been true then and now.
        self._at_rest = self._at_rest + 1 if self.told.idle() else 0
        if self._at_rest > 1:
            self.scheduler.end()
            return
        self.told.ask()
        self.later(1.0, self._is_over)

    def _close(self) -> None:
        for process in self.cast.processes.values():
            self._reproach(process)
            process.dead = True
        self.scheduler.close()
        for process in self.cast.ever:
            for task in process.loop.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]

    def forget(self) -> None:
        """Lets go of everything that ran."""
        self.cast.clear()
        self._triggers.clear()
        self.network.clear()
        self.scheduler.clear()

    # -- what is noted ------------------------------------------------------------------------------------------------

    def note(self, *what: object) -> None:
        self.happened += 1
        if self.trace is not None:
            self.trace.append((self.scheduler.now_us, *what))

    def _moved(self, pipe: Any, octets: bytes) -> None:
        self.note("moved", pipe.source.name, pipe.target.name, len(octets))
        self.told.moved(pipe.source, pipe.target, octets)
