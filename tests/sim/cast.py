"""Who is in a history: the replicas, workers and smtpds of a world, each started again whenever it has ended."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mail.routing import Channel
from runtime.config import Address
from services.queue.config import QueueConfig
from tests.sim.hearsay import SPOOL
from tests.sim.leases import LeaseClient
from tests.sim.people import Agent, Habits, Smtpd
from tests.sim.process import HostTime, SimChance, SimClock, SimProcess
from tests.sim.stage import queue_main

if TYPE_CHECKING:
    from tests.sim.world import World

_NOWHERE = Address("", 0)  # a simulated process binds nothing


class Cast:
    """The processes of a world by name. `ever` keeps the dead: none is tidied up while the history goes on."""

    def __init__(self, world: "World", controls: str) -> None:
        self._world = world
        self._controls = controls
        self.processes: dict[str, SimProcess] = {}
        self.ever: list[SimProcess] = []
        self.wanted: dict[str, Callable[[], None]] = {}
        self.segment_octets = world.chance.choice((9_000, 16_000, 60_000))
        self._scale = world.chance.choice((0.02, 0.05, 0.05))
        self._pids = 100

    def populate(self) -> None:
        """Replicas, workers and smtpds begin to start."""
        world = self._world
        for number in range(world.replicas):
            host = "host" if world.one_host else f"host-{number}"
            self._want(f"queue-{number}", "queue", host, queue_main)
        messages = world.chance.choice((20, 40, 60))
        for number in range(2):
            habits = Habits(
                messages=messages // 2,
                every_s=world.active_s * 2 / messages,
                octets_max=world.chance.choice((200, 1_200, 5_000)),
                remote_part=world.chance.choice((0.2, 0.5)),
            )
            smtpd = Smtpd(world, world.dice(f"smtpd-{number}"), habits)
            self._want(f"smtpd-{number}", "smtpd", f"smtpd-{number}", smtpd.main)
        for number in range(world.chance.choice((1, 2))):
            self._want(f"local-{number}", "local", f"local-{number}", self._agent(Channel.LOCAL, f"local-{number}"))
        for number in range(world.chance.choice((1, 2, 2))):
            self._want(
                f"remote-{number}", "remote", f"remote-{number}", self._agent(Channel.REMOTE, f"remote-{number}")
            )

    def _agent(self, channel: Channel, name: str) -> Callable[[SimProcess], Any]:
        world = self._world
        chance = world.dice(name)
        return lambda process: Agent(world, chance, channel).main(process)

    def _want(self, name: str, role: str, host: str, main: Callable[[SimProcess], Any]) -> None:
        """A process that is started, and started again whenever it has ended."""
        world = self._world

        def start() -> None:
            if name in self.processes and not self.processes[name].dead:
                return
            self._pids += 1
            clock = SimClock(world.scheduler, world.times.setdefault(host, HostTime()), self._scale)
            chance = world.dice(f"{name}/{self._pids}")
            process = SimProcess((name, role, host, self._pids), world.scheduler, clock, chance, world.told.event)
            process.loop.names = lambda: [(one.name, 1) for one in self.processes.values() if one.role == "queue"]
            process.ended = world.ended
            process.chance = SimChance(chance, lambda: self._log_name(name))  # type: ignore[assignment]
            self.processes[name] = process
            self.ever.append(process)
            world.network.servers[name] = process
            world.note("start", name, process.pid)
            process.begin(main)

        self.wanted[name] = start
        world.later(world.chance.uniform(0, 0.5), start)

    def _log_name(self, name: str) -> bytes:
        """The name of a new log: the lowest of this replica's that no log has now."""
        number = int(name.partition("-")[2])
        there = self._world.volume.tree()
        return next(
            octets
            for last in range(256)
            if not any((octets := bytes((0, 0, number, last))).hex() in path for path in there)
        )

    def configuration(self, process: SimProcess) -> QueueConfig:
        """What the environment says to a queue replica."""
        return QueueConfig(
            instance=process.name,
            control_dir=self._controls,
            time_scale=self._scale,
            spool_dir=SPOOL,
            redis_url="redis://fence:x@redis/0",
            spool_segment_octets=self.segment_octets,
            spool_unsafe_fs=True,
            spool_cluster="",
            tls_dir="",
            events_dir="",
            rpc_bind=_NOWHERE,
            http_bind=_NOWHERE,
            events_keep_days=1,
            log_format="json",
        )

    def redis_client(self) -> LeaseClient:
        """What redis.asyncio.Redis.from_url gives to the process that runs now."""
        world, host = self._world, self._world.current.host
        return LeaseClient(world.leases, lambda: frozenset((host, "redis")) not in world.network.cut)

    def clear(self) -> None:
        self.ever.clear()
        self.processes.clear()
        self.wanted.clear()
