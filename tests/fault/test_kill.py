"""kill -9 of every service under load, and a Redis that forgets or dies: every 250 is kept, exactly one copy each."""

import asyncio
from pathlib import Path

import pytest
import redis

from tests.harness import ledger
from tests.harness.ledger import Fate, Found, Ledger, Round
from tests.harness.maildir import Parcel
from tests.harness.stack import MAIL_NAME, Stack, running

DEMO = f"demo@{MAIL_NAME}"
SCALED = {"TIME_SCALE": "0.002"}
OCTETS = 4096
IDLE_S = 60.0

pytestmark = pytest.mark.timeout(240)


async def load(stack: Stack, count: int, deaths: list[str]) -> Ledger:
    """Sends so many parcels over ten connections; meanwhile each of `deaths` is killed, evenly spread."""
    kept = Ledger()
    parcels = [Parcel.of_octets(f"load-{number}", OCTETS) for number in range(count)]
    sending = asyncio.create_task(ledger.send(Round(stack.ports["smtp"], parcels, (DEMO,)), kept))
    for number, name in enumerate(deaths, 1):
        await kept.wait(number * count // (len(deaths) + 1))
        since = stack.mark()
        await asyncio.to_thread(stack.kill, name)
        await asyncio.to_thread(stack.wait_started, name, since)
    await sending
    return kept


def reckon(stack: Stack, kept: Ledger) -> None:
    """Waits for the end of every delivery, then holds every reply against what lies in the Maildir."""
    stack.wait_idle(IDLE_S)
    found = Found()
    found.look_into(stack.home("demo"), DEMO)
    ledger.assert_kept(kept, found)


def test_the_queue_dies_five_times(state: Path) -> None:
    """While it is away smtpd keeps its clients waiting: none is told anything but the truth, none is cut off."""
    with running(Stack(state, environment=SCALED)) as stack:
        kept = asyncio.run(load(stack, 2_000, ["queue-0"] * 5))
        reckon(stack, kept)
        assert not kept.of(Fate.UNKNOWN), kept.summary()
        assert len(kept.of(Fate.ACCEPTED)) >= 1_900, kept.summary()


def test_everything_else_dies_as_well(state: Path) -> None:
    deaths = ["smtpd-0", "local-0", "queue-0", "remote-0", "pop3-0", "local-0", "smtpd-0"]
    with running(Stack(state, environment=SCALED)) as stack:
        kept = asyncio.run(load(stack, 800, deaths))
        reckon(stack, kept)
        assert len(kept.of(Fate.ACCEPTED)) >= 700, kept.summary()
        # Ten connections, each with one message at its dot, break at each of the two deaths of smtpd.
        assert len(kept.of(Fate.UNKNOWN)) <= 20, kept.summary()


def test_a_neighbour_takes_the_log_of_a_dead_queue(state: Path) -> None:
    """Two replicas; one is killed four times, and the other goes on taking mail meanwhile."""
    with running(Stack(state, environment=SCALED, replicas="queue=2")) as stack:
        kept = asyncio.run(load(stack, 600, ["queue-0", "queue-1", "queue-0", "queue-0"]))
        reckon(stack, kept)
        assert len(kept.of(Fate.ACCEPTED)) >= 500, kept.summary()


def test_redis_forgets_everything_and_dies(state: Path) -> None:
    """FLUSHALL, kill -9, a queue killed while Redis is empty: leases were only ever a hint."""
    with running(Stack(state, environment=SCALED)) as stack:
        flush(stack)
        kept = asyncio.run(load(stack, 300, ["queue-0", "queue-0"]))
        flush(stack)
        stack.kill("redis-0")
        reckon(stack, kept)
        taken = [event["token"] for event in stack.events("queue") if event["event"] == "took log"]
        assert taken == sorted(set(taken)), "tokens only ever grow"
        assert len(taken) == 3


def flush(stack: Stack) -> None:
    """FLUSHALL, as the operator's user of Redis may."""
    said = (stack.directory / "run" / "redis-0.conf").read_text().splitlines()
    where = next(line.split()[1] for line in said if line.startswith("port "))
    password = (stack.directory / "tls" / "cli" / "redis-password").read_text().strip()
    with redis.Redis(port=int(where), username="cli", password=password) as client:
        assert client.flushall()
