"""The two rims of the queue, asked as gRPC would: producers' streams (intake.py) and workers' (links.py)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from mail.limits import BODY_CHUNK_OCTETS, ENVID_MAX_OCTETS, SPOOLED_MAX_OCTETS
from mail.routing import Channel
from proto import queue_pb2, work_pb2
from runtime.durable import Disk
from services.queue import intake, links, store
from services.queue.intake import Intake
from services.queue.takeover import Taker
from tests.harness.replica import LOCAL, WITHIN_S, Replica, running

COMMITTED, REFUSED, UNKNOWN = queue_pb2.Receipt.COMMITTED, queue_pb2.Receipt.REFUSED, queue_pb2.Receipt.UNKNOWN


class Caller:
    """Who is at the other end, by its certificate."""

    def __init__(self, role: str) -> None:
        self._role = role

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_common_name": [self._role.encode()]}


class Line:
    """One stream: what we say goes in, what is said to us comes out."""

    def __init__(self, method: Any, role: str) -> None:
        self._says: asyncio.Queue[Any] = asyncio.Queue()
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.create_task(self._listen(method(self._said(), Caller(role))))

    async def _said(self) -> AsyncIterator[Any]:
        while (message := await self._says.get()) is not None:
            yield message

    async def _listen(self, replies: AsyncIterator[Any]) -> None:
        async for reply in replies:
            self._heard.put_nowait(reply)
        self._heard.put_nowait(None)

    def say(self, message: Any) -> None:
        self._says.put_nowait(message)

    async def hear(self) -> Any:
        return await asyncio.wait_for(self._heard.get(), WITHIN_S)

    async def close(self) -> None:
        self._says.put_nowait(None)
        await asyncio.wait_for(self._task, WITHIN_S)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    async with running(str(tmp_path / "spool")) as found:
        yield found


class Door:
    """A producer's stream into a replica."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.intake = Intake(replica.store, replica.process)
        self.line = Line(self.intake.Enqueue, "smtpd")
        self.hello: queue_pb2.EnqueueReply | None = None

    def submission(self, number: int, whole: bytes = b"x\n", **fields: Any) -> queue_pb2.Submission:
        known = {"id": self.replica.an_id(number), "log": self.replica.log, "recipients": [LOCAL], "size": len(whole)}
        return queue_pb2.Submission(**cast(Any, known | {"sender": "f@there.example", "body": whole} | fields))

    def offer(self, *submissions: queue_pb2.Submission, chunks: tuple[queue_pb2.BodyChunk, ...] = ()) -> None:
        self.line.say(queue_pb2.EnqueueBatch(submissions=submissions, chunks=chunks))

    async def receipt(self) -> queue_pb2.Receipt:
        """The next receipt; what is said of logs is kept."""
        while True:
            reply = await self.line.hear()
            if reply.accepting_log:
                self.hello = reply
            if reply.receipts:
                found: queue_pb2.Receipt = reply.receipts[0]
                return found


@pytest.fixture
async def door(replica: Replica) -> AsyncIterator[Door]:
    found = Door(replica)
    yield found
    await found.line.close()


async def test_a_receipt_says_committed_when_it_is(door: Door) -> None:
    submission = door.submission(1)
    door.offer(submission)
    receipt = await door.receipt()
    assert (receipt.id, receipt.status) == (submission.id, COMMITTED)
    assert len(door.replica.ledger.index) == 1
    assert door.hello is not None
    assert list(door.hello.logs) == [door.replica.log]


async def test_a_receipt_says_unknown_when_that_is_so(door: Door) -> None:
    door.offer(door.submission(1))
    await door.receipt()
    log = door.replica.ledger.log
    Taker(door.replica.spool, Disk(), "queue-9", door.replica.process.events, 64 * 1024).take(
        log.name, 0, lambda said, at: None
    ).log.close()
    door.offer(door.submission(2))
    assert (await door.receipt()).status == UNKNOWN


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"log": "ffffffff"}, store.NOT_HERE),
        ({"recipients": []}, store.INVALID),
        ({"id": "no id"}, store.INVALID),
        ({"size": 1}, store.INVALID),
        ({"size": SPOOLED_MAX_OCTETS + 1}, store.INVALID),
        ({"envid": "x" * (ENVID_MAX_OCTETS + 1)}, store.INVALID),
        ({"envid": "a\nb"}, store.INVALID),
        ({"envid": "é"}, store.INVALID),
    ],
)
async def test_a_refusal_is_in_the_words_of_smtp(door: Door, fields: dict[str, Any], text: str) -> None:
    door.offer(door.submission(1, **fields))
    receipt = await door.receipt()
    assert (receipt.status, receipt.text) == (REFUSED, text)
    assert len(door.replica.ledger.index) == 0


async def test_a_body_in_pieces_is_taken_when_it_is_whole(door: Door) -> None:
    body = b"x" * (BODY_CHUNK_OCTETS + 10)
    submission = door.submission(1, body, body=body[:BODY_CHUNK_OCTETS])
    door.offer(submission)
    door.offer(chunks=(queue_pb2.BodyChunk(id="another", data=b"y"),))
    door.offer(chunks=(queue_pb2.BodyChunk(id=submission.id, data=body[BODY_CHUNK_OCTETS:]),))
    assert (await door.receipt()).status == COMMITTED
    [message] = [door.replica.ledger.index.get(one) for one in door.replica.ledger.index.ids()]
    assert message is not None
    assert door.replica.ledger.body(message) == body
    assert door.intake._partial_octets == 0


async def test_a_body_longer_than_was_said_is_refused(door: Door) -> None:
    submission = door.submission(1, b"x" * 10, body=b"")
    door.offer(submission)
    door.offer(chunks=(queue_pb2.BodyChunk(id=submission.id, data=b"x" * 11),))
    receipt = await door.receipt()
    assert (receipt.status, receipt.text) == (REFUSED, store.INVALID)
    assert door.intake._partial_octets == 0


async def test_a_stream_is_in_the_middle_of_so_many_bodies_at_most(door: Door) -> None:
    begun = [door.submission(number, b"x" * 10, body=b"") for number in range(intake._PARTIAL_MAX + 1)]
    door.offer(*begun)
    receipt = await door.receipt()
    assert (receipt.id, receipt.text) == (begun[-1].id, store.BUSY)


async def test_all_streams_together_are_in_the_middle_of_so_many_octets_at_most(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "PARTIAL_MAX_OCTETS", 15)
    begun = [door.submission(number, b"x" * 20, body=b"x" * 10) for number in range(2)]
    door.offer(*begun)
    receipt = await door.receipt()
    assert (receipt.id, receipt.text) == (begun[1].id, store.BUSY)
    await door.line.close()
    assert door.intake._partial_octets == 0
    door.line = Line(door.intake.Enqueue, "smtpd")


async def test_resolve_says_what_is_so(door: Door) -> None:
    known, unknown = door.submission(1), door.replica.an_id(2)
    door.offer(known)
    await door.receipt()
    answers = []
    for log, one in ((door.replica.log, known.id), (door.replica.log, unknown), ("ffffffff", unknown), ("", "no id")):
        reply = await door.intake.Resolve(queue_pb2.ResolveRequest(log=log, id=one), None)
        answers.append(reply.answer)
    known_as = queue_pb2.ResolveReply
    assert answers == [known_as.COMMITTED, known_as.REFUSED, known_as.NOT_OWNER, known_as.NOT_OWNER]


# -- workers ----------------------------------------------------------------------------------------------------------


def hello(channel: str, slots: int = 5, **fields: Any) -> work_pb2.WorkerMessage:
    said = work_pb2.WorkerHello(channel=channel, worker="w", **fields)
    return work_pb2.WorkerMessage(hello=said, slots=slots)


async def test_a_worker_hears_whose_logs_there_are_and_gets_what_is_due(replica: Replica) -> None:
    line = Line(replica.links.Pull, "local")
    assert list((await line.hear()).hello.logs) == [replica.log]
    line.say(hello("local"))
    message = replica.an_id(1)
    await replica.accept(message)
    while not (said := await line.hear()).deliveries:
        pass
    [delivery] = said.deliveries
    assert (delivery.id, delivery.recipients[0].address) == (message, LOCAL)
    outcome = work_pb2.Outcome(key=delivery.key, recipient=0, kind=work_pb2.Outcome.DELIVERED)
    line.say(work_pb2.WorkerMessage(outcomes=[outcome], ended=1))
    while not (said := await line.hear()).acks:
        pass
    assert [ack.key for ack in said.acks] == [delivery.key]
    await line.close()
    assert replica.links.all() == []


async def test_a_worker_of_one_channel_speaks_for_no_other(replica: Replica) -> None:
    line = Line(replica.links.Pull, "local")
    await line.hear()
    line.say(hello("remote"))
    while await line.hear() is not None:
        pass
    assert not replica.links.has_worker(Channel.REMOTE)
    await line.close()


async def test_a_queue_with_nothing_to_say_says_so(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "BEAT_S", 0.05)
    line = Line(replica.links.Pull, "local")
    await line.hear()
    replica.process.keep(replica.links.beat())
    for _ in range(3):
        assert await line.hear() == work_pb2.QueueMessage()
    await line.close()


async def test_a_large_body_goes_to_its_worker_in_pieces(replica: Replica) -> None:
    line = Line(replica.links.Pull, "local")
    body = b"0123456789" * (BODY_CHUNK_OCTETS // 4)
    line.say(hello("local"))
    await replica.accept(replica.an_id(1), body=body)
    got = b""
    while len(got) < len(body):
        said = await line.hear()
        got += b"".join(one.body for one in said.deliveries) + b"".join(one.data for one in said.chunks)
        assert said.ByteSize() < 2 * BODY_CHUNK_OCTETS
    assert got == body
    await line.close()


async def test_many_deliveries_go_in_items_of_bearable_size(replica: Replica) -> None:
    body = b"x" * (BODY_CHUNK_OCTETS - 1)
    for number in range(30):
        await replica.accept(replica.an_id(number), body=body)
    line = Line(replica.links.Pull, "local")
    line.say(hello("local", slots=30))
    count = 0
    while count < 30:
        said = await line.hear()
        assert said.ByteSize() < 3 * 1024 * 1024
        count += len(said.deliveries)
    await line.close()
