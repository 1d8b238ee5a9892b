"""The service as the queue and smtpd meet it: a process, real TLS, real users when the tests run as root."""

import asyncio
import os
import re
import select
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from proto import work_pb2
from tests.harness.local_house import HOST, ROOT, House, message_id, messages, open_house

DEFERRED, DELIVERED, FAILED = work_pb2.Outcome.DEFERRED, work_pb2.Outcome.DELIVERED, work_pb2.Outcome.FAILED
pytestmark = pytest.mark.asyncio(loop_scope="module")
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    """One service for all tests that leave it as it was."""
    async with open_house() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[House]:
    """A service that the test may kill, stop or misconfigure."""
    async with open_house() as found:
        yield found


@pytest.fixture
def ann(house: House) -> Path:
    """The home of an account that no other test uses; the folder's name is the account's."""
    return house.account()


async def test_a_message_lands_in_a_maildir_that_did_not_exist(house: House, ann: Path) -> None:
    outcome = await house.queue.to(f"{ann.name}@{HOST}", number=7)
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 1+0+0\n")
    maildir = ann / "Maildir"
    assert messages(maildir) == [
        f"Return-Path: <joe@far.example>\nDelivered-To: {ann.name}@{HOST}\nSubject: x\n\nhello\n".encode()
    ]
    assert os.listdir(maildir / "new") == [f"1700000000.Q{message_id(7)}R0I0.test"]
    assert stat.S_IMODE(maildir.stat().st_mode) == 0o700
    assert stat.S_IMODE((maildir / "new" / os.listdir(maildir / "new")[0]).stat().st_mode) == 0o600


@as_root
async def test_what_is_delivered_belongs_to_the_user(house: House, ann: Path) -> None:
    await house.queue.to(f"{ann.name}@{HOST}")
    uid = ann.stat().st_uid
    for path in (ann / "Maildir").rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, uid)


async def test_nobody_of_that_name_fails_with_qmails_words(house: House, ann: Path) -> None:
    outcome = await house.queue.to(f"nobody@{HOST}")
    assert (outcome.kind, outcome.report) == (FAILED, "Sorry, no mailbox here by that name. (#5.1.1)\n")
    outcome = await house.queue.to(f"{ann.name}-list@{HOST}")
    assert (outcome.kind, outcome.report) == (FAILED, "Sorry, no mailbox here by that name. (#5.1.1)\n")


async def test_addresses_that_qmail_lspawn_answers_itself(house: House, ann: Path) -> None:
    outcome = await house.queue.to(f"@{HOST}")
    assert (outcome.kind, outcome.report) == (DELIVERED, "")
    outcome = await house.queue.to("ann")
    assert (outcome.kind, outcome.report) == (FAILED, "Sorry, address must include host name. (#5.1.3)\n")


async def test_a_message_without_an_octet_is_delivered_too(house: House, ann: Path) -> None:
    outcome = await house.queue.to(f"{ann.name}@{HOST}", number=8, body=b"")
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 1+0+0\n")
    lines = f"Return-Path: <joe@far.example>\nDelivered-To: {ann.name}@{HOST}\n"
    assert messages(ann / "Maildir") == [lines.encode()]


async def test_the_same_delivery_twice_is_one_copy(house: House, ann: Path) -> None:
    for _ in range(2):
        outcome = await house.queue.to(f"{ann.name}@{HOST}", number=9)
        assert (outcome.kind, outcome.report) == (DELIVERED, "did 1+0+0\n")
    assert len(messages(ann / "Maildir")) == 1


async def test_a_batch_of_many_messages_is_complete(house: House, ann: Path) -> None:
    bodies = [f"Subject: {number}\n\n{'x' * number}\n".encode() for number in range(150)]
    await house.queue.deliver(*(house.queue.delivery(f"{ann.name}@{HOST}", body=body) for body in bodies))
    found = messages(ann / "Maildir")
    assert sorted(body.split(b"\n", 2)[2] for body in found) == sorted(bodies)


async def test_a_delivery_with_several_recipients_settles_each(house: House, ann: Path) -> None:
    bob = house.account()
    outcomes = await house.queue.deliver(
        house.queue.delivery(f"{ann.name}@{HOST}", f"{bob.name}@{HOST}", f"nobody@{HOST}")
    )
    assert [outcome.kind for outcome in outcomes] == [DELIVERED, DELIVERED, FAILED]
    assert len(messages(bob / "Maildir")) == 1


async def test_a_looping_message_fails(house: House, ann: Path) -> None:
    looping = f"Subject: x\nDelivered-To: {ann.name}@{HOST}\n\nhello\n".encode()
    outcome = await house.queue.to(f"{ann.name}@{HOST}", body=looping)
    assert (outcome.kind, outcome.report) == (
        FAILED,
        "This message is looping: it already has my Delivered-To line. (#5.4.6)\n",
    )
    for other in (
        f"Subject: x\n\nDelivered-To: {ann.name}@{HOST}\n",
        f"\nDelivered-To: {ann.name}@{HOST}\n",
        f"Delivered-To: {ann.name.upper()}@{HOST}\n\n",
        f"X-Delivered-To: {ann.name}@{HOST}\n\n",
    ):
        assert (await house.queue.to(f"{ann.name}@{HOST}", body=other.encode())).kind == DELIVERED


@pytest.mark.parametrize(
    ("mode", "report"),
    [
        (0o702, "Uh-oh: home directory is writable. (#4.7.0)\n"),
        (0o1700, "Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n"),
    ],
)
async def test_a_home_that_is_not_ready_defers(house: House, ann: Path, mode: int, report: str) -> None:
    ann.chmod(mode)
    outcome = await house.queue.to(f"{ann.name}@{HOST}")
    assert (outcome.kind, outcome.report) == (DEFERRED, report)


async def test_a_missing_home_defers(house: House, ann: Path) -> None:
    ann.rmdir()
    outcome = await house.queue.to(f"{ann.name}@{HOST}")
    assert outcome.kind == DEFERRED
    assert outcome.report == f"Unable to switch to {ann}: file does not exist. (#4.3.0)\n"
    assert await house.check(f"{ann.name}@{HOST}") == ["UNSURE"]


async def test_unreadable_accounts_defer(own: House) -> None:
    ann = own.account()
    (own.state / "accounts" / "passwd").rename(own.state / "accounts" / "elsewhere")
    outcome = await own.queue.to(f"{ann.name}@{HOST}")
    assert (outcome.kind, outcome.report) == (DEFERRED, "Unable to read the account files. (#4.3.0)\n")
    assert await own.check(f"{ann.name}@{HOST}", f"nobody@{HOST}", "x@far.example") == ["UNSURE", "UNSURE", "ELSEWHERE"]


@as_root
async def test_a_home_of_somebody_else_makes_no_mail_account(house: House, ann: Path) -> None:
    os.chown(house.account("www"), 0, 0)
    assert await house.check(f"www@{HOST}") == ["NOBODY"]
    assert (await house.queue.to(f"www@{HOST}")).kind == FAILED
    house.write(house.state / "alias" / ".qmail-www", "&x@far.example\n")
    assert await house.check(f"www@{HOST}") == ["DELIVERABLE"]
    assert (await house.queue.to(f"www@{HOST}")).kind == DELIVERED


async def test_forwards_are_returned_and_not_sent(house: House, ann: Path) -> None:
    house.write(ann / ".qmail-list", "# friends\n&bob@far.example\ncarl@far.example\n./Maildir/\n")
    outcome = await house.queue.to(f"{ann.name}-list@{HOST}")
    assert (outcome.kind, outcome.report[:10]) == (DELIVERED, "did 1+2+0\n")
    assert re.fullmatch(r"qp \w{26}\n", outcome.report[10:])
    (forward,) = outcome.forwards
    assert forward.sender == "joe@far.example"
    assert list(forward.recipients) == ["bob@far.example", "carl@far.example"]
    assert forward.header == f"Delivered-To: {ann.name}-list@{HOST}\n"
    assert forward.instruction == 1
    assert list(outcome.done) == [3]


async def test_a_list_with_an_owner_sends_from_the_owner(house: House, ann: Path) -> None:
    house.write(ann / ".qmail-list", "&bob@far.example\n")
    house.write(ann / ".qmail-list-owner", "")
    outcome = await house.queue.to(f"{ann.name}-list@{HOST}")
    assert outcome.forwards[0].sender == f"{ann.name}-list-owner@{HOST}"
    house.write(ann / ".qmail-list-owner-default", "")
    outcome = await house.queue.to(f"{ann.name}-list@{HOST}")
    assert outcome.forwards[0].sender == f"{ann.name}-list-owner-@{HOST}-@[]"
    outcome = await house.queue.to(f"{ann.name}-list@{HOST}", sender="")
    assert outcome.forwards[0].sender == ""


async def test_a_program_after_a_maildir_is_run_and_the_maildir_not_repeated(house: House, ann: Path) -> None:
    house.write(ann / ".qmail", "./Maildir/\n|cat; exit $(cat code)\n")
    house.write(ann / "code", "111")
    first = await house.queue.to(f"{ann.name}@{HOST}", number=11)
    assert (first.kind, first.report) == (DEFERRED, "Subject: x\n\nhello\n")
    assert list(first.done) == [0]
    house.write(ann / "code", "0")
    again = await house.queue.to(f"{ann.name}@{HOST}", number=11, done=[0])
    assert (again.kind, again.report) == (DELIVERED, "Subject: x\n\nhello\ndid 1+0+1\n")
    assert list(again.done) == [0, 1]
    assert len(messages(ann / "Maildir")) == 1


async def test_a_virtual_user_gets_mail_with_the_prefix(house: House) -> None:
    ann = house.account("vera")
    house.write(ann / ".qmail-default", "./Maildir/\n")
    assert await house.check("info@virtual.test") == ["DELIVERABLE"]
    assert (await house.queue.to("vera-info@virtual.test")).kind == DELIVERED
    assert b"Delivered-To: vera-info@virtual.test\n" in messages(ann / "Maildir")[0]


async def test_the_default_delivery_is_read_again_at_sighup(own: House) -> None:
    ann = own.account()
    (own.state / "control" / "defaultdelivery").write_text("./Post/\n")
    assert own.process is not None
    own.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        number = 100
        while not (ann / "Post").is_dir():
            number += 1
            await own.queue.to(f"{ann.name}@{HOST}", number=number)


async def test_a_dead_child_defers_its_batch_and_the_next_attempt_delivers_once(own: House) -> None:
    """The child is stopped by its own user and then killed: from outside, in the middle of a batch."""
    ann = own.account()
    await own.queue.to(f"{ann.name}@{HOST}", number=20)
    child = _child_of(own, ann.stat().st_uid)
    os.kill(child, signal.SIGSTOP)
    delivery = own.queue.delivery(f"{ann.name}@{HOST}", number=21)
    own.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=[delivery]))
    own.account("bob")
    assert (await own.queue.to(f"bob@{HOST}")).kind == DELIVERED  # the others' mail goes on
    os.kill(child, signal.SIGKILL)
    (outcome,) = await own.queue.outcome_of(delivery)
    assert (outcome.kind, outcome.report) == (DEFERRED, "qmail-local crashed.\n")
    assert (await own.queue.to(f"{ann.name}@{HOST}", number=21)).kind == DELIVERED
    assert len(messages(ann / "Maildir")) == 2


async def test_a_child_that_ended_while_idle_is_replaced(own: House) -> None:
    ann = own.account()
    await own.queue.to(f"{ann.name}@{HOST}")
    child = _child_of(own, ann.stat().st_uid)
    pidfd = os.pidfd_open(child)
    os.kill(child, signal.SIGKILL)
    await asyncio.to_thread(_wait_for, pidfd)
    outcomes = [await own.queue.to(f"{ann.name}@{HOST}") for _ in range(2)]
    assert outcomes[-1].kind == DELIVERED


async def test_elections_are_swept_when_nobody_will_ask_again() -> None:
    """An hour is a second here, 36 hours are 39; what is deferred stays."""
    async with open_house(TIME_SCALE="0.0003") as quick:
        ann = quick.account()
        quick.write(ann / ".qmail-late", "./Maildir/\n|exit 111\n")
        await quick.queue.deliver(*(quick.queue.delivery(f"{ann.name}@{HOST}") for _ in range(5)))
        late = await quick.queue.to(f"{ann.name}-late@{HOST}")
        assert late.kind == DEFERRED
        left = f".Q{late.id}R0I0.test.d"
        async with asyncio.timeout(30):
            while [name[name.index(".Q") :] for name in os.listdir(ann / "Maildir" / "tmp")] != [left]:
                await quick.queue.to(f"nobody@{HOST}")
        assert len(messages(ann / "Maildir")) == 6


async def test_many_more_users_than_children(house: House, ann: Path) -> None:
    names = [house.account().name for _ in range(150)]
    outcomes = await house.queue.deliver(*(house.queue.delivery(f"{name}@{HOST}") for name in names))
    assert {outcome.kind for outcome in outcomes} == {DELIVERED}
    assert all(len(messages(house.state / "homes" / name / "Maildir")) == 1 for name in names)


async def test_smtpd_is_told_who_gets_mail_here(house: House, ann: Path) -> None:
    house.write(ann / ".qmail-list", "&bob@far.example\n")
    house.write(house.state / "alias" / ".qmail-postmaster", "&x@far.example\n")
    asked = {
        f"{ann.name}@{HOST}": "DELIVERABLE",
        f"{ann.name.upper()}@{HOST.upper()}": "DELIVERABLE",
        f"{ann.name}-LIST@{HOST}": "DELIVERABLE",
        f"{ann.name}-other@{HOST}": "NOBODY",
        f"postmaster@{HOST}": "DELIVERABLE",
        f"nobody@{HOST}": "NOBODY",
        f"root@{HOST}": "NOBODY",
        f"../{ann.name}@{HOST}": "NOBODY",
        "someone@far.example": "ELSEWHERE",
        "ann\r\n@x": "UNSURE",
        "": "UNSURE",
    }
    assert dict(zip(asked, await house.check(*asked), strict=True)) == asked


async def test_a_home_that_nobody_may_trust_is_unsure_for_extensions(house: House, ann: Path) -> None:
    house.write(ann / ".qmail-list", "&bob@far.example\n", mode=0o602)
    assert await house.check(f"{ann.name}-list@{HOST}") == ["UNSURE"]


async def test_only_smtpd_and_pop3_may_ask(house: House, ann: Path) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await house.check(f"{ann.name}@{HOST}", role="remote")
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_every_publication_is_an_event(own: House) -> None:
    ann = own.account()
    await own.queue.to(f"{ann.name}@{HOST}", number=31)
    await own.stop()
    (event,) = own.named("published")
    assert (event["msg"], event["account"]) == (message_id(31), ann.name)
    assert re.fullmatch(r"1700000000\.Q\w{26}R0I0\.test", event["name"])


async def test_a_wrong_control_file_refuses_the_start_by_name() -> None:
    house = House()
    (house.state / "control" / "me").unlink()
    try:
        with pytest.raises(AssertionError, match="control/me: missing or empty"):
            await house.start()
    finally:
        await house.close()


async def test_local_ends_in_order_and_leaves_nobody_behind(own: House) -> None:
    ann = own.account()
    await own.queue.to(f"{ann.name}@{HOST}")
    assert own.process is not None
    pidfds = [os.pidfd_open(pid) for pid in _family(own.process.pid)]
    assert len(pidfds) == 2  # the spawner and a child
    assert await own.stop() == 0
    for pidfd in pidfds:
        await asyncio.to_thread(_wait_for, pidfd)


@as_root
async def test_the_front_is_not_root_and_has_no_capability(house: House) -> None:
    assert house.process is not None
    rows = Path(f"/proc/{house.process.pid}/status").read_text()
    assert "Uid:\t7794\t7794\t7794\t7794" in rows
    assert "CapEff:\t0000000000000000" in rows
    assert "NoNewPrivs:\t1" in rows


def _family(pid: int) -> list[int]:
    children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [one for child in children for one in _family(child)]


def _child_of(house: House, uid: int) -> int:
    assert house.process is not None
    (spawner,) = (
        int(one) for one in Path(f"/proc/{house.process.pid}/task/{house.process.pid}/children").read_text().split()
    )
    found = [pid for pid in _family(spawner) if f"Uid:\t{uid}\t" in Path(f"/proc/{pid}/status").read_text()]
    return found[-1]


def _wait_for(pidfd: int) -> None:
    assert select.select([pidfd], [], [], 15)[0], "the process is still there"
    os.close(pidfd)
