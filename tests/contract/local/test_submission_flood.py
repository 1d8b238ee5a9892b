"""Clients of the submission socket that mean no good: garbage, hoards and floods delay nobody but themselves."""

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.harness.injector import connect, hang_up, qmail_queue
from tests.harness.local_house import ROOT, TIMEOUT_S, House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to be several users")


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def every_connection_ends_with_its_test() -> AsyncIterator[None]:
    yield
    await hang_up()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    """One service for all tests that leave it as it was."""
    async with open_house() as found:
        yield found


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\0\0\0\x05hello\0\0\0\x05hello",
        struct.pack("!I", 1 << 21),
        b"\0\0\0\0" * 3,
    ],
)
async def test_garbage_queues_nothing(house: House, garbage: bytes) -> None:
    before = len(house.postbox.posted)
    client = await connect(house)
    client.writer.write(garbage)
    client.writer.write_eof()
    assert not (await client.ended()).startswith(b"K")
    assert len(house.postbox.posted) == before


async def test_a_message_in_crumbs_is_none(house: House) -> None:
    """They would cost the loop more than their client: only the last piece of a part may be small."""
    client = await connect(house)
    for crumb in (b"hello", b"hello"):  # after the second nobody listens any more
        client.piece(crumb)
    assert await client.said() == b"81 \n"


async def test_who_takes_all_places_keeps_only_himself_waiting(house: House) -> None:
    hoard = [await connect(house) for _ in range(128)]
    await connect(house, b"71 too many at once, try again\n")
    if ROOT:
        assert await qmail_queue(house, uid=23_456) == 0, "another user has places of his own"
    waiting = asyncio.create_task(qmail_queue(house))
    hoard[0].writer.close()
    assert await waiting == 0, "he comes back until there is one"


@as_root
async def test_when_all_places_are_taken_who_has_most_makes_room(house: House) -> None:
    program = (
        "import os, socket, sys, time\n"
        "os.setuid(int(sys.argv[2])); held = []\n"
        "for _ in range(128):\n"
        "    one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1]); held.append(one)\n"
        "    assert one.recv(2) == b'+\\n'\n"
        "print('full', flush=True); sys.stdin.read()\n"
    )
    crowd = []
    for uid in range(23_000, 23_004):
        words = (sys.executable, "-c", program, str(house.submit / "local-0"), str(uid))
        pipe = asyncio.subprocess.PIPE
        crowd.append(await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe))
    for one in crowd:
        assert one.stdout is not None
        assert await asyncio.wait_for(one.stdout.readline(), TIMEOUT_S) == b"full\n"
    assert await qmail_queue(house, uid=23_456) == 0
    for one in crowd:
        assert one.stdin is not None
        one.stdin.close()
        await one.wait()


async def test_a_flood_of_connections_does_not_stop_deliveries(house: House) -> None:
    """Ten thousand that come and go, while mail is delivered and handed in."""
    ann = house.account()

    def flood() -> int:
        refused = 0
        for _ in range(10_000):
            with socket.socket(socket.AF_UNIX) as one:
                one.setblocking(False)
                refused += one.connect_ex(str(house.submit / "local-0")) == errno.EAGAIN
        return refused

    flooding = asyncio.create_task(asyncio.to_thread(flood))
    for _ in range(5):
        await house.queue.to(f"{ann.name}@mail.example.test")
        assert await qmail_queue(house) == 0
    await flooding
    assert await qmail_queue(house) == 0
