"""mbox instructions through the whole service: the user's process, the .qmail file, the outcome."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator

import pytest

from proto import work_pb2
from tests.harness.local_house import HOST, ROOT, House, messages, open_house

DELIVERED, DEFERRED = work_pb2.Outcome.DELIVERED, work_pb2.Outcome.DEFERRED
ARRIVED = "Tue Nov 14 22:13:20 2023"


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


async def test_an_mbox_gets_what_qmail_local_would_write(house: House) -> None:
    home = house.account("ann")
    house.write(home / ".qmail", "./Mailbox\n")
    outcome = await house.queue.to(f"ann@{HOST}", body=b"Subject: x\n\nFrom me\n>From you\nlast")
    assert (outcome.kind, outcome.report, list(outcome.done)) == (DELIVERED, "did 1+0+0\n", [0])
    assert (home / "Mailbox").read_bytes() == (
        f"From joe@far.example {ARRIVED}\nReturn-Path: <joe@far.example>\nDelivered-To: ann@{HOST}\n"
        "Subject: x\n\n>From me\n>>From you\nlast\n\n"
    ).encode()
    made = (home / "Mailbox").stat()
    assert (made.st_uid, made.st_mode & 0o777) == (home.stat().st_uid, 0o600)


async def test_every_kind_of_instruction_is_counted_and_done_once(house: House) -> None:
    home = house.account("ann")
    house.write(home / ".qmail", "./Mailbox\n./Maildir/\n./Mailbox\n/dev/null\n./no/such\n")
    house_maildir = home / "Maildir"
    for part in ("", "tmp", "new", "cur"):
        (house_maildir / part).mkdir(mode=0o700)
        os.chown(house_maildir / part, home.stat().st_uid, home.stat().st_gid)
    first = await house.queue.to(f"ann@{HOST}", number=7)
    assert (first.kind, list(first.done)) == (DEFERRED, [0, 1, 2, 3])
    assert first.report == "Unable to open ./no/such: file does not exist. (#4.2.1)\n"
    again = await house.queue.to(f"ann@{HOST}", number=7, done=first.done)
    lost = await house.queue.to(f"ann@{HOST}", number=7)
    assert [list(one.done) for one in (again, lost)] == [[0, 1, 2, 3]] * 2
    assert (home / "Mailbox").read_bytes().count(b"Subject: x") == 2
    assert len(messages(house_maildir)) == 1


async def test_a_batch_to_one_mbox_arrives_whole(house: House) -> None:
    home = house.account("ann")
    house.write(home / ".qmail", "./Mailbox\n")
    bodies = [f"Subject: {number}\n\nx\n".encode() for number in range(40)]
    outcomes = await house.queue.deliver(*(house.queue.delivery(f"ann@{HOST}", body=body) for body in bodies))
    assert {one.kind for one in outcomes} == {DELIVERED}
    for body in bodies:
        assert (home / "Mailbox").read_bytes().count(body) == 1


async def test_a_lock_that_somebody_keeps_defers_after_half_a_minute() -> None:
    async with open_house(TIME_SCALE="0.01") as house:
        home = house.account("ann")
        house.write(home / ".qmail", "./Mailbox\n")
        held = house.write(home / "Mailbox", "")
        with held.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            outcome = await house.queue.to(f"ann@{HOST}")
            assert outcome.report == "File has been locked for 30 seconds straight. (#4.3.0)\n"
            waiting = asyncio.create_task(house.queue.to(f"ann@{HOST}", body=b"Subject: late\n\n"))
            fcntl.flock(file, fcntl.LOCK_UN)
            assert (await waiting).kind == DELIVERED
    assert not held.exists()


async def test_what_the_user_may_not_write_to_or_is_no_file_defers_at_once(house: House) -> None:
    secret = house.state / "secret"
    secret.write_text("root's\n")
    secret.chmod(0o600)
    for name, path, why in (
        ("fifo", "./Mailbox", "device not configured"),
        ("device", "/dev/zero", "device not configured"),
        ("folder", "./Mailbox", "is a directory"),
        ("link", "./Mailbox", "access denied"),
    ):
        home = house.account(name)
        house.write(home / ".qmail", f"{path}\n")
        if name == "fifo":
            os.mkfifo(home / "Mailbox")
            os.chown(home / "Mailbox", home.stat().st_uid, home.stat().st_gid)
        elif name == "folder":
            (home / "Mailbox").mkdir()
        elif name == "link":
            (home / "Mailbox").symlink_to(secret)
        if name != "link" or ROOT:  # without root it is everybody's own file
            outcome = await house.queue.to(f"{name}@{HOST}")
            assert (outcome.kind, outcome.report) == (DEFERRED, f"Unable to open {path}: {why}. (#4.2.1)\n")
    assert secret.read_text() == "root's\n"
