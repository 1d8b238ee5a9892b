"""The scrub: what the disk has changed is found, told once with the messages concerned, and copied aside."""

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mail.routing import RoutingTable
from runtime.clock import SystemChance, SystemClock
from runtime.events import Events
from services.queue import scrub
from services.queue.bounce import BounceRules
from services.queue.commit import Commits
from services.queue.frame import HEADER_OCTETS
from services.queue.index import Index
from services.queue.ledger import Ledger
from services.queue.names import Position, SegmentName
from services.queue.rules import Rules
from services.queue.scrub import SLICE_OCTETS, STRETCHES_MAX, Count, Scrub
from tests.harness.yard import Yard, accepted, an_id

RULES = Rules(
    routing=RoutingTable(frozenset({"here.example"}), {}, frozenset(), "here.example"),
    bounce=BounceRules("MAILER-DAEMON", "here.example", "postmaster@here.example"),
    lifetime_s=604_800,
    scale=1.0,
)
BODY = b"0123456789abcdef" * 256


class Library:
    """A log with messages in several segments, its index, and a scrub of it."""

    def __init__(self, yard: Yard, said: Callable[[], str]) -> None:
        yard.segment_octets = 32 * 1024
        self.yard, self.log, self.index = yard, yard.create(), Index()
        self.events = Events("queue-0", SystemClock(), "json")
        self.scrub = Scrub(yard.spool, self.events, SystemClock(), SystemChance())
        self.where: dict[int, Position] = {}
        self._said = said

    def put(self, number: int, body: bytes = BODY) -> None:
        said = accepted(number, body)
        [at] = self.log.append([said])
        self.index.learn(said, at)
        self.where[number] = at

    def put_large(self, number: int, body: bytes) -> str:
        name = self.log.store_large(an_id(number), body)
        said = replace(accepted(number, b""), large=name, size=len(body))
        [at] = self.log.append([said])
        self.index.learn(said, at)
        return name

    def flip(self, segment: SegmentName, offset: int) -> None:
        flip(Path(self.log.path) / str(segment), offset)

    async def read(self) -> Count:
        return await self.scrub.scrub(self.log, self.index)

    def alerts(self) -> list[dict[str, Any]]:
        self.events.flush()
        return [one for one in map(json.loads, self._said().splitlines()) if one["event"] == "alert"]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        [octet] = file.read(1)
        file.seek(offset)
        file.write(bytes([octet ^ 0x10]))


@pytest.fixture
def library(yard: Yard, capfd: pytest.CaptureFixture[str]) -> Library:
    return Library(yard, lambda: capfd.readouterr().out)


async def test_a_sound_log_is_read_whole_and_nothing_is_told(library: Library) -> None:
    for number in range(30):
        library.put(number)
    name = library.put_large(99, b"large" * 1_000_000)
    assert len(library.log.segments) > 2
    count = await library.read()
    assert count.files == len(library.log.segments) + 1
    assert count.octets == sum(library.log.segments.values()) + os.path.getsize(f"{library.log.path}/large/{name}")
    assert (count.damaged, library.alerts()) == (0, [])


@pytest.mark.parametrize("region", ["header", "fields", "body", "trailer"])
async def test_one_flipped_bit_of_a_frame_is_found_with_its_message(library: Library, region: str) -> None:
    for number in range(12):
        library.put(number)
    at = library.where[5]
    start = at.fields.offset - HEADER_OCTETS - 9
    offset = {
        "header": start + 7,
        "fields": at.fields.offset,
        "body": at.body.offset + 100,
        "trailer": at.body.offset + at.body_octets + 1,
    }[region]
    library.flip(at.segment, offset)
    assert (await library.read()).damaged == 1
    [alert] = library.alerts()
    assert (alert["file"], alert["offset"], alert["messages"]) == (str(at.segment), start, [an_id(5)])
    [copy] = os.listdir(f"{library.yard.spool.path}/quarantine")
    assert copy == f"{library.log.name.log}-{at.segment}-{start}.scrubbed"
    assert len((Path(library.yard.spool.path) / "quarantine" / copy).read_bytes()) >= at.body_octets


async def test_damage_is_told_once_and_counted_every_time(library: Library) -> None:
    for number in range(3):
        library.put(number)
    library.flip(library.where[1].segment, library.where[1].body.offset)
    assert [(await library.read()).damaged for _ in range(3)] == [1, 1, 1]
    assert len(library.alerts()) == 1
    library.flip(library.where[2].segment, library.where[2].body.offset)
    await library.read()
    [alert] = library.alerts()
    assert an_id(2) in alert["messages"]


async def test_the_last_frame_and_one_that_is_cut_off_are_found(library: Library) -> None:
    for number in range(3):
        library.put(number)
    at = library.where[2]
    os.truncate(f"{library.log.path}/{at.segment}", at.body.offset + 10)
    await library.read()
    [alert] = library.alerts()
    assert alert["messages"] == [an_id(2)]


async def test_a_segment_that_is_damaged_all_over_is_told_in_few_words(library: Library) -> None:
    library.yard.segment_octets = library.log.segment_octets = 1024 * 1024
    for number in range(4 * STRETCHES_MAX):
        library.put(number, b"short\n")
    for number in range(1, 4 * STRETCHES_MAX, 2):
        library.flip(library.where[number].segment, library.where[number].body.offset)
    await library.read()
    alerts = library.alerts()
    assert len(alerts) == STRETCHES_MAX + 1
    named = {one for alert in alerts for one in alert["messages"]}
    assert {an_id(number) for number in range(1, 4 * STRETCHES_MAX, 2)} <= named


async def test_a_segment_or_large_body_that_is_missing_is_damage(library: Library) -> None:
    for number in range(12):
        library.put(number)
    name = library.put_large(50, b"x" * 2_000_000)
    oldest = next(iter(library.log.segments))
    os.unlink(f"{library.log.path}/{oldest}")
    os.unlink(f"{library.log.path}/large/{name}")
    assert (await library.read()).damaged == 2
    by_file = {alert["file"]: alert["messages"] for alert in library.alerts()}
    assert by_file[f"large/{name}"] == [an_id(50)]
    assert an_id(0) in by_file[str(oldest)]


async def test_a_large_body_is_checked_by_its_hash_and_told_with_its_forwards(library: Library) -> None:
    name = library.put_large(1, b"y" * (2 * SLICE_OCTETS + 5))
    said = replace(accepted(2, b"Delivered-To: x\n"), large=name)
    library.index.learn(said, library.log.append([said])[0])
    library.put(3)
    assert name.endswith(hashlib.sha256(b"y" * (2 * SLICE_OCTETS + 5)).hexdigest())
    flip(Path(library.log.path) / "large" / name, SLICE_OCTETS + 3)
    await library.read()
    [alert] = library.alerts()
    assert sorted(alert["messages"]) == [an_id(1), an_id(2)]


async def test_what_is_beyond_the_length_that_counts_is_not_looked_at(library: Library) -> None:
    library.put(1)
    with open(f"{library.log.path}/{library.log.current}", "r+b") as file:
        file.seek(library.log.segments[library.log.current])
        file.write(b"a frame that is being written, or that a former owner wrote too late")
    assert (await library.read()).damaged == 0


async def test_a_log_that_was_taken_meanwhile_is_not_called_damaged(library: Library) -> None:
    library.put(1)
    os.rename(library.log.path, f"{library.log.path}-elsewhere")
    assert (await library.read()).damaged == 0
    assert library.alerts() == []


async def test_a_segment_that_is_reclaimed_meanwhile_is_not_called_damaged(library: Library) -> None:
    for number in range(12):
        library.put(number)

    class Reclaimed(dict[SegmentName, int]):
        """The oldest segment goes when the scrub has just looked at what there is."""

        def items(self) -> Any:
            seen = list(super().items())
            library.log.remove_segment(seen[0][0])
            return seen

    library.log.segments = Reclaimed(library.log.segments)
    assert (await library.read()).damaged == 0
    assert library.alerts() == []


async def test_nor_is_one_whose_removal_is_not_over(library: Library) -> None:
    """It is gone from the disk, and still counts until the directory is synced."""
    for number in range(12):
        library.put(number)
    oldest = next(iter(library.log.segments))
    os.unlink(f"{library.log.path}/{oldest}")

    async def removal_is_over() -> None:
        del library.log.segments[oldest]

    await library.scrub.scrub(library.log, library.index, removal_is_over)
    assert library.alerts() == []


async def test_reading_keeps_to_its_rate(library: Library) -> None:
    """By the clock that it is given: no slice is read before its time has come."""
    library.put_large(1, b"z" * (3 * SLICE_OCTETS))
    moments: list[float] = []

    class Counting(SystemClock):
        def monotonic(self) -> float:
            moments.append(super().monotonic())
            return moments[-1]

    scrub = Scrub(library.yard.spool, library.events, Counting(), SystemChance())
    scrub.octets_a_second = 10 * SLICE_OCTETS
    count = await scrub.scrub(library.log, library.index)
    began, *_, ended = moments
    assert count.octets >= 3 * SLICE_OCTETS
    assert ended - began >= 0.2


async def test_every_log_of_ours_is_read_again_and_again(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "EVERY_MIN_S", 0.01)
    library.put(1)
    again, failures = asyncio.Semaphore(0), list[Exception]()

    class Counting(Events):
        def scrubbed(self, log: str, files: int, octets: int, damaged: int) -> None:
            assert (log, files, damaged) == (library.log.name.log, 1, 0)
            again.release()

    events = Counting("queue-0", SystemClock(), "json")
    ledger = Ledger(
        library.log, library.index, Commits(library.log, failures.append), RULES, lambda message, error: None
    )
    reading = Scrub(library.yard.spool, events, SystemClock(0.000_01), SystemChance()).keep(
        {library.log.name.log: ledger}
    )
    task = asyncio.create_task(reading)
    for _ in range(3):
        await again.acquire()
    task.cancel()
    ledger.commits.close()
