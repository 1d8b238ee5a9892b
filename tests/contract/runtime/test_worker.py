"""A worker between two replicas of the queue: what one was told and has not acknowledged, the other learns.

The replicas are servers of the real kind that say what the test says.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import certs
from proto import work_pb2, work_pb2_grpc
from runtime import rpc
from runtime.clock import SystemClock
from runtime.config import Address
from runtime.worker import ORPHAN_S
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[3]
LOG = "0a1b2c3d"


class Replica(work_pb2_grpc.WorkServicer):
    """One end of a stream, worked by hand."""

    def __init__(self, server: rpc.Server) -> None:
        self.server = server
        self.heard: list[work_pb2.WorkerMessage] = []
        self._something = asyncio.Event()
        self._say: asyncio.Queue[work_pb2.QueueMessage] = asyncio.Queue()
        work_pb2_grpc.add_WorkServicer_to_server(self, server.grpc)

    async def Pull(
        self, requests: AsyncIterator[work_pb2.WorkerMessage], context: Any
    ) -> AsyncIterator[work_pb2.QueueMessage]:
        reader = asyncio.create_task(self._read(requests))
        try:
            while True:
                yield await self._say.get()
        finally:
            reader.cancel()

    async def _read(self, requests: AsyncIterator[work_pb2.WorkerMessage]) -> None:
        async for message in requests:
            self.heard.append(message)
            self._something.set()

    def owns(self, *logs: str) -> None:
        self._say.put_nowait(work_pb2.QueueMessage(hello=work_pb2.QueueHello(replica="queue", logs=logs)))

    def gives(self, key: str) -> None:
        recipient = work_pb2.Recipient(index=0, address="a@here.example")
        delivery = work_pb2.Delivery(key=key, log=LOG, id="id", recipients=[recipient], body=b"x\n", size=2)
        self._say.put_nowait(work_pb2.QueueMessage(deliveries=[delivery]))

    async def hears(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not what():
                self._something.clear()
                await self._something.wait()

    @property
    def outcomes(self) -> list[str]:
        return [outcome.key for message in self.heard for outcome in message.outcomes]

    @property
    def slots(self) -> int:
        """How many deliveries may be out, as it was said last."""
        return next((message.slots for message in reversed(self.heard) if message.slots), 0)

    @property
    def ended(self) -> int:
        return sum(message.ended for message in self.heard)

    def is_told_of(self, key: str) -> bool:
        return any(held.key == key for message in self.heard for held in message.hello.held)


@asynccontextmanager
async def replica(tls: str) -> AsyncIterator[Replica]:
    server = rpc.Server(rpc.Identity.load(tls, "queue"), Address("127.0.0.1", 0))
    found = Replica(server)
    await server.start()
    yield found
    await server.stop(0)


class Desk:
    """A worker (worker_desk.py) that does as it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def takes(self) -> str:
        """The key of the delivery that it takes next."""
        return (await self._hears("took ")).split()[1]

    def settles(self, key: str) -> None:
        self._do(f"settle {key}")

    def lets_time_pass(self, seconds: float) -> None:
        self._do(f"later {seconds}")

    async def may_proceed(self, key: str) -> bool:
        self._do(f"may {key}")
        return await self._hears("yes", "no") == "yes"

    def _do(self, what: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{what}\n".encode())

    async def _hears(self, *beginnings: str) -> str:
        assert self._process.stdout
        async with asyncio.timeout(10):
            while line := await self._process.stdout.readline():
                if line.decode().startswith(beginnings):
                    return line.decode().strip()
        raise AssertionError("the worker has ended")

    async def ends(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        await self._process.communicate()


@pytest.fixture
def tls(tmp_path: Path) -> str:
    certs.ensure(str(tmp_path / "tls"), SystemClock())
    return str(tmp_path / "tls")


@pytest.fixture
async def two(tls: str) -> AsyncIterator[tuple[Replica, Replica]]:
    async with replica(tls) as one, replica(tls) as other:
        yield one, other


@pytest.fixture
async def desk(tls: str, tmp_path: Path, two: tuple[Replica, Replica]) -> AsyncIterator[Desk]:
    environment = {
        "PATH": os.environ["PATH"],
        "INSTANCE": "local-0",
        "TLS_DIR": tls,
        "CONTROL_DIR": str(tmp_path),
        "EVENTS_DIR": str(tmp_path),
        "RPC_BIND": f"127.0.0.1:{free_port()}",
        "HTTP_BIND": f"127.0.0.1:{free_port()}",
        "QUEUE_ADDRS": ",".join(str(one.server.address) for one in two),
    }
    pipe = asyncio.subprocess.PIPE
    desk = Desk(
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.contract.runtime.worker_desk",
            cwd=ROOT,
            env=environment,
            stdin=pipe,
            stdout=pipe,
        )
    )
    for one in two:
        await one.hears(lambda one=one: one.slots > 0)  # type: ignore[misc]
    yield desk
    await desk.ends()


async def test_a_new_owner_learns_what_goes_on_in_the_log(desk: Desk, two: tuple[Replica, Replica]) -> None:
    former, later = two
    former.owns(LOG)
    former.gives("key")
    await desk.takes()
    later.owns(LOG)
    await later.hears(lambda: later.is_told_of("key"))


async def test_an_outcome_goes_to_the_last_who_said_that_the_log_is_his(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    """The first may be stopped, with its connections open."""
    for former, later in (two, two[::-1]):
        former.owns(LOG)
        former.gives(f"key-{id(former)}")
        key = await desk.takes()
        later.owns(LOG)
        await later.hears(lambda later=later, key=key: later.is_told_of(key))  # type: ignore[misc]
        desk.settles(key)
        await later.hears(lambda later=later, key=key: key in later.outcomes)  # type: ignore[misc]
        later.owns()
        former.owns()


async def test_what_a_lost_stream_did_not_acknowledge_is_told_to_the_owner_that_is_left(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    left, lost = two
    left.owns(LOG)
    left.gives("key")
    key = await desk.takes()
    lost.owns(LOG)
    await lost.hears(lambda: lost.is_told_of("key"))
    desk.settles(key)
    await lost.hears(lambda: lost.outcomes == ["key"])
    await lost.server.stop(0)
    await left.hears(lambda: left.outcomes == ["key"])


async def test_a_delivery_that_is_given_twice_costs_one_slot(desk: Desk, two: tuple[Replica, Replica]) -> None:
    owner, _ = two
    owner.owns(LOG)
    for _ in range(3):
        owner.gives("key")
    desk.settles(await desk.takes())
    await owner.hears(lambda: owner.ended == 3)


async def test_a_worker_that_hears_nothing_does_not_proceed_however_alive_the_stream_looks(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    """Of a connection that was cut off in the middle the kernel learns only much later."""
    owner, _ = two
    owner.owns(LOG)
    owner.gives("key")
    key = await desk.takes()
    desk.lets_time_pass(ORPHAN_S - 1)
    assert await desk.may_proceed(key)
    desk.lets_time_pass(2)
    assert not await desk.may_proceed(key)
    owner.gives("word")
    await desk.takes()
    assert await desk.may_proceed(key)


async def test_an_orphan_may_go_on_for_as_long_as_nobody_else_starts(desk: Desk, two: tuple[Replica, Replica]) -> None:
    owner, other = two
    owner.owns(LOG)
    owner.gives("key")
    key = await desk.takes()
    await owner.server.stop(0)
    assert await desk.may_proceed(key)
    desk.lets_time_pass(ORPHAN_S + 1)
    assert not await desk.may_proceed(key)
    other.owns(LOG)
    await other.hears(lambda: other.is_told_of(key))
    assert await desk.may_proceed(key)


async def test_a_former_owner_that_wakes_up_gives_nothing_out_while_there_is_a_later_one(
    desk: Desk, two: tuple[Replica, Replica]
) -> None:
    former, owner = two
    former.owns(LOG)
    former.gives("first")
    await desk.takes()
    owner.owns(LOG)
    await owner.hears(lambda: owner.is_told_of("first"))
    former.gives("stale")
    owner.gives("fresh")
    assert await desk.takes() == "fresh"
    owner.gives("word")
    assert await desk.takes() == "word"
    owner.owns()  # it was not the owner after all
    assert await desk.takes() == "stale"
