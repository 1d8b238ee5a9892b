"""The model of Redis beside a real server: the same commands and the fence's script lead to the same answers."""

import itertools
from random import Random
from typing import Any

import redis.asyncio

from services.queue import fence
from tests.conftest import RedisServer
from tests.sim.leases import LeaseClient, Leases

KEYS = ["fence:x:log", "fence:x:token"]
STEPS = 300


async def step(client: Any, script: Any, what: str, holder: str, token: int) -> object:
    match what:
        case "renew":
            return await script(keys=KEYS, args=[holder, token, 60_000])
        case "release":
            held = await client.hget(KEYS[0], "holder")
            return await client.delete(KEYS[0]) if held == holder.encode() else held
        case "lease":
            return await client.exists(KEYS[0])
        case _:
            return await client.get(KEYS[1])


async def test_the_model_answers_as_a_server_does(redis_server: RedisServer) -> None:
    chance = Random(3)
    model = LeaseClient(Leases(Random(4), lambda: 0), lambda: True)
    script = fence._RENEW
    async with redis.asyncio.Redis.from_url(redis_server.url) as real:
        ways = [(real, real.register_script(script)), (model, model.register_script(script))]
        for _ in range(STEPS):
            what = chance.choice(("renew", "renew", "renew", "release", "lease", "token"))
            asked = (what, chance.choice(("queue-0/1", "queue-0/2", "queue-1/9")), chance.randrange(1, 40))
            answers = [await step(client, run, *asked) for client, run in ways]
            assert answers[0] == answers[1], (asked, answers)


def test_a_lease_ends_and_a_failover_brings_back_an_old_one() -> None:
    now = itertools.count(0, 5_000)
    leases = Leases(Random(1), lambda: next(now))
    leases.renew(KEYS, ["queue-0/1", 7, 8_000])
    assert leases.exists(KEYS[0])
    assert not leases.exists(KEYS[0])
    leases.remember()
    leases.renew(KEYS, ["queue-1/2", 9, 60_000])
    leases.fail_over()
    assert leases.get(KEYS[1]) == b"7"
