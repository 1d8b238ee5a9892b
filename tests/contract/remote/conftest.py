"""A world for one attempt: a name server, mail servers, and a queue that may go out of reach."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trustme
import uvloop

from mail.ids import MessageId, make_id
from mail.outcome import word
from runtime.clock import SystemChance, SystemClock
from runtime.config import Address
from runtime.events import Events
from runtime.worker import Delivery, Result, Target
from services.remote.attempt import Attempts, World
from services.remote.config import RemoteControls
from services.remote.mx import Directory, Surroundings
from services.remote.nets import networks
from services.remote.pool import Pool
from services.remote.tcpto import Tcpto
from tests.harness.mailhost import Mailhost
from tests.harness.nameserver import Nameserver

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

MESSAGE = b"Subject: hello\n\n.dots\nand text\n"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, LoopFactory]:
    """The service runs on uvloop; where sockets break and TLS begins, asyncio's own loop must do as well."""
    loops: dict[str, LoopFactory] = {"uvloop": uvloop.new_event_loop}
    if item.path.name == "test_faults.py":
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@dataclass
class Queue:
    """What runtime/worker.py is to an attempt: it can go out of reach, and it is told what became."""

    reachable_looks: int = 1_000_000
    settled: dict[str, list[Result]] = field(default_factory=dict)
    all_settled: asyncio.Event = field(default_factory=asyncio.Event)

    def may_proceed(self, delivery: Delivery) -> bool:
        self.reachable_looks -= 1
        return self.reachable_looks >= 0

    def settle(self, delivery: Delivery, results: Iterable[Result]) -> None:
        self.settled.setdefault(delivery.key, []).extend(results)
        self.all_settled.set()


@dataclass
class Stage:
    """Everything a test turns: `dns.records`, `controls`, `allowed`; then `send`."""

    directory: Path
    dns: Nameserver
    queue: Queue = field(default_factory=Queue)
    time_scale: float = 1.0
    allowed: str = "127.0.0.0/8"
    ours: tuple[str, ...] = ()
    port: int = 25
    lookup_s: float = 5.0
    controls: RemoteControls = field(
        default_factory=lambda: RemoteControls("here.example", "here.example", {}, 60, 1_200, 20)
    )
    hosts: list[Mailhost] = field(default_factory=list)
    attempts: Attempts | None = None
    pool: Pool | None = None
    sent: int = 0

    async def host(self, ip: str = "127.0.0.1", name: str = "mx.there.example", preference: int = 10) -> Mailhost:
        """A mail server on `ip`, named in the MX records of there.example; all share one port."""
        host = await Mailhost().start(ip, self.hosts[0].port if self.hosts else 0)
        self.hosts.append(host)
        self.port = host.port
        self.dns.records.setdefault(("there.example", "MX"), []).append(f"{preference} {name}.")
        self.dns.records.setdefault((name, "A"), []).append(ip)
        return host

    def build(self) -> Attempts:
        if self.attempts is None:
            clock, chance = SystemClock(self.time_scale), SystemChance()
            around = Surroundings(
                self.port, networks(self.allowed), clock, chance, self.controls.me, lambda ip: ip in self.ours
            )
            directory = Directory((Address("127.0.0.1", self.dns.port),), around, self.lookup_s)
            self.pool = Pool(clock)
            self.events = Events("remote-0", clock, directory=str(self.directory))
            world = World(clock, chance, self.events, directory, Tcpto(self.time_scale), self.pool)
            self.attempts = Attempts(self.queue, world, self.controls)
        return self.attempts

    def delivery(self, *recipients: str, body: bytes = MESSAGE, sender: str = "me@here.example") -> Delivery:
        self.sent += 1
        message: MessageId = make_id(1_700_000_000_000 + self.sent, b"0123456789")
        targets = tuple(Target(i, one, ()) for i, one in enumerate(recipients or ("you@there.example",)))
        return Delivery(f"log/{message}/1/0", "log", message, sender, targets, 0, body, self.sent, "cluster")

    async def send(self, *recipients: str, body: bytes = MESSAGE, sender: str = "me@here.example") -> list[Result]:
        """One delivery; the results in the order of the recipients."""
        delivery = self.delivery(*recipients, body=body, sender=sender)
        results = await self.build().deliver(delivery)
        assert sorted(result.target for result in results) == list(range(len(delivery.targets)))
        return sorted(results, key=lambda result: result.target)

    async def say(self, *recipients: str, body: bytes = MESSAGE, sender: str = "me@here.example") -> tuple[str, str]:
        """One delivery to one recipient: qmail's word, and the report."""
        (result,) = await self.send(*recipients, body=body, sender=sender)
        return word(result.outcome), result.outcome.report

    def set(self, **changes: object) -> None:
        """Changes control files."""
        self.controls = replace(self.controls, **changes)  # type: ignore[arg-type]

    def happened(self, event: str) -> list[dict[str, str]]:
        self.events.flush()
        lines = [json.loads(line) for path in self.directory.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [line for line in lines if line["event"] == event]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    dns = await Nameserver().start()
    stage = Stage(tmp_path, dns)
    yield stage
    if stage.pool:
        stage.pool.close()
    for host in stage.hosts:
        await host.stop()
    await dns.stop()


@pytest.fixture(scope="session")
def server_tls() -> ssl.SSLContext:
    """A certificate of an authority that nobody knows, for a name that is not the server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    return context
