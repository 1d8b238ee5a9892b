"""What a replica answers when it is offered a message or asked about one: refusals before, the truth after."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mail.limits import RECIPIENTS_MAX, SPOOLED_MAX_OCTETS
from mail.outcome import Kind
from mail.routing import Channel
from runtime.config import EXIT_IO, EXIT_TEMPORARY
from runtime.durable import Disk
from services.queue import store
from services.queue.commit import WAITING_MAX_OCTETS
from services.queue.index import ID_AHEAD_S, ID_OLDEST_S, Standing
from services.queue.log import INLINE_MAX_OCTETS
from services.queue.store import UNKNOWN
from services.queue.takeover import Taker
from tests.harness.replica import LOCAL, Replica, running

LARGE = b"x" * (INLINE_MAX_OCTETS + 1)
GIB = 1024**3
MIB = 1024**2


@pytest.fixture
def spool(tmp_path: Path) -> str:
    return str(tmp_path / "spool")


@pytest.fixture
async def replica(spool: str) -> AsyncIterator[Replica]:
    async with running(spool) as found:
        yield found


def take_away(replica: Replica) -> None:
    """Another owner takes the log, and the replica has not noticed yet."""
    taker = Taker(replica.spool, Disk(), "queue-9", replica.process.events, 64 * 1024)
    taker.take(replica.ledger.log.name, 0, lambda said, at: None).log.close()


# -- offered ----------------------------------------------------------------------------------------------------------


async def test_a_message_that_is_offered_again_is_one_message(replica: Replica) -> None:
    message = replica.an_id(1)
    assert list(await asyncio.gather(replica.accept(message), replica.accept(message))) == [None, None]
    assert await replica.accept(message) is None
    assert len(replica.events.of("new msg")) == 1
    assert len(replica.ledger.index) == 1


async def test_a_message_that_has_ended_is_not_taken_again(replica: Replica) -> None:
    message = replica.an_id(1)
    worker = replica.worker(Channel.LOCAL)
    await replica.accept(message)
    replica.report(worker, await replica.given(worker))
    await replica.acknowledged(worker)
    assert await replica.accept(message) is None
    assert message not in replica.ledger.index


async def test_what_a_lost_log_was_given_is_unknown_and_never_refused(replica: Replica) -> None:
    take_away(replica)
    message = replica.an_id(1)
    answers = await asyncio.gather(replica.accept(message), replica.accept(message))
    assert list(answers) == [UNKNOWN, UNKNOWN]
    assert replica.process.exit_status == EXIT_TEMPORARY
    assert not replica.store.ledgers


async def test_what_a_failed_disk_was_given_is_unknown_and_the_process_ends(spool: str) -> None:
    class Failing(Disk):
        fails = False

        def write_all(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
            if self.fails:
                raise OSError(5, "Input/output error")
            return super().write_all(fd, buffers)

    disk = Failing()
    replica = Replica(spool, disk=disk)
    await replica.start()
    disk.fails = True
    log = replica.log
    assert await replica.accept(replica.an_id(1)) == UNKNOWN
    assert replica.process.exit_status == EXIT_IO
    assert await replica.accept(replica.an_id(2), log=log) == store.NOT_HERE
    await replica.vanish()


async def test_a_log_that_is_not_here_takes_nothing(replica: Replica) -> None:
    assert await replica.accept(replica.an_id(1), log="ffffffff") == store.NOT_HERE


@pytest.mark.parametrize(
    ("age_s", "answer"),
    [(ID_OLDEST_S + 1, store.STALE), (ID_OLDEST_S - 60, None), (-ID_AHEAD_S - 1, store.STALE), (60 - ID_AHEAD_S, None)],
)
async def test_an_id_has_its_time(replica: Replica, age_s: float, answer: str | None) -> None:
    assert await replica.accept(replica.an_id(1, age_s)) == answer


async def test_a_replica_that_closes_takes_nothing(replica: Replica) -> None:
    log = replica.log
    replica.store.drain()
    assert replica.store.open_logs() == []
    assert await replica.accept(replica.an_id(1), log=log) == store.DRAINING


async def test_a_disk_that_is_slower_than_the_mail_is_told(replica: Replica) -> None:
    replica.ledger.commits.waiting_octets = WAITING_MAX_OCTETS + 1
    assert await replica.accept(replica.an_id(1)) == store.BUSY


@pytest.mark.parametrize(
    "to", [("a\n@here.example",), tuple(f"u{number}@here.example" for number in range(RECIPIENTS_MAX + 1))]
)
async def test_an_envelope_that_cannot_be_is_refused(replica: Replica, to: tuple[str, ...]) -> None:
    assert await replica.accept(replica.an_id(1), *to) == store.INVALID


async def test_a_body_has_a_limit(replica: Replica) -> None:
    assert await replica.accept(replica.an_id(1), body=bytes(SPOOLED_MAX_OCTETS + 1)) == store.INVALID


# -- room -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "free", "low"),
    [
        (100 * 1024 * GIB, 2 * GIB - MIB, True),
        (100 * 1024 * GIB, 2 * GIB + MIB, False),
        (20 * GIB, GIB - MIB, True),
        (20 * GIB, GIB + MIB, False),
        (2 * GIB, 255 * MIB, True),
        (2 * GIB, 257 * MIB, False),
        (100 * MIB, 49 * MIB, True),
        (100 * MIB, 51 * MIB, False),
    ],
)
async def test_new_mail_leaves_room_for_outcomes(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, octets: int, free: int, low: bool
) -> None:
    block = 4096
    blocks = (block, block, octets // block, free // block, free // block)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*blocks, 0, 0, 0, 0, 255)))
    replica.store.look_at_disk()
    assert await replica.accept(replica.an_id(1)) == (store.FULL if low else None)
    assert replica.ledger.cramped is low
    assert bool(replica.events.of("alert")) is low


@pytest.mark.parametrize(("inodes", "low"), [(999, True), (1_000, False)])
async def test_new_mail_leaves_inodes(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, inodes: int, low: bool
) -> None:
    room = (4096, 4096, 10**9, 10**9, 10**9)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*room, 10**6, inodes, inodes, 0, 255)))
    replica.store.look_at_disk()
    assert await replica.accept(replica.an_id(1)) == (store.FULL if low else None)


async def test_a_log_without_its_spare_takes_no_mail(spool: str) -> None:
    class Full(Disk):
        full = False

        def preallocate(self, fd: int, octets: int) -> None:
            if self.full:
                raise OSError(28, "No space left on device")
            super().preallocate(fd, octets)

    disk = Full()
    replica = Replica(spool, disk=disk)
    await replica.start()
    for full, answer in ((True, store.FULL), (False, None)):
        disk.full = full
        await replica.store.make_spares()
        replica.store.look_at_disk()
        assert await replica.accept(replica.an_id(1)) == answer
    await replica.vanish()


# -- asked ------------------------------------------------------------------------------------------------------------


async def test_who_does_not_own_the_log_knows_nothing(replica: Replica) -> None:
    assert await replica.resolve(replica.an_id(1), log="ffffffff") is None


async def test_a_committed_message_is_committed_also_when_it_has_ended(replica: Replica) -> None:
    message = replica.an_id(1)
    accepting = asyncio.ensure_future(replica.accept(message))
    await asyncio.sleep(0)
    assert await replica.resolve(message) is True, "its commit was under way"
    assert await accepting is None
    worker = replica.worker(Channel.LOCAL)
    replica.report(worker, await replica.given(worker))
    await replica.acknowledged(worker)
    assert await replica.resolve(message) is True


async def test_an_unknown_id_is_refused_with_a_tombstone_that_the_next_owner_knows(spool: str) -> None:
    async with running(spool) as first:
        message = first.an_id(1)
        assert await first.resolve(message) is False
        assert await first.resolve(message) is False
        assert await first.accept(message) == store.GONE
    async with running(spool) as second:
        assert second.standing(message) is Standing.REFUSED
        assert await second.accept(message) == store.GONE
        assert not len(second.ledger.index)


async def test_who_has_lost_the_log_refuses_nothing(replica: Replica) -> None:
    """However often it is asked while its tombstone is on the way: the new owner may have the message."""
    take_away(replica)
    message = replica.an_id(1)
    answers = await asyncio.gather(*(replica.resolve(message) for _ in range(3)), return_exceptions=True)
    assert answers == [None, None, None]


async def test_a_message_is_not_told_to_be_refused_before_its_tombstone_is_committed(replica: Replica) -> None:
    take_away(replica)
    message = replica.an_id(1)
    asked, offered = await asyncio.gather(replica.resolve(message), replica.accept(message))
    assert (asked, offered) == (None, UNKNOWN)


# -- taken over -------------------------------------------------------------------------------------------------------


async def test_a_large_body_that_nothing_names_goes_and_the_others_stay(spool: str) -> None:
    async with running(spool) as first:
        await first.accept(first.an_id(1), body=LARGE)
        orphan = first.ledger.log.store_large(first.an_id(2), LARGE)
    async with running(spool) as second:
        [message] = [second.ledger.index.get(one) for one in second.ledger.index.ids()]
        assert message is not None
        await second.resolve(second.an_id(3))  # in order behind the removal
        assert second.ledger.log.large_names() == [message.large]
        assert message.large != orphan
        assert second.ledger.body(message) == LARGE


async def test_a_failed_recipient_is_told_to_the_sender_in_the_frame_that_ends_the_message(spool: str) -> None:
    async with running(spool) as first:
        message = first.an_id(1)
        worker = first.worker(Channel.LOCAL)
        await first.accept(message, LOCAL)
        frames = first.ledger.log._sequence
        first.report(worker, await first.given(worker), Kind.FAILED)
        await first.acknowledged(worker)
        assert first.ledger.log._sequence == frames + 1
        assert message not in first.ledger.index
        assert len(first.ledger.index) == 1
