"""A spool without room, in blocks and in inodes: new mail is told to come later, what was taken is delivered once.

Small volumes of their own hold the spool; somebody fills them to the last octet while mail is queued, the queue dies
and starts on the full disk, and when the room comes back everything goes on by itself.
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.harness import ledger, volume
from tests.harness.ledger import Fate, Ledger, Round
from tests.harness.maildir import Parcel
from tests.harness.stack import MAIL_NAME, Stack, patience, running
from tests.harness.traffic import DEMO, reckon
from tests.harness.volume import Volume

pytestmark = pytest.mark.timeout(240)

ALL = os.environ.get("FAULT_ALL") == "1"
SEGMENT_OCTETS = 1 << 20
# What is deferred stays so for two seconds, or until SIGALRM.
SETTINGS = {"TIME_SCALE": "0.02", "SPOOL_SEGMENT_OCTETS": str(SEGMENT_OCTETS)}
_PIECE_OCTETS = 1 << 16
FULL = "452 4.3.1"
# Less than are kept free: the queue sees the last ones go.
INODES = 1_400


@dataclass
class Filler:
    """Somebody else's files on the spool's volume."""

    directory: Path

    def take_blocks(self) -> None:
        """Every octet that is left, also those that only root may have."""
        with (self.directory / "filler").open("ab", buffering=0) as file:
            for octets in (_PIECE_OCTETS, 512, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\xff" * octets) == octets:
                        pass

    def take_inodes(self) -> None:
        """Every inode that is left."""
        (self.directory / "junk").mkdir(exist_ok=True)
        for number in itertools.count():
            try:
                (self.directory / "junk" / str(number)).touch()
            except OSError:
                return

    def give_back(self) -> None:
        for path in [self.directory / "filler", *self.directory.glob("junk/*")]:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def spool_on(state: Path, kind: str) -> Iterator[Stack]:
    """A prepared stack whose spool is a small volume of its own."""
    if lacking := volume.missing_part("ext4"):
        missing(*lacking)
    stack = Stack(state, environment=SETTINGS)
    stack.prepare()
    point = state / "spool"
    if kind == "ext4":
        with Volume.make("ext4", state / "image", point, 48 << 20).mounted():
            (point / "lost+found").rmdir()
            yield stack
    else:
        with volume.in_memory(point, "size=32m" if kind == "tmpfs" else f"size=512m,nr_inodes={INODES}"):
            yield stack


def send(stack: Stack, kept: Ledger, name: str, count: int) -> None:
    """So many messages; each gets the reply that it gets."""
    parcels = [Parcel.of_octets(f"{name}-{number}", 4_000) for number in range(count)]
    asyncio.run(ledger.send(Round(stack.ports["smtp"], parcels, (DEMO,), connections=4), kept))


def send_until_refused(stack: Stack, kept: Ledger) -> None:
    """The queue looks at its disk each second: mail that comes before it looked may still find room, or none."""
    for number, _ in enumerate(patience(60.0)):
        send(stack, kept, f"more-{number}", 1)
        if kept.of(Fate.REFUSED):
            return
    raise AssertionError(kept.summary())


def send_until_taken(stack: Stack, kept: Ledger) -> None:
    before = len(kept.of(Fate.ACCEPTED))
    for number, _ in enumerate(patience(60.0)):
        send(stack, kept, f"again-{number}", 1)
        if len(kept.of(Fate.ACCEPTED)) > before:
            return
    raise AssertionError(kept.summary())


def hold(stack: Stack, held: bool) -> None:
    """Deliveries to a sticky home are deferred (qmail-local(8)); after it everything is tried at once."""
    stack.home("demo").chmod(0o1700 if held else 0o700)
    if not held:
        stack.signal("queue-0", signal.SIGALRM)


def send_held(stack: Stack, kept: Ledger, count: int) -> None:
    """So many messages that are tried once and queued."""
    since = stack.mark()
    send(stack, kept, "queued", count)
    stack.said.wait(r"^queue-0: delivery .*deferral", since, count)


def deliver_all(stack: Stack) -> None:
    """Until nothing is queued: what is still being taken over does not hear the first call."""
    for _ in patience(90.0):
        hold(stack, False)
        if not stack.run("queue", "wait-idle", "--timeout", "2").returncode:
            return
    stack.wait_idle(1.0)


def delivered(stack: Stack) -> int:
    return len(list((stack.home("demo") / "Maildir" / "new").glob("*")))


FILLING: dict[str, Callable[[Filler], None]] = {
    "tmpfs": Filler.take_blocks,
    "ext4": Filler.take_blocks,
    "inodes": Filler.take_inodes,
}


@pytest.mark.parametrize("kind", ["ext4", "inodes"] + ["tmpfs"] * ALL)
def test_outcomes_are_recorded_on_a_full_disk_and_mail_comes_later(state: Path, kind: str) -> None:
    kept = Ledger()
    with spool_on(state, kind) as stack, running(stack):
        filler = Filler(state / "spool")
        hold(stack, True)
        send_held(stack, kept, 60)
        FILLING[kind](filler)
        send_until_refused(stack, kept)
        assert all(entry.reply.startswith(FULL) for entry in kept.of(Fate.REFUSED)), kept.of(Fate.REFUSED)[0].reply
        hold(stack, False)
        for _ in patience(60.0):
            if delivered(stack) > 8:
                break
        if kind != "inodes":  # without an inode for its token nobody takes a log
            since = stack.mark()
            stack.kill("queue-0")
            stack.wait_started("queue-0", since)
        deliver_all(stack)
        assert delivered(stack) == len(kept.of(Fate.ACCEPTED)), "every outcome is known on the full disk"
        filler.give_back()
        send_until_taken(stack, kept)
        reckon(stack, kept)
        assert stack.said.find(r"queue-0: alert: the spool is nearly full")
        assert not stack.said.find(r"^up: queue-0 ended"), "and it never died of it"


@pytest.mark.parametrize("kind", ["ext4"] + ["tmpfs", "inodes"] * ALL)
def test_a_queue_that_starts_on_a_full_disk_waits_and_says_so(state: Path, kind: str) -> None:
    """Not even the spare is there: nothing can be sealed before there is room."""
    kept = Ledger()
    with spool_on(state, kind) as stack:
        filler = Filler(state / "spool")
        with running(stack):
            hold(stack, True)
            send_held(stack, kept, 30)
        for spare in (state / "spool" / "logs").glob("*/spare*"):
            spare.unlink()
        FILLING[kind](filler)
        stack.launch()
        stack.said.wait(r"^queue-0: alert: .*(full|space|room)")
        filler.give_back()
        stack.said.wait(r"^ready ")
        deliver_all(stack)
        assert not stack.said.find(r"^queue-0: Traceback|^up: queue-0 (was )?ended"), "it waited, it did not die"
        send_until_taken(stack, kept)
        reckon(stack, kept)
        stack.stop()


def test_large_bodies_find_no_room_and_leave_nothing_behind(state: Path) -> None:
    """Room for the frames, none for a body beside them: told at once, and no part of it stays."""
    kept = Ledger()
    with spool_on(state, "tmpfs") as stack, running(stack):
        large = [Parcel.of_octets(f"large-{number}", 6 << 20) for number in range(8)]
        hold(stack, True)
        asyncio.run(ledger.send(Round(stack.ports["smtp"], large, (DEMO,), connections=4), kept))
        assert kept.of(Fate.REFUSED), kept.summary()
        assert all(entry.reply.startswith(FULL) for entry in kept.of(Fate.REFUSED)), kept.of(Fate.REFUSED)[0].reply
        deliver_all(stack)
        send_until_taken(stack, kept)
        reckon(stack, kept)
        for _ in patience(20.0):
            left = [path for path in (state / "spool" / "logs").glob("*/large/*") if os.path.exists(path)]
            if not left:
                return
        raise AssertionError(f"left behind: {left}")


def test_one_full_home_holds_up_nobody_else(state: Path) -> None:
    """4.2.2 is for the one whose disk is full, and only for now."""
    if lacking := volume.missing_part("ext4"):
        missing(*lacking)
    stack = Stack(state, ("demo", "away"), environment=SETTINGS)
    stack.prepare()
    kept = Ledger()
    home = stack.home("away")
    with volume.in_memory(home, f"size=1m,uid={home.stat().st_uid},gid={home.stat().st_gid},mode=700"), running(stack):
        filler = Filler(home)
        filler.take_blocks()
        parcels = [Parcel.of_octets(f"both-{number}", 2_000) for number in range(40)]
        both = (DEMO, f"away@{MAIL_NAME}")
        asyncio.run(ledger.send(Round(stack.ports["smtp"], parcels, both, connections=4), kept))
        for _ in patience(60.0):
            if delivered(stack) == len(parcels):
                break
        assert delivered(stack) == len(parcels)
        assert not list((home / "Maildir" / "new").glob("*"))
        filler.give_back()
        stack.signal("queue-0", signal.SIGALRM)
        reckon(stack, kept)
