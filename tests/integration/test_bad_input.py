"""What the queue's RPC makes of callers that it must not believe, and smtpd of a message of just the announced size."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from mail.dsn import NEVER, SUCCESS
from mail.ids import MessageId
from mail.limits import ENVID_MAX_OCTETS, MIB, RECIPIENTS_MAX
from proto import admin_pb2, admin_pb2_grpc, queue_pb2, queue_pb2_grpc, work_pb2_grpc
from runtime import rpc
from runtime.clock import SystemChance, SystemClock, fresh_id
from runtime.config import Address
from tests.harness.stack import MAIL_NAME, Stack
from tests.harness.walk import House

BODY = b"Subject: x\n\nx\n"
ANSWERS_WITHIN_S = 20.0
UNFINISHED = 300
ROLES = ("smtpd", "queue", "local", "remote", "pop3", "cli")
COMMITTED, REFUSED = queue_pb2.Receipt.COMMITTED, queue_pb2.Receipt.REFUSED


def queue_of(stack: Stack, role: str) -> grpc.aio.Channel:
    """A channel to the queue with the certificate of that role."""
    line = stack.said.wait(r"^queue-0: started rpc=")
    host, _, port = line.partition("rpc=")[2].split()[0].rpartition(":")
    return rpc.channel(Address(host, int(port)), rpc.Identity.load(str(stack.directory / "tls"), role))


def a_submission(log: str, /, **fields: Any) -> queue_pb2.Submission:
    whole: dict[str, Any] = {
        "id": fresh_id(SystemClock(), SystemChance()),
        "log": log,
        "sender": "somebody@sender.example",
        "recipients": [f"demo@{MAIL_NAME}"],
        "body": BODY,
        "size": len(BODY),
    }
    return queue_pb2.Submission(**{**whole, **fields})


async def receipts(
    stack: Stack, submissions: Callable[[str], list[queue_pb2.Submission]], expected: int
) -> list[queue_pb2.Receipt]:
    """What the queue answers, as far as so many receipts, to submissions made for its log."""
    async with queue_of(stack, "smtpd") as channel, asyncio.timeout(ANSWERS_WITHIN_S):
        call: Any = queue_pb2_grpc.QueueStub(channel).Enqueue()
        hello = await call.read()
        await call.write(queue_pb2.EnqueueBatch(submissions=submissions(hello.accepting_log)))
        found: list[queue_pb2.Receipt] = []
        while len(found) < expected:
            found += (await call.read()).receipts
        call.cancel()
        return found


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "../../x"},
        {"id": ""},
        {"id": "\0" * 26},
        {"id": "7" + "v" * 24 + "s"},
        {"log": "../../etc"},
        {"log": "\0"},
        {"recipients": []},
        {"recipients": ["a\0@b.example"]},
        {"recipients": ["a@b.example\nX: y"]},
        {"recipients": ["x" * MIB]},
        {"recipients": ["a@b.example"] * (RECIPIENTS_MAX + 1)},
        {"recipients": ["a@b.example"] * 200_000},
        {"sender": "a\r@b.example"},
        {"size": 2**64 - 1},
        {"size": 0},
        {"envid": "x" * (ENVID_MAX_OCTETS + 1)},
        {"envid": "x\ny"},
        {"envid": "x+0Ay"},
        {"ret": "BODY"},
        {"notify": [NEVER]},
        {"orcpt": ["rfc822;x"]},
        {"notify": [NEVER | SUCCESS], "orcpt": [""]},
        {"notify": [0], "orcpt": ["rfc822;a+0Ab"]},
        {"notify": [0], "orcpt": ["rfc822;a\r\nb"]},
        {"notify": [0, 0], "orcpt": ["", ""]},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_submission_that_makes_no_sense_is_refused(stack: Stack, fields: dict[str, Any]) -> None:
    """And its neighbours in the same batch are committed."""
    spool = stack.directory / "spool"
    before = {path for path in spool.rglob("*") if path.is_dir()}
    wrong, right = await receipts(stack, lambda log: [a_submission(log, **fields), a_submission(log)], 2)
    if right.status != COMMITTED:
        wrong, right = right, wrong
    assert right.status == COMMITTED
    assert (wrong.status, wrong.text[:1] in "45") == (REFUSED, True)
    assert {path for path in spool.rglob("*") if path.is_dir()} == before


async def test_bodies_that_never_end_are_refused_for_now(stack: Stack) -> None:
    """Most of them at once, so that a broken producer holds no more of the queue's memory than it may."""

    def begun(log: str) -> list[queue_pb2.Submission]:
        return [a_submission(log, size=MIB) for _ in range(UNFINISHED)]

    refused = await receipts(stack, begun, UNFINISHED - 16)
    assert {(receipt.status, receipt.text[:3]) for receipt in refused} == {(REFUSED, "451")}


@pytest.mark.parametrize("role", ROLES)
async def test_a_certificate_opens_only_its_own_doors(stack: Stack, role: str) -> None:
    async with queue_of(stack, role) as channel:
        calls = {
            "Enqueue": queue_pb2_grpc.QueueStub(channel).Enqueue().read,
            "Pull": work_pb2_grpc.WorkStub(channel).Pull().read,
            "Stats": lambda: admin_pb2_grpc.AdminStub(channel).Stats(admin_pb2.StatsRequest(), timeout=10),
        }
        opened = {name for name, call in calls.items() if await _answers(call)}
    allowed = {"smtpd": {"Enqueue"}, "local": {"Enqueue", "Pull"}, "remote": {"Pull"}, "cli": {"Stats"}}
    assert opened == allowed.get(role, set())


async def _answers(call: Callable[[], Any]) -> bool:
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            await call()
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.PERMISSION_DENIED:
            return False
        raise
    return True


def test_a_message_of_just_the_announced_size_is_taken(house: House) -> None:
    """Our own trace line is not held against the client; one octet more is refused, and says why."""
    with house.smtp() as client:
        size = int(client.esmtp_features["size"])
    message = MessageId(house.send(_of_octets(size)))
    house.wait_idle()
    (copy,) = house.copies(message)
    assert copy.stat().st_size > size
    Path(copy).unlink()
    with house.smtp() as client:
        client.mail("somebody@sender.example")
        client.rcpt(house.address)
        code, said = client.data(_of_octets(size + 1))
    assert (code, said[:5]) == (552, b"5.3.4")


def _of_octets(octets: int) -> bytes:
    """A message that is so large when its line ends are LF."""
    head, line = b"Subject: large\n\n", b"x" * 1_023 + b"\n"
    lines, rest = divmod(octets - len(head), len(line))
    return (head + line * lines + b"y" * (rest - 1) + b"\n" * bool(rest)).replace(b"\n", b"\r\n")
