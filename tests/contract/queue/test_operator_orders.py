"""What a real queue does on an operator's order: hold, release, remove, retry; and what is asked before."""

import json
import os
import pty
import signal
import subprocess

import grpc
import pytest

from mail.outcome import Kind
from proto import admin_pb2, admin_pb2_grpc
from runtime import rpc
from tests.harness.queue_house import FAR, HOST, SEAPOST, UNKNOWN_ID, QueueHouse, Worker, again, defer, reasons


async def restart(house: QueueHouse, number: signal.Signals = signal.SIGKILL) -> None:
    await house.end(number)
    await house.start()


# -- hold and release -------------------------------------------------------------------------------------------------


async def test_what_is_held_is_not_started_until_it_is_released(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    assert await house.seapost("hold", message) == "held 1 message\n"
    listed = await again(house, message)
    assert (listed["recipients"][0]["state"], reasons(listed)) == ("held", ["held"])
    assert listed["held_by"]
    assert [one["id"] for one in await house.listed("--state", "held")] == [message]
    async with house.worker() as worker:
        other = await house.accept(FAR)
        assert (await worker.next()).id == other, "and not the one before it"
        assert "is held by" in await house.seapost("hold", message)
        assert "release it first" in await house.seapost("retry", message, status=1)
        assert await house.seapost("release", message) == "released 1 message\n"
        assert (await worker.next()).id == message
    assert "nobody holds it" in await house.seapost("release", message)
    assert [(one["msg"], bool(one["by"])) for one in house.named("held msg")] == [(message, True)]
    assert [(one["msg"], bool(one["by"])) for one in house.named("released msg")] == [(message, True)]


async def test_a_hold_outlives_the_queue_its_segments_and_its_memory(house: QueueHouse) -> None:
    """Killed; taken over by another; written forward when its segment is reclaimed. The release outlives them too."""
    house.extra["SPOOL_SEGMENT_OCTETS"] = "16384"
    await restart(house)
    held = await house.accept(FAR)
    released = await house.accept(FAR)
    await house.seapost("hold", held, released, "--yes")
    await house.seapost("release", released)
    before = await again(house, held)
    segments = {path.name for path in (house.state / "spool").rglob("*.seg")}
    async with house.worker("local") as local:
        while segments & {path.name for path in (house.state / "spool").rglob("*.seg")}:
            await house.accept(f"demo@{HOST}", body=b"A: b\n\n" + b"x" * 6_000)
            await local.report(await local.next(), Kind.DELIVERED)
    for number in (signal.SIGKILL, signal.SIGTERM):
        await restart(house, number)
        assert await again(house, held) == before
        assert (await again(house, released))["held_by"] is None
    await house.end(signal.SIGKILL)
    house.instance = "queue-1"
    await house.start()
    assert await again(house, held) == before
    async with house.worker() as worker:
        await house.seapost("retry", released, "--force", "--yes")
        assert (await worker.next()).id == released
        await house.seapost("release", held)
        assert reasons(await again(house, held)) in (["reattach"], ["slot"], ["delivering"])


async def test_a_delivery_under_way_goes_on_when_its_message_is_held(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    async with house.worker() as worker:
        delivery = await worker.next()
        assert "1 deliveries of it are under way and go on" in await house.seapost("hold", message)
        await worker.report(delivery, Kind.DELIVERED)
    assert await house.listed() == []


# -- remove -----------------------------------------------------------------------------------------------------------


async def test_what_is_removed_is_gone_for_ever_and_nobody_gets_a_bounce(house: QueueHouse) -> None:
    message = await defer(house, body=b"A: b\n\n" + b"x" * 1_500_000)
    assert list((house.state / "spool").rglob("large/*"))
    assert await house.seapost("remove", message) == "removed 1 message\n"
    [event] = house.named("removed msg")
    assert (event["msg"], event["recipients"], bool(event["by"])) == (message, 1, True)
    assert [one["msg"] for one in house.named("end msg")] == [message]
    assert [one["msg"] for one in house.named("new msg")] == [message], "no bounce was made"
    other = await house.accept(FAR)  # its commit comes after whatever the end of the other left to be done
    assert not list((house.state / "spool").rglob("large/*"))
    for _ in range(2):
        assert [one["id"] for one in await house.listed()] == [other]
        await restart(house)
    assert "is not in the queue" in await house.seapost("remove", message, status=1)


async def test_what_is_being_delivered_is_not_removed(house: QueueHouse) -> None:
    message = await house.accept(FAR, "other@elsewhere.example")
    async with house.worker(slots=1) as worker:
        delivery = await worker.next()
        assert "it is being delivered" in await house.seapost("remove", message, status=1)
        await house.seapost("hold", message)
        await worker.report(delivery, Kind.FAILED)
    await house.seapost("remove", message)
    assert await house.listed() == []
    assert [one["msg"] for one in house.named("new msg")] == [message], "the failure of the other is not told either"


async def test_what_a_worker_that_went_away_may_have_is_not_removed(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    async with house.worker() as worker:
        await worker.next()
    assert "a worker that is away" in await house.seapost("remove", message, status=1)
    await restart(house)
    assert reasons(await again(house, message)) == ["reattach"]
    assert "a worker that is away" in await house.seapost("remove", message, status=1)


async def test_a_local_delivery_of_an_owner_that_died_may_still_arrive_and_is_not_removed(house: QueueHouse) -> None:
    message = await house.accept(f"demo@{HOST}")
    await restart(house)
    assert "a worker that is away" in await house.seapost("remove", message, status=1)


# -- retry ------------------------------------------------------------------------------------------------------------


async def test_what_is_retried_goes_at_once_and_the_log_knows_when(house: QueueHouse) -> None:
    message = await defer(house, report="A very good reason.\n")
    later = (await again(house, message))["recipients"][0]["next_attempt"]
    assert await house.seapost("retry", message) == "made due 1 message\n"
    await restart(house)
    shown = json.loads(await house.seapost("show", message, "--json"))["recipients"][0]
    assert shown["next_attempt"] < later, "the next owner knows that it may have been tried"
    assert (shown["attempts"], shown["report"]) == (1, "A very good reason.\n")


async def test_a_second_copy_is_made_only_by_force_and_announced(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    async with house.worker() as worker:
        await worker.next()
    async with house.worker() as worker:
        assert "--force" in await house.seapost("retry", message, status=1)
        assert "may be delivered twice" in await house.seapost("retry", message, "--force", status=2)
        assert house.named("possible-duplicate") == []
        await house.seapost("retry", message, "--force", "--yes")
        assert (await worker.next()).id == message
    assert [(one["window"], one["msg"]) for one in house.named("possible-duplicate")] == [("W7", message)]


async def test_force_after_the_death_of_an_owner_is_announced(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    await restart(house)
    async with house.worker() as worker:
        fresh = await house.accept("a@elsewhere.example")
        assert (await worker.next()).id == fresh, "nobody can have begun it before"
        await house.seapost("retry", message, "--force", "--yes")
        assert (await worker.next()).id == message
    assert ("W7", message) in [(one["window"], one["msg"]) for one in house.named("possible-duplicate")]


async def test_force_where_nothing_can_double_asks_nothing_and_announces_nothing(house: QueueHouse) -> None:
    message = await defer(house)
    await house.seapost("retry", message, "--force")
    async with house.worker() as worker:
        assert "it is being delivered" in await _retried_while_delivered(house, worker, message)
    assert house.named("possible-duplicate") == []


async def _retried_while_delivered(house: QueueHouse, worker: Worker, message: str) -> str:
    await worker.next()
    return await house.seapost("retry", message, "--force")


# -- questions --------------------------------------------------------------------------------------------------------


async def test_more_than_one_message_is_a_question_and_without_a_terminal_a_refusal(house: QueueHouse) -> None:
    messages = [await house.accept(FAR) for _ in range(3)]
    for words in (("--sender", "*"), tuple(messages[:2]), ("--all",)):
        said = await house.seapost("remove", *words, status=2)
        assert "nobody is here to be asked: nothing was done: say --yes" in said
        assert all(message in said for message in messages[:2])
    assert "remove: 3 messages" in (await house.run("queue", "remove", "--all", "--dry-run")).stderr
    assert len(await house.listed()) == 3
    changes = (await house.seapost("remove", "--json", "--yes", "--domain", "far.example")).splitlines()
    assert [(json.loads(one)["id"], json.loads(one)["result"]) for one in changes] == [
        (message, "done") for message in messages
    ]


@pytest.mark.parametrize(("answer", "status", "left"), [(b"n\n", 1, 2), (b"\n", 1, 2), (b"y\n", 0, 0)])
async def test_on_a_terminal_the_question_is_asked(house: QueueHouse, answer: bytes, status: int, left: int) -> None:
    for _ in range(2):
        await house.accept(FAR)
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    command = (str(SEAPOST), "queue", "remove", "--all")
    done = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, check=False, timeout=60, env=house.environment()
    )
    os.close(ours)
    os.close(theirs)
    assert done.returncode == status, done.stderr
    assert "remove 2 messages? [y/N]" in done.stderr
    assert len(await house.listed()) == left


async def test_an_unknown_id_among_known_ones_is_an_error_and_nothing_is_done(house: QueueHouse) -> None:
    known = await house.accept(FAR)
    for action in ("remove", "hold", "retry", "release"):
        assert f"{UNKNOWN_ID} is not in the queue" in await house.seapost(action, known, UNKNOWN_ID, "--yes", status=1)
    assert (await again(house, known))["held_by"] is None
    assert "is not a message id" in await house.seapost("remove", "everything", status=2)
    assert "one of the three" in await house.seapost("remove", known, "--sender", "*", status=2)
    assert "one of the three" in await house.seapost("remove", status=2)
    assert "nothing to do" in (await house.run("queue", "remove", "--sender", "nobody@*")).stderr


async def test_what_changed_since_the_question_is_left_alone(house: QueueHouse) -> None:
    """The order names the state that was seen: it does not hold any more."""
    message = await house.accept(FAR)
    async with rpc.channel(house.rpc, house.identity("cli")) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        for state, meant in (("held", []), ("waiting", [message])):
            reply = await stub.Change(
                admin_pb2.ChangeRequest(
                    action=admin_pb2.ChangeRequest.REMOVE,
                    ids=[message],
                    selection=admin_pb2.Selection(states=[state]),
                    by="test",
                )
            )
            assert [change.id for change in reply.changes] == meant


async def test_an_order_that_makes_no_sense_is_refused_whole(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    async with rpc.channel(house.rpc, house.identity("cli")) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        remove = admin_pb2.ChangeRequest.REMOVE
        for request in (
            admin_pb2.ChangeRequest(ids=[message]),
            admin_pb2.ChangeRequest(action=remove, ids=[message, "x"]),
            admin_pb2.ChangeRequest(action=remove, ids=[message] * 1_001),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.Change(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    async with rpc.channel(house.rpc, house.identity("smtpd")) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await admin_pb2_grpc.AdminStub(channel).Change(admin_pb2.ChangeRequest(action=remove, ids=[message]))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert len(await house.listed()) == 1
