"""A producer between replicas of the queue: it learns honestly what became of a message, and never hands it to a
second log.

The replicas are servers of the real kind that say what the test says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import certs
from mail.ids import MessageId
from proto import queue_pb2, queue_pb2_grpc
from runtime import producer, rpc
from runtime.clock import SystemClock
from runtime.config import Address
from runtime.producer import NOT_QUEUED, UNREACHABLE, UNRESOLVED, Producer, Submission
from tests.harness.replica import WITHIN_S, Heard, Surroundings

LOG, OTHER_LOG = "0a1b2c3d", "ffffffff"
ID = MessageId("0" * 26)
REFUSAL = "452 4.3.1 no room"
COMMITTED, REFUSED, UNKNOWN = queue_pb2.Receipt.COMMITTED, queue_pb2.Receipt.REFUSED, queue_pb2.Receipt.UNKNOWN
ANSWER = queue_pb2.ResolveReply


class Replica(queue_pb2_grpc.QueueServicer):
    """One queue, worked by hand. `resolves` is what it answers to Resolve."""

    def __init__(self, server: rpc.Server) -> None:
        self.server = server
        self.offered: list[queue_pb2.Submission] = []
        self.asked: list[str] = []
        self.resolves: ANSWER.Answer.ValueType = ANSWER.NOT_OWNER
        self._something = asyncio.Event()
        self._say: list[asyncio.Queue[queue_pb2.EnqueueReply | None]] = []
        self._logs: list[str] = []
        queue_pb2_grpc.add_QueueServicer_to_server(self, server.grpc)

    async def Enqueue(
        self, requests: AsyncIterator[queue_pb2.EnqueueBatch], context: Any
    ) -> AsyncIterator[queue_pb2.EnqueueReply]:
        say: asyncio.Queue[queue_pb2.EnqueueReply | None] = asyncio.Queue()
        self._say.append(say)
        self._something.set()
        reader = asyncio.create_task(self._read(requests))
        try:
            if self._logs:
                yield self._hello()
            while (reply := await say.get()) is not None:
                yield reply
        finally:
            self._say.remove(say)
            reader.cancel()

    async def Resolve(self, request: queue_pb2.ResolveRequest, context: Any) -> queue_pb2.ResolveReply:
        self.asked.append(request.log)
        self._something.set()
        return queue_pb2.ResolveReply(answer=self.resolves)

    async def _read(self, requests: AsyncIterator[queue_pb2.EnqueueBatch]) -> None:
        async for batch in requests:
            self.offered.extend(batch.submissions)
            self._something.set()

    def _hello(self) -> queue_pb2.EnqueueReply:
        return queue_pb2.EnqueueReply(accepting_log=self._logs[0] if self._logs else "-", logs=self._logs)

    def owns(self, *logs: str) -> None:
        self._logs = list(logs)
        for say in self._say:
            say.put_nowait(self._hello())

    def answers(self, status: queue_pb2.Receipt.Status.ValueType, text: str = "") -> None:
        receipt = queue_pb2.Receipt(id=ID, status=status, text=text)
        for say in self._say:
            say.put_nowait(queue_pb2.EnqueueReply(receipts=[receipt]))

    def breaks(self) -> None:
        """Ends every stream; the producer comes back."""
        for say in self._say:
            say.put_nowait(None)

    async def hears(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not what():
                self._something.clear()
                await self._something.wait()

    async def is_offered(self, times: int = 1) -> None:
        await self.hears(lambda: len(self.offered) >= times)


@asynccontextmanager
async def replica(tls: str) -> AsyncIterator[Replica]:
    server = rpc.Server(rpc.Identity.load(tls, "queue"), Address("127.0.0.1", 0))
    found = Replica(server)
    await server.start()
    yield found
    await server.stop(0)


class Desk:
    """A producer and the replicas that it knows."""

    def __init__(self, first: Replica, second: Replica, tls: str) -> None:
        self.first, self.second = first, second
        self.process = Surroundings("smtpd-0")
        self.process.identity = rpc.Identity.load(tls, "smtpd")
        self.producer = Producer((first.server.address, second.server.address), self.process)
        self.running = asyncio.create_task(self.producer.run())

    @property
    def events(self) -> Heard:
        assert isinstance(self.process.events, Heard)
        return self.process.events

    def submit(self) -> "asyncio.Task[str | None]":
        submission = Submission(ID, "a@b.example", ("c@d.example",), b"x\n", 7)
        return asyncio.create_task(self.producer.submit(submission))

    async def connected(self) -> None:
        for one in (self.first, self.second):
            await one.hears(lambda one=one: bool(one._say))  # type: ignore[misc]

    async def submitted(self) -> "asyncio.Task[str | None]":
        """A message that has been offered to the first replica, which owns the log."""
        await self.connected()
        self.first.owns(LOG)
        submitting = self.submit()
        await self.first.is_offered()
        return submitting


async def told(submitting: "asyncio.Task[str | None]") -> str | None:
    async with asyncio.timeout(WITHIN_S):
        return await submitting


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """With patience that is short enough for a test."""
    for name, seconds in {"_OFFER_AGAIN_S": 1.0, "RESOLVE_S": 1.0, "_RESOLVE_PAUSE_S": 0.05, "_RETRY_S": 0.05}.items():
        monkeypatch.setattr(producer, name, seconds)
    tls = str(tmp_path / "tls")
    certs.ensure(tls, SystemClock())
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(replica(tls)) for _ in range(2)]
        found = Desk(one, other, tls)
        yield found
        found.running.cancel()
        await asyncio.gather(found.running, return_exceptions=True)


async def test_a_committed_message_is_told(desk: Desk) -> None:
    submitting = await desk.submitted()
    desk.first.answers(COMMITTED)
    assert await told(submitting) is None
    assert desk.first.asked == []


async def test_a_refusal_of_the_first_offer_is_told_in_the_queues_words(desk: Desk) -> None:
    submitting = await desk.submitted()
    desk.first.answers(REFUSED, REFUSAL)
    assert await told(submitting) == REFUSAL


@pytest.mark.parametrize(("resolves", "reply"), [(ANSWER.COMMITTED, None), (ANSWER.REFUSED, NOT_QUEUED)])
async def test_what_is_unknown_is_asked_for(desk: Desk, resolves: ANSWER.Answer.ValueType, reply: str | None) -> None:
    submitting = await desk.submitted()
    desk.second.resolves = resolves
    desk.first.owns()
    desk.first.answers(UNKNOWN)
    assert await told(submitting) == reply
    assert desk.second.asked == [LOG]
    assert desk.second.offered == [], "it has never said that the log is its"


async def test_what_a_broken_stream_left_unanswered_is_offered_to_the_next_owner(desk: Desk) -> None:
    submitting = await desk.submitted()
    desk.second.owns(OTHER_LOG)
    desk.first.owns()
    desk.first.breaks()
    desk.second.owns(OTHER_LOG, LOG)
    await desk.second.is_offered()
    assert [one.log for one in desk.second.offered] == [LOG]
    desk.second.answers(COMMITTED)
    assert await told(submitting) is None


async def test_what_a_sleeping_owner_has_not_answered_is_offered_to_who_took_its_log(desk: Desk) -> None:
    """Its stream is open, and it says that the log is its: it may say so for as long as it sleeps."""
    submitting = await desk.submitted()
    desk.second.owns(LOG)
    await desk.second.is_offered()
    desk.second.answers(COMMITTED)
    assert await told(submitting) is None
    assert len(desk.first.offered) == 1


async def test_a_message_is_never_handed_to_another_log(desk: Desk) -> None:
    submitting = await desk.submitted()
    desk.second.owns(OTHER_LOG)
    desk.second.resolves = ANSWER.REFUSED
    desk.first.owns()
    desk.first.breaks()
    assert await told(submitting) == NOT_QUEUED
    assert desk.second.offered == []
    assert set(desk.second.asked) == {LOG}


async def test_a_refusal_of_what_was_offered_before_has_to_be_asked_for(desk: Desk) -> None:
    """The last owner may have committed it, and the refusal is of the next one's full disk."""
    submitting = await desk.submitted()
    desk.first.owns()
    desk.first.breaks()
    desk.second.owns(LOG)
    await desk.second.is_offered()
    desk.second.resolves = ANSWER.COMMITTED
    desk.second.answers(REFUSED, REFUSAL)
    assert await told(submitting) is None


async def test_what_nobody_knows_is_window_w1_and_says_so(desk: Desk) -> None:
    submitting = await desk.submitted()
    desk.first.owns()
    desk.first.breaks()
    assert await told(submitting) == UNRESOLVED
    assert [said["window"] for said in desk.events.of("possible-duplicate")] == ["W1"]
    assert len(desk.second.asked) > 1


async def test_who_cannot_be_asked_has_refused_nothing(desk: Desk) -> None:
    submitting = await desk.submitted()
    await desk.first.server.stop(0)
    assert await told(submitting) == UNRESOLVED


async def test_without_a_queue_that_takes_mail_nothing_is_handed_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer, "_WAIT_FOR_STREAM_S", 0.2)
    await desk.connected()
    assert await told(desk.submit()) == UNREACHABLE
    assert not await desk.producer.available()


async def test_replicas_take_turns(desk: Desk) -> None:
    await desk.connected()
    desk.first.owns(LOG)
    desk.second.owns(OTHER_LOG)
    for count in (1, 2):
        async with asyncio.timeout(WITHIN_S):
            while len([stream for stream in desk.producer._streams if stream.log]) < 2:
                await asyncio.sleep(0.01)
        both = [desk.submit(), desk.submit()]
        await desk.first.is_offered(count)
        await desk.second.is_offered(count)
        for one in (desk.first, desk.second):
            one.answers(COMMITTED)
        assert [await told(one) for one in both] == [None, None]


def test_the_times_are_those_of_the_promise() -> None:
    """reliability: a client waits for up to a minute while the owner of a log is replaced."""
    assert (producer.RESOLVE_S, producer._OFFER_AGAIN_S) == (60.0, 15.0)
