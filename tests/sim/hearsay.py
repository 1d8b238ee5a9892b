"""What the world hears of the queue: events, outcomes and acknowledgements, tokens, how much is left.

Only what anybody outside could see: it looks into no index and no log.
"""

import re
from collections import Counter
from typing import Any, Protocol

from proto import admin_pb2, work_pb2
from tests.sim.filesystem import FileSystem
from tests.sim.network import Context
from tests.sim.people import Post
from tests.sim.process import SimProcess

SPOOL = "/spool"

_OF_A_LOG = re.compile(r" ([0-9a-f]{8})/")
_OF_THE_DISK = re.compile("disk failed|OSError|does not sync")


class World(Protocol):
    """What is listened to."""

    volume: FileSystem
    post: Post
    wrong: list[str]
    taken: Counter[str]
    crashes: int
    replicas: int

    def note(self, *what: object) -> None: ...

    def living(self, role: str) -> list[SimProcess]: ...


class Hearsay:
    """What the world hears of the queue: events, outcomes and acknowledgements, tokens, how much is left."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last_kind: dict[tuple[str, int], int] = {}
        self._closed: dict[tuple[str, int], str] = {}
        self._tokens: dict[str, int] = {}
        self._stats: dict[str, admin_pb2.StatsReply] = {}

    def event(self, process: SimProcess, event: str, fields: dict[str, object]) -> None:
        world = self._world
        world.note("event", process.name, event, *(f"{key}={value}" for key, value in fields.items()))
        if event == "took log":
            world.taken[str(fields["log"])] += 1
        elif event == "possible-duplicate":
            world.post.announced[str(fields["msg"])] += 1
        elif event == "alert":
            text = str(fields["text"])
            log = _OF_A_LOG.search(text)
            # One that was asleep may look for a body where its log was until the next re-check tells it.
            if not _OF_THE_DISK.search(text) and not (log and not self._owns(process, log[1])):
                world.wrong.append(f"{process.name}: alert: {text}")

    def _owns(self, process: SimProcess, log: str) -> bool:
        names = self._world.volume.find(f"{SPOOL}/logs").names or {}
        return any(name.startswith(f"{log}.") and name.endswith(f".{process.name}") for name in names)

    def moved(self, source: SimProcess, target: SimProcess, octets: bytes) -> None:
        """Workers and the queue: a recipient whose end was acknowledged is not asked for again."""
        if target.role == "queue" and source.role in ("local", "remote"):
            for outcome in work_pb2.WorkerMessage.FromString(octets).outcomes:
                self._last_kind[(outcome.key, outcome.recipient)] = outcome.kind
        elif source.role == "queue" and target.role in ("local", "remote"):
            said = work_pb2.QueueMessage.FromString(octets)
            for ack in said.acks:
                if not ack.not_owner and self._last_kind.get((ack.key, ack.recipient), 0):
                    message = ack.key.split("/")[1]
                    self._closed[(message, ack.recipient)] = source.name
            for delivery in said.deliveries:
                for recipient in delivery.recipients:
                    if (delivery.id, recipient.index) in self._closed:
                        self._world.note("again", delivery.id, recipient.index, source.name)

    def look_at_tokens(self) -> None:
        """The token of a log only grows."""
        names = self._world.volume.find(SPOOL).names or {}
        logs = names["logs"].names if "logs" in names else {}
        for name in logs or {}:
            log, _, rest = name.partition(".")
            if not rest or log.startswith(("new-", "gone-")):
                continue
            token = int(rest.partition(".")[0])
            if token < self._tokens.get(log, 0) and not self._world.crashes:
                self._world.wrong.append(f"I11: log {log} had token {self._tokens[log]} and has {token}")
            self._tokens[log] = token

    def ask(self) -> None:
        """Every replica says what it holds."""
        self._stats.clear()
        for process in self._world.living("queue"):
            handler = process.servicers.methods.get("/seapost.Admin/Stats")
            if handler is None or not process.serving:
                continue

            process.loop.create_task(self._stats_of(process, handler))

    async def _stats_of(self, process: SimProcess, handler: Any) -> None:
        self._stats[process.name] = await handler.unary_unary(admin_pb2.StatsRequest(), Context("cli"))

    def idle(self) -> bool:
        """Whether every log is owned, nothing is queued and nobody waits."""
        world = self._world
        serving = [one.name for one in world.living("queue") if one.serving]
        if sum(world.post.busy.values()) or len(serving) < world.replicas or set(serving) - self._stats.keys():
            return False
        if any(self._stats[name].messages or self._stats[name].delivering for name in serving):
            return False
        names = world.volume.find(f"{SPOOL}/logs").names or {}
        logs = {name.partition(".")[0] for name in names if name[0] in "0123456789abcdef" and "." in name}
        return logs == {log for name in serving for log in self._stats[name].logs}

    def left(self) -> list[str]:
        """I12: what was not done in the end."""
        said = [
            f"I12: {name} still has {stats.messages} messages" for name, stats in self._stats.items() if stats.messages
        ]
        busy = sum(self._world.post.busy.values())
        return said or [f"I12: not at rest: {busy} clients wait, logs {self._world.volume.tree()}"]
