"""The real queue service in a process of its own, with a spool; producer, workers and operator are played by the test.

What a worker is given and what it says is decided by the test, so a delivery is under way, deferred or lost just when
it wants that. The operator is bin/seapost, which finds the queue by QUEUE_ADDRS.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli import admin, certs, selection
from cli.listing import Merged
from mail import ids
from mail.ids import MessageId
from mail.outcome import Kind
from proto import queue_pb2, queue_pb2_grpc, work_pb2, work_pb2_grpc
from runtime import rpc
from runtime.clock import SystemClock
from runtime.config import Address, address
from runtime.rpc import Identity

CHECKOUT = Path(__file__).resolve().parents[2]
SEAPOST = CHECKOUT / "bin" / "seapost"
HOST = "mail.example.test"
FAR = "friend@far.example"
UNKNOWN_ID = "06h08vqbt1qf5r80kfoa5c501g"
TIMEOUT_S = 30.0
_numbers = itertools.count(1)
_KINDS = {
    Kind.DELIVERED: work_pb2.Outcome.DELIVERED,
    Kind.DEFERRED: work_pb2.Outcome.DEFERRED,
    Kind.FAILED: work_pb2.Outcome.FAILED,
}


@dataclass
class Worker:
    """A worker's stream: what it was given waits in `given`, what is acknowledged is counted."""

    channel: str
    given: asyncio.Queue[work_pb2.Delivery] = field(default_factory=asyncio.Queue)
    acknowledged: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    says: asyncio.Queue[work_pb2.WorkerMessage] = field(default_factory=asyncio.Queue)

    async def next(self) -> work_pb2.Delivery:
        """The next delivery."""
        return await asyncio.wait_for(self.given.get(), TIMEOUT_S)

    async def report(
        self, delivery: work_pb2.Delivery, kind: Kind, report: str = "because\n", unreachable: bool = False
    ) -> None:
        """Tells what became of all its recipients; returns when that is recorded."""
        outcomes = [
            work_pb2.Outcome(
                key=delivery.key,
                id=delivery.id,
                recipient=one.index,
                kind=_KINDS[kind],
                report=report,
                unreachable=unreachable,
            )
            for one in delivery.recipients
        ]
        self.says.put_nowait(work_pb2.WorkerMessage(ended=1, outcomes=outcomes))
        for _ in outcomes:
            await asyncio.wait_for(self.acknowledged.get(), TIMEOUT_S)

    async def listen(self, replies: Any) -> None:
        async for reply in replies:
            for delivery in reply.deliveries:
                self.given.put_nowait(delivery)
            for ack in reply.acks:
                self.acknowledged.put_nowait(ack.key)

    async def speak(self, name: str, slots: int) -> AsyncIterator[work_pb2.WorkerMessage]:
        hello = work_pb2.WorkerHello(channel=self.channel, worker=name)
        yield work_pb2.WorkerMessage(hello=hello, slots=slots)
        while True:
            yield await self.says.get()


class QueueHouse:
    """One queue service and its state directory."""

    def __init__(self, state: Path, instance: str = "queue-0") -> None:
        self.state = state
        self.instance = instance
        self.rpc = Address("127.0.0.1", 0)
        self.events: list[dict[str, Any]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.extra: dict[str, str] = {}  # more of the service's environment
        self._reader: asyncio.Task[None] | None = None
        for folder in ("control", "spool"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        (state / "control" / "me").write_text(f"{HOST}\n")
        certs.ensure(str(state / "tls"), SystemClock())

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the service; returns when it answers."""
        told = {
            "PATH": os.environ["PATH"],
            "INSTANCE": self.instance,
            "CONTROL_DIR": str(self.state / "control"),
            "TLS_DIR": str(self.state / "tls"),
            "SPOOL_DIR": str(self.state / "spool"),
            "SPOOL_UNSAFE_FS": "1",
            "LOG_FORMAT": "json",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.extra,
        }
        with (self.state / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.queue"], cwd=CHECKOUT, env=told, stdout=subprocess.PIPE, stderr=log
            )
        started = asyncio.Event()
        self._reader = asyncio.create_task(asyncio.to_thread(self._read, asyncio.get_running_loop(), started))
        async with asyncio.timeout(TIMEOUT_S):
            await started.wait()
        assert self.rpc.port, f"queue did not start: {(self.state / 'log').read_text()}"

    def _read(self, loop: asyncio.AbstractEventLoop, started: asyncio.Event) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == "started":
                self.rpc = address(event["rpc"])
                loop.call_soon_threadsafe(started.set)
        loop.call_soon_threadsafe(started.set)  # or it has ended

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ends the service with a signal; its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        status = await asyncio.to_thread(self.process.wait, TIMEOUT_S)
        assert self._reader is not None
        await self._reader
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return status

    def named(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == event]

    def identity(self, role: str) -> Identity:
        return Identity.load(str(self.state / "tls"), role)

    # -- who comes ----------------------------------------------------------------------------------------------------

    async def accept(
        self, *recipients: str, sender: str = "ann@far.example", body: bytes = b"A: b\n\nbody\n"
    ) -> MessageId:
        """Hands in a message; returns when it is committed."""
        number = next(_numbers)
        message = ids.make_id(SystemClock().wall_ms(), number.to_bytes(ids.CHANCE_BYTES, "big"))
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def offers() -> AsyncIterator[queue_pb2.EnqueueBatch]:
            submission = queue_pb2.Submission(
                id=message,
                log=await told,
                sender=sender,
                recipients=recipients,
                body=body,
                size=len(body),
                envid="e+20",
            )
            yield queue_pb2.EnqueueBatch(submissions=[submission])
            await over.wait()

        async with rpc.channel(self.rpc, self.identity("smtpd")) as channel, asyncio.timeout(TIMEOUT_S):
            replies = aiter(queue_pb2_grpc.QueueStub(channel).Enqueue(offers()))
            told.set_result((await anext(replies)).accepting_log)
            receipts: list[queue_pb2.Receipt] = []
            while not receipts:
                receipts = list((await anext(replies)).receipts)
            over.set()
        assert receipts[0].status == queue_pb2.Receipt.COMMITTED, receipts[0].text
        return message

    @asynccontextmanager
    async def worker(self, channel: str = "remote", slots: int = 10) -> AsyncIterator[Worker]:
        """A worker that is there until the end of the block."""
        worker = Worker(channel)
        async with rpc.channel(self.rpc, self.identity(channel)) as to_queue:
            name = f"{channel}-0/{next(_numbers)}"
            call = work_pb2_grpc.WorkStub(to_queue).Pull(worker.speak(name, slots))
            listening = asyncio.create_task(worker.listen(call))
            try:
                yield worker
            finally:
                call.cancel()
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    # -- the operator -------------------------------------------------------------------------------------------------

    def environment(self) -> Mapping[str, str]:
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "SEAPOST_STATE": str(self.state),
            "QUEUE_ADDRS": str(self.rpc),
        }

    async def run(self, *words: str, program: str = "seapost", **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of bin/."""
        return await asyncio.to_thread(
            subprocess.run,
            (str(SEAPOST.with_name(program)), *words),
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            env={**self.environment(), **environment},
        )

    async def seapost(self, *words: str, status: int = 0) -> str:
        """What `seapost queue …` prints; AssertionError when it ends with another status."""
        done = await self.run("queue", *words)
        assert done.returncode == status, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if not status else done.stdout + done.stderr

    async def listed(self, *words: str) -> list[dict[str, Any]]:
        """What `queue list --json` writes, without a process for it."""
        parser = argparse.ArgumentParser()
        selection.add_filters(parser)
        parser.add_argument("--state", action=selection.StateOption)
        async with admin.replicas([self.rpc], self.identity("cli")) as them:
            merged = Merged(them, selection.of(parser.parse_args(words)))
            found = [dict(one) async for one in merged]
        assert not merged.silent, merged.silent
        return found


@asynccontextmanager
async def open_queue(state: Path) -> AsyncIterator[QueueHouse]:
    """A house whose queue runs."""
    house = QueueHouse(state)
    try:
        await house.start()
        yield house
    finally:
        await house.end(signal.SIGKILL)


async def defer(house: QueueHouse, *recipients: str, report: str = "Not now.\n", **fields: Any) -> str:
    """A message that was tried once, and is to be tried again in some minutes."""
    message = await house.accept(*(recipients or (FAR,)), **fields)
    async with house.worker() as worker:
        await worker.report(await worker.next(), Kind.DEFERRED, report)
    return message


async def again(house: QueueHouse, message: str) -> dict[str, Any]:
    """What is listed of it."""
    [listed] = await house.listed(message)
    return listed


def reasons(listed: dict[str, Any]) -> list[str]:
    return [recipient["reason"] for recipient in listed["recipients"]]


def waits(listed: dict[str, Any]) -> str:
    return str(listed["recipients"][0]["why"])
