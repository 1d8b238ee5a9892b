"""A Redis that forgets, dies, stands still, refuses, lies or goes back in time: the mail goes on, nobody loses a log.

A server of the test's own behind a proxy. Two replicas of the queue; leases are renewed every two seconds, so each harm
lasts a little longer than that.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.conftest import RedisServer, free_port
from tests.harness import wire_cutter
from tests.harness.ledger import Fate
from tests.harness.stack import Stack, running
from tests.harness.traffic import Traffic, reckon
from tests.harness.wire_cutter import Cutter

pytestmark = pytest.mark.timeout(300)

# Messages that take longer than a lease is renewed, at the pace of the traffic.
A_RENEWAL = 90


NO_TOKEN = "99999999999999"  # a number that has more digits than a token
ADMIN, PASSWORD = "admin", "secret"


def open_to_admin(server: RedisServer) -> None:
    """Of a server that has just started: we keep a user, whatever becomes of others."""
    with redis.Redis(port=server.port) as anybody:
        anybody.acl_setuser(ADMIN, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], categories=["+@all"])


@contextmanager
def client(server: RedisServer) -> Iterator[Any]:
    with redis.Redis(port=server.port, username=ADMIN, password=PASSWORD) as found:
        yield found


def tell(server: RedisServer, *words: str) -> None:
    with client(server) as found:
        found.execute_command(*words)


def spoil(server: RedisServer, of_wrong_type: bool) -> None:
    """Every key of ours gets another type, or a number that no token can be."""
    with client(server) as found:
        for key in found.keys("fence:*"):
            if of_wrong_type:
                found.delete(key)
                found.lpush(key, "x")
            elif key.endswith(b":token"):
                found.set(key, NO_TOKEN)


@pytest.fixture
def other_server(redis_server: RedisServer, tmp_path: Path) -> Iterator[RedisServer]:
    """A second server."""
    directory = tmp_path / "other-redis"
    directory.mkdir()
    server = RedisServer(redis_server.program, directory, free_port())
    server.start()
    yield server
    server.kill()


def took(stack: Stack) -> dict[str, list[int]]:
    """The tokens under which each log was taken, in order."""
    tokens: dict[str, list[int]] = {}
    for event in stack.events("queue"):
        if event["event"] == "took log":
            tokens.setdefault(event["log"], []).append(int(event["token"]))
    return tokens


async def test_whatever_redis_does_the_mail_goes_on(
    state: Path, redis_server: RedisServer, other_server: RedisServer
) -> None:
    for server in (redis_server, other_server):
        open_to_admin(server)
    with wire_cutter.running(redis_server.port) as cutter:
        settings = {"TIME_SCALE": "0.002", "REDIS_URL": f"redis://{cutter.address}/0"}
        with running(Stack(state, environment=settings, replicas="queue=2")) as stack:
            traffic = Traffic(stack.ports["smtp"])
            async with traffic.flowing():
                await traffic.accepted(A_RENEWAL)
                before = took(stack)
                copy_keys(redis_server, other_server)
                for harm in harms(redis_server, other_server, cutter):
                    await asyncio.to_thread(harm)
                    await traffic.accepted(A_RENEWAL)
                since = stack.mark()
                permit_by_name(other_server, stack)
                for name in ("queue-0", "queue-1"):
                    await asyncio.to_thread(stack.said.wait, rf"^{name}: fence answers", since)
                assert took(stack) == before, "both were alive all the time"
                spoil(other_server, of_wrong_type=False)
                stack.kill("queue-0")
                await asyncio.to_thread(stack.said.wait, r"^queue-\d: took log", since)
                await traffic.accepted(A_RENEWAL)
            await asyncio.to_thread(reckon, stack, traffic.kept)
            assert not traffic.kept.of(Fate.REFUSED), traffic.kept.summary()
            for tokens in took(stack).values():
                assert tokens == sorted(set(tokens)), "tokens only ever grow"
                assert tokens[-1] < int(NO_TOKEN)
            assert not stack.said.find(r"alert|lost log|foreign")


def harms(server: RedisServer, other: RedisServer, cutter: Cutter) -> list[Callable[[], None]]:
    """One after another, each upon what the one before it left."""

    def die_and_come_back_empty() -> None:
        server.kill()
        server.start()
        open_to_admin(server)

    def stand_still() -> None:
        assert server.process
        os.kill(server.process.pid, signal.SIGSTOP)

    def refuse_to_write() -> None:
        assert server.process
        os.kill(server.process.pid, signal.SIGCONT)
        tell(server, "CONFIG", "SET", "maxmemory", "1")

    def be_a_replica() -> None:
        tell(server, "CONFIG", "SET", "maxmemory", "0")
        tell(server, "REPLICAOF", "127.0.0.1", "1")

    def be_another_of_older_times() -> None:
        cutter.target = other.port
        cutter.heal()

    def forbid() -> None:
        tell(other, "ACL", "SETUSER", "default", "off")
        cutter.cut()

    return [
        lambda: tell(server, "FLUSHALL"),
        die_and_come_back_empty,
        lambda: spoil(server, of_wrong_type=True),
        stand_still,
        refuse_to_write,
        be_a_replica,
        cutter.partition,
        be_another_of_older_times,
        forbid,
    ]


def permit_by_name(server: RedisServer, stack: Stack) -> None:
    """The user that our own server would have."""
    password = (stack.directory / "tls" / "queue" / "redis-password").read_text().strip()
    tell(server, "ACL", "SETUSER", "fence", "on", f">{password}", "~fence:*", "+@all")


def copy_keys(server: RedisServer, other: RedisServer) -> None:
    """What a failover would bring back."""
    with client(server) as source, client(other) as target:
        for key in source.keys("fence:*"):
            target.restore(key, 0, source.dump(key))
