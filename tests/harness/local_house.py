"""The real local service in a process of its own, with accounts and homes, and a queue that the test plays itself.

The queue is a gRPC server with the real contract: it hands out deliveries and gathers outcomes. As root every account
has a uid of its own and the front gives up root; otherwise everything is the invoking user.
"""

import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from cli import certs
from proto import accounts_pb2, accounts_pb2_grpc, queue_pb2_grpc, work_pb2, work_pb2_grpc
from runtime import rpc
from runtime.clock import SystemClock
from runtime.config import Address
from runtime.rpc import Identity, Server
from tests.harness.postbox import Postbox

ROOT = os.geteuid() == 0
CHECKOUT = Path(__file__).resolve().parents[2]
FRONT_UID = 7_794
ALIAS_UID = 7_790
HOST = "mail.example.test"
LOG = "0a1b2c3d"
ARRIVED_MS = 1_700_000_000_000
TIMEOUT_S = 30.0
_numbers = itertools.count(1)
_uids = itertools.count(18_801)


def message_id(number: int) -> str:
    """A valid id; another for each number."""
    return f"0{number:021d}000" + "0"


@dataclass
class Queue(work_pb2_grpc.WorkServicer):
    """One replica that owns one log. Acknowledges every outcome unless told not to."""

    acknowledges: bool = True
    said: asyncio.Queue[work_pb2.QueueMessage] = field(default_factory=asyncio.Queue)
    outcomes: dict[tuple[str, int], work_pb2.Outcome] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    slots: int = 0
    offered: int = 0  # what was said last
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def Pull(self, request_iterator: Any, context: Any) -> AsyncIterator[work_pb2.QueueMessage]:
        hello = work_pb2.QueueHello(replica="queue-0", logs=[LOG], cluster="test")
        yield work_pb2.QueueMessage(hello=hello)
        listening = asyncio.create_task(self._listen(request_iterator))
        try:
            while True:
                yield await self.said.get()
        finally:
            listening.cancel()

    async def _listen(self, messages: Any) -> None:
        async for message in messages:
            self.slots += message.slots
            self.offered = message.slots or self.offered
            acks = []
            for outcome in message.outcomes:
                self.outcomes[(outcome.key, outcome.recipient)] = outcome
                acks.append(work_pb2.Ack(key=outcome.key, recipient=outcome.recipient))
            if self.acknowledges and acks:
                self.said.put_nowait(work_pb2.QueueMessage(acks=acks))
            self.connected.set()
            self.changed.set()

    def delivery(self, *addresses: str, body: bytes = b"Subject: x\n\nhello\n", **fields: Any) -> work_pb2.Delivery:
        """A delivery to be handed out; the same `number` makes the same message."""
        number = fields.pop("number", None) or next(_numbers)
        done = fields.pop("done", ())
        message = message_id(number)
        return work_pb2.Delivery(
            key=f"{LOG}/{message}/{next(_numbers)}/0",
            log=LOG,
            id=message,
            sender=fields.pop("sender", "joe@far.example"),
            recipients=[work_pb2.Recipient(index=i, address=one, done=done) for i, one in enumerate(addresses)],
            arrived_ms=ARRIVED_MS,
            body=body,
            size=len(body),
            **fields,
        )

    async def deliver(self, *deliveries: work_pb2.Delivery) -> list[work_pb2.Outcome]:
        """Hands deliveries out in one batch and waits for the outcome of every recipient."""
        self.said.put_nowait(work_pb2.QueueMessage(deliveries=deliveries))
        return await self.outcome_of(*deliveries)

    async def outcome_of(self, *deliveries: work_pb2.Delivery) -> list[work_pb2.Outcome]:
        wanted = [(delivery.key, one.index) for delivery in deliveries for one in delivery.recipients]
        async with asyncio.timeout(TIMEOUT_S):
            while not all(key in self.outcomes for key in wanted):
                self.changed.clear()
                await self.changed.wait()
        return [self.outcomes[key] for key in wanted]

    async def to(self, address: str, **fields: Any) -> work_pb2.Outcome:
        """One message to one address."""
        return (await self.deliver(self.delivery(address, **fields)))[0]


class House:
    """One local service, its state directory, and the queue it works for."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="seapost-local-"))
        self.state.chmod(0o755)
        for folder in ("control", "accounts", "homes", "alias", "users"):
            (self.state / folder).mkdir(mode=0o755)
        (self.state / "control" / "me").write_text(f"{HOST}\n")
        (self.state / "control" / "virtualdomains").write_text("virtual.test:vera\n")
        (self.state / "accounts" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.state / "accounts" / "group").write_text("")
        certs.ensure(str(self.state / "tls"), SystemClock())
        if ROOT:
            os.chown(self.state / "alias", ALIAS_UID, ALIAS_UID)
        self.log = self.state / "log"
        self.queue = Queue()
        self.postbox = Postbox(LOG)
        self.submit = self.state / "submit"
        self.submit.mkdir(mode=0o755)
        self.events: list[dict[str, Any]] = []
        self.rpc = Address("127.0.0.1", 0)
        self.process: subprocess.Popen[bytes] | None = None
        self._server: Server | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self, **environment: str) -> None:
        """Starts queue and service; returns when the service has connected."""
        if self._server is None:
            self._server = Server(self.identity("queue"), Address("127.0.0.1", 0))
            work_pb2_grpc.add_WorkServicer_to_server(self.queue, self._server.grpc)
            queue_pb2_grpc.add_QueueServicer_to_server(self.postbox, self._server.grpc)
            await self._server.start()
        told = {
            "PATH": os.environ["PATH"],
            "INSTANCE": "local-0",
            "CONTROL_DIR": str(self.state / "control"),
            "TLS_DIR": str(self.state / "tls"),
            "ACCOUNTS_DIR": str(self.state / "accounts"),
            "HOMES_DIR": str(self.state / "homes"),
            "ALIAS_DIR": str(self.state / "alias"),
            "USERS_DIR": str(self.state / "users"),
            "QUEUE_ADDRS": str(self._server.address),
            "SUBMIT_DIR": str(self.submit),
            "LOG_FORMAT": "json",
            "FRONT_UID": str(FRONT_UID) if ROOT else "",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.local"], cwd=CHECKOUT, env=told, stdout=subprocess.PIPE, stderr=log
            )
        started, self.rpc = asyncio.Event(), Address("127.0.0.1", 0)
        self._reader = asyncio.create_task(asyncio.to_thread(self._read, asyncio.get_running_loop(), started))
        self.queue.connected.clear()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await started.wait()
                if self.rpc.port:  # otherwise it has ended
                    await self.queue.connected.wait()
        except TimeoutError as error:
            raise AssertionError(f"local did not connect: {self.log.read_text()}") from error
        assert self.rpc.port, f"local did not start: {self.log.read_text()}"

    def _read(self, loop: asyncio.AbstractEventLoop, started: asyncio.Event) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == "started":
                host, _, port = event["rpc"].rpartition(":")
                self.rpc = Address(host, int(port))
                loop.call_soon_threadsafe(started.set)
        loop.call_soon_threadsafe(started.set)  # or it has ended

    def named(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]

    def identity(self, role: str) -> Identity:
        return Identity.load(str(self.state / "tls"), role)

    async def check(self, *recipients: str, role: str = "smtpd") -> list[str]:
        """What smtpd is told about recipients."""
        async with rpc.channel(self.rpc, self.identity(role)) as channel:
            stub = accounts_pb2_grpc.AccountsStub(channel)
            request = accounts_pb2.CheckRequest(recipients=recipients)
            reply = await stub.Check(request, timeout=TIMEOUT_S, wait_for_ready=True)
        return [accounts_pb2.CheckReply.Verdict.Name(verdict) for verdict in reply.verdicts]

    def account(self, name: str = "", mode: int = 0o700) -> Path:
        """A new account; returns its home."""
        uid = next(_uids)
        name = name or f"user{uid}"
        home = self.state / "homes" / name
        home.mkdir(mode=mode)
        home.chmod(mode)
        with (self.state / "accounts" / "passwd").open("a") as passwd:
            passwd.write(f"{name}:x:{uid}:{uid}::{home}:/bin/false\n")
        if ROOT:
            os.chown(home, uid, uid)
        return home

    def assign(self, text: str) -> None:
        """A new users/assign takes the place of the old one."""
        draft = self.state / "users" / "assign.draft"
        draft.write_text(text)
        draft.replace(self.state / "users" / "assign")

    def write(self, path: Path, content: str, mode: int = 0o600) -> Path:
        """A file of the home's owner."""
        path.write_text(content)
        path.chmod(mode)
        if ROOT:
            home = path.parent.stat()
            os.chown(path, home.st_uid, home.st_gid)
        return path

    async def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(self.process.wait, TIMEOUT_S)
        assert self._reader is not None
        await self._reader
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    async def close(self) -> None:
        if self.process is not None:
            await self.stop()
        if self._server is not None:
            await self._server.stop(0)
        shutil.rmtree(self.state)


@asynccontextmanager
async def open_house(**environment: str) -> AsyncIterator[House]:
    """A house whose service runs."""
    house = House()
    try:
        await house.start(**environment)
        yield house
    finally:
        await house.close()


def messages(maildir: Path, folder: str = "new") -> list[bytes]:
    """The messages in a folder, in the order of their names."""
    where = maildir / folder
    return [(where / name).read_bytes() for name in sorted(os.listdir(where))] if where.is_dir() else []


__all__ = ["FRONT_UID", "HOST", "ROOT", "House", "Queue", "grpc", "message_id", "messages", "open_house"]
