"""Leases on a real Redis: a hint that an owner is alive, and the highest token; nothing that could stop an owner."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from services.queue.fence import LEASE_MS, Fence, Lease
from tests.conftest import RedisServer

LOG = "0a1b2c3d"
CLUSTER = "0" * 32


class Room:
    """Fences of several owners at one server, and a client to look with."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.client = redis.asyncio.Redis.from_url(server.url)
        self._fences: list[Fence] = []

    def fence(self, holder: str) -> Fence:
        fence = Fence(self.server.url, "", CLUSTER, holder)
        self._fences.append(fence)
        return fence

    async def holder(self) -> str:
        held = await self.client.hget(f"fence:{CLUSTER}:{LOG}", "holder")
        return held.decode() if isinstance(held, bytes) else ""

    async def close(self) -> None:
        for fence in self._fences:
            await fence.close()
        await self.client.aclose()


@pytest.fixture
async def room(redis_server: RedisServer) -> AsyncIterator[Room]:
    found = Room(redis_server)
    yield found
    await found.close()


async def test_a_renewal_is_a_lease_that_others_see_and_that_runs_out(room: Room) -> None:
    mine, other = room.fence("queue-0/1"), room.fence("queue-1/2")
    assert await other.lease(LOG) is Lease.ABSENT
    assert await mine.renew(LOG, 7)
    assert await other.lease(LOG) is Lease.HELD
    assert 0 < await room.client.pttl(f"fence:{CLUSTER}:{LOG}") <= LEASE_MS


async def test_who_has_a_lower_token_does_not_get_the_lease_of_another(room: Room) -> None:
    old, new = room.fence("queue-0/1"), room.fence("queue-1/2")
    await new.renew(LOG, 8)
    assert await old.renew(LOG, 7), "the server heard it"
    assert await room.holder() == "queue-1/2"


async def test_a_new_owner_has_the_lease_at_once(room: Room) -> None:
    old, new = room.fence("queue-0/1"), room.fence("queue-1/2")
    await old.renew(LOG, 7)
    await new.renew(LOG, 8)
    assert await room.holder() == "queue-1/2"


async def test_only_the_holder_takes_its_lease_back(room: Room) -> None:
    old, new = room.fence("queue-0/1"), room.fence("queue-1/2")
    await new.renew(LOG, 8)
    await old.release(LOG)
    assert await room.holder() == "queue-1/2"
    await new.release(LOG)
    assert await old.lease(LOG) is Lease.ABSENT


async def test_the_highest_token_only_grows(room: Room) -> None:
    fence = room.fence("queue-0/1")
    assert await fence.highest_token() == 0
    await fence.renew(LOG, 8)
    await fence.renew("another", 3)
    assert await fence.highest_token() == 8


async def test_a_renewal_that_is_sent_twice_is_one(room: Room) -> None:
    fence = room.fence("queue-0/1")
    await fence.renew(LOG, 8)
    await fence.renew(LOG, 8)
    assert (await room.holder(), await fence.highest_token()) == ("queue-0/1", 8)


async def test_after_flushall_the_next_renewal_is_as_the_first(room: Room) -> None:
    fence = room.fence("queue-0/1")
    await fence.renew(LOG, 8)
    await room.client.flushall()
    await room.client.script_flush()
    assert await fence.renew(LOG, 8)
    assert (await fence.lease(LOG), await fence.highest_token()) == (Lease.HELD, 8)


async def test_a_server_that_is_gone_says_nothing_about_a_lease(room: Room) -> None:
    fence = room.fence("queue-0/1")
    await fence.renew(LOG, 8)
    room.server.kill()
    assert not await fence.renew(LOG, 8)
    assert (await fence.lease(LOG), await fence.highest_token()) == (Lease.UNREACHABLE, 0)
    await fence.release(LOG)


async def test_a_server_that_does_not_answer_is_waited_for_a_moment(room: Room) -> None:
    fence = room.fence("queue-0/1")
    await fence.renew(LOG, 8)
    assert room.server.process
    os.kill(room.server.process.pid, signal.SIGSTOP)
    async with asyncio.timeout(10):
        assert await fence.lease(LOG) is Lease.UNREACHABLE
    os.kill(room.server.process.pid, signal.SIGCONT)


async def test_what_is_no_token_in_redis_counts_for_nothing(room: Room) -> None:
    await room.client.set(f"fence:{CLUSTER}:token", b"hostile")
    assert await room.fence("queue-0/1").highest_token() == 0


async def test_without_a_server_nothing_is_known() -> None:
    fence = Fence("", "", CLUSTER, "queue-0/1")
    assert not await fence.renew(LOG, 1)
    assert (await fence.lease(LOG), await fence.highest_token()) == (Lease.UNREACHABLE, 0)
    await fence.release(LOG)
    await fence.close()
