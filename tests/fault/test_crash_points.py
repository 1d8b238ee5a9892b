"""Every name of runtime/faults.py: the process dies there, `up` starts it again, and every promise is kept.

A walk is a list of crash points of one service: its first process dies at the first, its second at the second, and so
on, while mail that reaches them comes in. A name that is in no walk, or that is never reached, fails.
"""

import asyncio
import poplib
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from runtime.faults import Point
from tests.harness import ledger, maildir
from tests.harness.ledger import Found, Ledger, Round
from tests.harness.maildir import Parcel
from tests.harness.sink import Sink
from tests.harness.stack import MAIL_NAME, PASSWORD, Stack, running

pytestmark = pytest.mark.timeout(240)

DEMO, AWAY, FAR = f"demo@{MAIL_NAME}", f"away@{MAIL_NAME}", "friend@far.example"
SCALE = {"TIME_SCALE": "0.002"}
SMALL_SEGMENTS = {"SPOOL_SEGMENT_OCTETS": "16384"}
REACHED_S = 60.0
# So many parcels are sent at most while a point is not reached; each takes some milliseconds.
_BATCHES_MAX = 400
_BATCH = 6
_LARGE_OCTETS = 1_200_000  # above what stands in a segment


@dataclass(frozen=True, slots=True)
class Walk:
    """The points at which an instance dies, life after life, each with the passing at which it does."""

    instance: str
    points: tuple[tuple[Point, int], ...]
    settings: tuple[tuple[str, str], ...] = ()
    large: bool = False  # every batch has a large parcel

    @property
    def crash_at(self) -> str:
        return ",".join(f"{self.instance}={point}:{passing}" for point, passing in self.points)


QUEUE_WALKS = {
    "accepting": Walk(
        "queue-0",
        (
            (Point.LOG_BEFORE_WRITE, 5),
            (Point.LOG_AFTER_WRITE, 5),
            (Point.LOG_AFTER_SYNC, 5),
            (Point.LOG_AFTER_RECHECK, 5),
        ),
    ),
    "telling": Walk(
        "queue-0",
        (
            (Point.INTAKE_BEFORE_RECEIPT, 4),
            (Point.DISPATCH_BEFORE_DELIVERY, 4),
            (Point.DISPATCH_BEFORE_ACK, 4),
        ),
    ),
    "taking over": Walk(
        "queue-0",
        (
            (Point.LOG_AFTER_SYNC, 8),
            (Point.TAKEOVER_AFTER_TOKEN, 1),
            (Point.TAKEOVER_AFTER_RENAME, 1),
            (Point.TAKEOVER_AFTER_SCAN, 1),
            (Point.TAKEOVER_AFTER_SEAL, 1),
        ),
    ),
    "segments": Walk(
        "queue-0",
        (
            (Point.SEGMENT_AFTER_CREATE, 3),
            (Point.SEGMENT_AFTER_FOOTER, 2),
            (Point.SPARE_AFTER_CREATE, 2),
            (Point.LARGE_AFTER_SYNC, 2),
            (Point.RECLAIM_AFTER_SNAPSHOT, 2),
            (Point.RECLAIM_AFTER_UNLINK, 2),
        ),
        settings=tuple(SMALL_SEGMENTS.items()),
        large=True,
    ),
}
SMTPD_WALK = Walk("smtpd-0", ((Point.SMTPD_BEFORE_ENQUEUE, 4), (Point.SMTPD_BEFORE_REPLY, 4)))
# A user's child dies at these, not its front: the next life of the front is the test's doing.
PUBLISH_WALK = Walk(
    "local-0",
    (
        (Point.PUBLISH_AFTER_WRITE, 3),
        (Point.PUBLISH_AFTER_LINK, 3),
        (Point.PUBLISH_BEFORE_RENAME, 3),
        (Point.PUBLISH_AFTER_RENAME, 3),
        (Point.PUBLISH_AFTER_SYNC, 3),
    ),
)
WORKER_WALK = Walk("local-0", ((Point.WORKER_BEFORE_OUTCOME, 3),))
REMOTE_WALK = Walk("remote-0", ((Point.REMOTE_BEFORE_DOT, 1), (Point.REMOTE_AFTER_DOT, 1)))
POP3_WALK = Walk("pop3-0", ((Point.POP3_BEFORE_UNLINK, 1), (Point.POP3_AFTER_UNLINK, 1)))
WALKS = (*QUEUE_WALKS.values(), SMTPD_WALK, PUBLISH_WALK, WORKER_WALK, REMOTE_WALK, POP3_WALK)


def test_every_point_is_in_a_walk() -> None:
    walked = {point for walk in WALKS for point, _ in walk.points}
    assert walked == set(Point), "a new crash point needs a walk here that reaches it"


@dataclass(slots=True)
class Traffic:
    """Mail for the accounts of a stack, and every reply to it."""

    stack: Stack
    kept: Ledger
    numbers: "count[int]"
    large: bool = False

    async def send(self, *recipients: str, number: int = _BATCH) -> None:
        """A batch of parcels for these recipients."""
        sizes = [2_000] * number + [_LARGE_OCTETS] * self.large
        parcels = [Parcel.of_octets(f"parcel-{next(self.numbers)}", octets) for octets in sizes]
        await ledger.send(Round(self.stack.ports["smtp"], parcels, recipients, connections=3), self.kept)

    async def until_reached(self, instance: str, point: Point, since: int) -> int:
        """Sends until the process dies at the point; the number of the line after it says so."""
        pattern = rf"^{instance}: crash point {point} reached"
        for _ in range(_BATCHES_MAX):
            if self.stack.said.find(pattern, since):
                break
            await self.send(DEMO)
        return await asyncio.to_thread(self.stack.said.after, pattern, since, REACHED_S)

    async def reckon(self) -> None:
        """Waits for the end of every delivery and holds every reply against what lies in the Maildirs."""
        await asyncio.to_thread(self.stack.wait_idle, 90.0)
        found = Found()
        for name in self.stack.accounts:
            found.look_into(self.stack.home(name), f"{name}@{MAIL_NAME}")
        ledger.assert_kept(self.kept, found)


def stack_for(state: Path, *walks: Walk, **controls: str) -> Stack:
    settings = dict(setting for walk in walks for setting in walk.settings)
    crashes = {"CRASH_AT": ",".join(walk.crash_at for walk in walks)}
    return Stack(state, ("demo", "away"), SCALE | settings | crashes, controls=controls)


@pytest.mark.parametrize("walk", QUEUE_WALKS.values(), ids=QUEUE_WALKS.keys())
async def test_the_queue_dies_at_each_of_its_points(state: Path, walk: Walk) -> None:
    """Some of its mail cannot be delivered meanwhile: that is what every take-over and every snapshot finds."""
    stack = stack_for(state, walk)
    with running(stack):
        home = stack.home("away")
        home.chmod(0o1700)  # qmail's sign for "I am working on my .qmail": later
        traffic = Traffic(stack, Ledger(), count(), walk.large)
        await traffic.send(AWAY, DEMO, number=3)
        line = 0
        for point, _ in walk.points:
            line = await traffic.until_reached(walk.instance, point, line)
        await asyncio.to_thread(stack.wait_started, walk.instance, line)
        await traffic.send(DEMO)
        assert not maildir.files(home), "the mail for this home was to wait"
        home.chmod(0o700)
        await traffic.reckon()
        assert len(maildir.files(home)) >= 3


async def test_smtpd_and_local_die_at_each_of_their_points(state: Path) -> None:
    stack = stack_for(state, SMTPD_WALK, WORKER_WALK)
    with running(stack):
        traffic = Traffic(stack, Ledger(), count())
        for walk in (SMTPD_WALK, WORKER_WALK):
            line = 0
            for point, _ in walk.points:
                line = await traffic.until_reached(walk.instance, point, line)
            await asyncio.to_thread(stack.wait_started, walk.instance, line)
        await traffic.send(DEMO)
        await traffic.reckon()


async def test_a_child_that_publishes_dies_at_each_point(state: Path) -> None:
    """And what it did publish has been read, and lies elsewhere, when the next attempt begins."""
    stack = stack_for(state, PUBLISH_WALK)
    with running(stack):
        traffic = Traffic(stack, Ledger(), count())
        line = 0
        with maildir.reading(stack.home("demo")):
            for point, _ in PUBLISH_WALK.points:
                line = await traffic.until_reached("local-0", point, line)
                await asyncio.to_thread(stack.kill, "local-0")
                await asyncio.to_thread(stack.wait_started, "local-0", line)
            await asyncio.to_thread(stack.wait_idle, 90.0)
        await traffic.reckon()


async def test_remote_dies_at_the_dot(state: Path, world: Sink) -> None:
    """Before it, the other host forgets the message: it gets it once. After it, window W3 is entered, and said so."""
    stack = stack_for(state, REMOTE_WALK, smtproutes=f"far.example:127.0.0.1:{world.port}\n")
    with running(stack):
        traffic = Traffic(stack, Ledger(), count())
        line = 0
        for point, _ in REMOTE_WALK.points:
            await traffic.send(FAR, number=1)
            line = await asyncio.to_thread(stack.said.after, f"crash point {point} reached", line, REACHED_S)
            await asyncio.to_thread(stack.wait_started, "remote-0", line)
        await asyncio.to_thread(stack.wait_idle, 90.0)
        before, after = (entry.name for entry in traffic.kept.entries)
        taken = [maildir.unpack(one.text) for one in world.taken]
        assert all(copy.whole for copy in taken)
        assert [copy.name for copy in taken].count(before) == 1
        assert [copy.name for copy in taken].count(after) in (1, 2)
        said = [event["window"] for event in stack.events() if event["event"] == "possible-duplicate"]
        assert "W3" in said


async def test_a_pop3_session_dies_at_quit(state: Path) -> None:
    """What was not deleted is still there; what was may be, for QUIT was not answered with +OK."""
    stack = stack_for(state, POP3_WALK)
    with running(stack):
        traffic = Traffic(stack, Ledger(), count())
        await traffic.send(DEMO, number=4)
        await asyncio.to_thread(stack.wait_idle)
        line, left = 0, 4
        for point, _ in POP3_WALK.points:
            kept = await asyncio.to_thread(delete_the_first, stack.ports["pop3"])
            line = await asyncio.to_thread(stack.said.after, f"crash point {point} reached", line, REACHED_S)
            found = {Path(copy.path).name.partition(":")[0] for copy in maildir.collect(stack.home("demo"))}
            assert kept <= found
            assert len(found) in (left, left - 1)
            left = len(found)
            await asyncio.to_thread(stack.kill, "pop3-0")
            await asyncio.to_thread(stack.wait_started, "pop3-0", line)
        assert all(copy.whole for copy in maildir.collect(stack.home("demo")))


def delete_the_first(port: int) -> set[str]:
    """A session that marks the first message and dies at QUIT; returns the names of the others."""
    client = poplib.POP3("127.0.0.1", port, timeout=60)
    client.user("demo")
    client.pass_(PASSWORD)
    names = [line.split()[1].decode() for line in client.uidl()[1]]
    client.dele(1)
    with pytest.raises((poplib.error_proto, OSError, EOFError)):
        client.quit()
    client.close()
    return set(names[1:])
