"""Bits that flip, files that shrink, grow, change places or vanish: each region of each kind of segment is hit once.

What is hit may be lost or stay undelivered, with an alert; everything else is as if nothing had happened, no message is
ever delivered altered or twice, and the queue always starts. FAULT_ALL=1 hits many more places.
"""

import asyncio
import copy
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.config import ConfigError
from services.queue import frame, records
from services.queue.message import Message
from services.queue.names import parse_segment_name
from tests.harness import segments
from tests.harness.mailroom import Mailroom, Work
from tests.harness.office import DELIVERED, Office, Place, destiny
from tests.harness.reckoning import Reckoning, Told
from tests.harness.segments import Region, Segment
from tests.harness.volume import quick_folder

ALL = os.environ.get("FAULT_ALL") == "1"
FLIPS_EACH = 12 if ALL else 1
STEPS = 70
SEGMENT_OCTETS = 24 * 1024

pytestmark = pytest.mark.timeout(3_600 if ALL else 120)


@dataclass
class Site:
    """A spool and a Maildir as some lives left them; `copy` gives one that may be damaged."""

    place: Place
    told: Told

    @property
    def log(self) -> Path:
        [log] = Path(self.place.spool, "logs").iterdir()
        return log

    def copy(self, directory: Path) -> "Site":
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        there = []
        for source in (self.place.spool, self.place.maildir):
            shutil.copytree(source, directory / Path(source).name)
            there.append(str(directory / Path(source).name))
        return Site(Place(there[0], there[1], segment_octets=SEGMENT_OCTETS), copy.deepcopy(self.told))

    def reckon(self, hit: frozenset[str]) -> Reckoning:
        """Starts the queue on it twice, scrubs, delivers what it can."""
        first = Reckoning(self.place, self.told, hit=hit, scrub=True)
        first.look()
        second = Reckoning(self.place, self.told, hit=hit, scrub=True)
        second.finish()
        second.broken[:0] = first.broken
        second.alerts[:0] = first.alerts
        return second

    def set_aside(self) -> list[str]:
        return os.listdir(Path(self.place.spool, "quarantine"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Some owners one after the other, the last of which has just died: full segments and sealed ones, bodies within
    and beside them, snapshots, tombstones."""
    with quick_folder(tmp_path_factory.mktemp("site")) as directory:
        place = Place(str(directory / "spool"), str(directory / "Maildir"), segment_octets=SEGMENT_OCTETS)
        Path(place.spool).mkdir()
        found = Site(place, Told())
        for seed in range(3):
            asyncio.run(live(found, Work(STEPS), seed))
        asyncio.run(live(found, Work(12, large_every=3, octets_max=500, new_mail=90), 4))
        yield found


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Where a copy of the site may be damaged."""
    with quick_folder(tmp_path) as found:
        yield found


async def live(site: Site, work: Work, seed: int) -> None:
    """One life of the office there."""
    office = Office(site.place)
    office.open()
    await Mailroom(office, work, lambda *said: site.told.learn([list(said)]), random.Random(seed)).run()
    await office.close()


def flip(path: Path, start: int, end: int, dice: random.Random) -> None:
    with path.open("r+b") as file:
        at = dice.randrange(start, end)
        file.seek(at)
        [octet] = file.read(1)
        file.seek(at)
        file.write(bytes([octet ^ 1 << dice.randrange(8)]))


def hit_by(region: Region, segment: Segment) -> frozenset[str]:
    """Whom a flip in a region may concern. A full segment is read by its footer: then it is the one record."""
    if region.start >= segment.counts:
        return frozenset()
    return region.own if segment.is_full else region.ids


def chosen_regions(site: Site) -> Iterator[tuple[Segment, Region]]:
    """Some of each kind, in full segments and in others."""
    by_kind: dict[tuple[str, bool, bool], list[tuple[Segment, Region]]] = {}
    for segment in segments.read(site.log):
        for region in segment.regions:
            kind = (region.what, segment.is_full, region.start < segment.counts)
            by_kind.setdefault(kind, []).append((segment, region))
    kinds = {what for what, _, _ in by_kind}
    assert {"seal place", "seal fields", "footer body", "frame body", "frame fields", "frame crc"} <= kinds
    for kind, found in sorted(by_kind.items()):
        yield from random.Random(str(kind)).sample(found, min(FLIPS_EACH, len(found)))


def test_a_flipped_bit_costs_at_most_what_it_hit(site: Site, memory: Path) -> None:
    dice = random.Random(7)
    for segment, region in chosen_regions(site):
        damaged = site.copy(memory / "copy")
        flip(damaged.log / segment.path.name, region.start, region.end, dice)
        reckoning = damaged.reckon(hit_by(region, segment))
        where = f"{region.what} of {segment.path.name} at {region.start}, full: {segment.is_full}"
        assert not reckoning.broken, (where, reckoning.broken[:5])
        if region.start < segment.counts:
            assert reckoning.alerts or reckoning.torn or damaged.set_aside(), f"nobody was told: {where}"


Damage = Callable[[Path, Segment], None]


def cut_in_a_frame(path: Path, segment: Segment) -> None:
    os.truncate(path, segment.ends[len(segment.ends) // 2] - 7)


def cut_between_frames(path: Path, segment: Segment) -> None:
    os.truncate(path, segment.ends[len(segment.ends) // 2])


def cut_to_nothing(path: Path, segment: Segment) -> None:
    os.truncate(path, 0)


def zeros_in_the_middle(path: Path, segment: Segment) -> None:
    with path.open("r+b") as file:
        file.seek(segment.ends[len(segment.ends) // 2] - 7)
        file.write(bytes(segment.ends[-1] - file.tell()))


def remove(path: Path, segment: Segment) -> None:
    path.unlink()


LOSSES: dict[Damage, Callable[[Segment], int]] = {
    cut_in_a_frame: lambda segment: segment.ends[len(segment.ends) // 2] - 7,
    cut_between_frames: lambda segment: segment.ends[len(segment.ends) // 2],
    cut_to_nothing: lambda segment: 0,
    zeros_in_the_middle: lambda segment: segment.ends[len(segment.ends) // 2] - 7,
    remove: lambda segment: 0,
}


@pytest.mark.parametrize("damage", LOSSES, ids=lambda damage: damage.__name__)
def test_a_segment_that_lost_something_costs_what_stood_there(site: Site, memory: Path, damage: Damage) -> None:
    found = segments.read(site.log)
    for segment in found if ALL else found[:2] + found[-3:]:
        damaged = site.copy(memory / "copy")
        damage(damaged.log / segment.path.name, segment)
        hit = segment.ids(LOSSES[damage](segment))
        reckoning = damaged.reckon(hit)
        assert not reckoning.broken, (segment.path.name, reckoning.broken[:5])
        # The last segment of a dead owner has no length that anybody could know.
        # The oldest one that is gone may have been reclaimed.
        if hit and segment is not found[-1] and (damage is not remove or segment is not found[0]):
            assert reckoning.alerts, f"nobody was told of {segment.path.name}"


def junk_behind(path: Path, segment: Segment) -> None:
    with path.open("ab") as file:
        file.write(b"junk" * 5_000)


def zeros_behind(path: Path, segment: Segment) -> None:
    os.truncate(path, path.stat().st_size + 100_000)


def twice_in_one_file(path: Path, segment: Segment) -> None:
    octets = path.read_bytes()
    path.write_bytes(octets[: segment.ends[-1]] + octets)


def under_a_later_name(path: Path, segment: Segment) -> None:
    token, _, number = path.stem.partition("-")
    shutil.copy(path, path.with_name(f"{token}-{int(number) + 500:06}.seg"))


def under_a_later_token(path: Path, segment: Segment) -> None:
    shutil.copy(path, path.with_name(f"{900:010}-000001.seg"))


@pytest.mark.parametrize(
    "damage",
    [junk_behind, zeros_behind, twice_in_one_file, under_a_later_name, under_a_later_token],
    ids=lambda damage: damage.__name__,
)
def test_what_does_not_belong_there_changes_nothing(site: Site, memory: Path, damage: Damage) -> None:
    found = segments.read(site.log)
    for segment in found if ALL else found[:2] + found[-3:]:
        damaged = site.copy(memory / "copy")
        damage(damaged.log / segment.path.name, segment)
        reckoning = damaged.reckon(frozenset())
        assert not reckoning.broken, (segment.path.name, reckoning.broken[:5])


def test_two_segments_that_changed_places_are_damage(site: Site, memory: Path) -> None:
    found = segments.read(site.log)
    first, second = found[0], found[-1]
    damaged = site.copy(memory / "copy")
    one, other = damaged.log / first.path.name, damaged.log / second.path.name
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    reckoning = damaged.reckon(first.ids() | second.ids())
    assert not reckoning.broken, reckoning.broken[:5]
    assert reckoning.alerts


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone", "directory", "link", "pipe"])
def test_a_large_body_that_is_damaged_is_not_delivered(site: Site, memory: Path, how: str) -> None:
    damaged = site.copy(memory / "copy")
    body = sorted((damaged.log / "large").iterdir())[0]
    if how == "flip":
        flip(body, 0, body.stat().st_size, random.Random(1))
    elif how in ("cut", "empty"):
        os.truncate(body, body.stat().st_size - 1 if how == "cut" else 0)
    else:
        body.rename(memory / "elsewhere")
        if how == "directory":
            body.mkdir()
        elif how == "pipe":
            os.mkfifo(body)
        elif how == "link":
            flip(memory / "elsewhere", 0, 1, random.Random(1))
            body.symlink_to(memory / "elsewhere")
    hit = frozenset({body.name.partition("-")[0]})
    reckoning = damaged.reckon(hit)
    assert not reckoning.broken, reckoning.broken[:5]
    assert reckoning.alerts


def is_to_be_delivered(message: Message) -> bool:
    """Whether some recipient of it ends with a copy: others could be settled without the body."""
    may_forward = not message.parent
    return any(
        not one.settled and destiny(message.id, number, may_forward)[1] == DELIVERED
        for number, one in enumerate(message.recipients)
    )


def test_damage_below_a_running_queue_stops_nobody(site: Site, memory: Path) -> None:
    """A body is damaged while the queue has it open: the others go on, and its segment is reclaimed in its turn."""
    damaged = site.copy(memory / "copy")

    async def run() -> tuple[list[str], str]:
        office = Office(damaged.place)
        office.open()
        waiting = [one for one in office.messages() if not one.large and is_to_be_delivered(one)]
        victim = min(waiting, key=lambda one: one.position.body.octets)
        segment, span = victim.position.segment, victim.position.body
        flip(damaged.log / str(segment), span.offset, span.offset + span.octets, random.Random(1))
        for mail in (45, 0):
            work = Work(STEPS * 2, new_mail=mail)
            await Mailroom(office, work, lambda *said: damaged.told.learn([list(said)]), random.Random(9)).run()
        await office.scrub()
        while await office.tidy():
            pass
        assert segment not in office.ledger.log.segments, "what is damaged does not keep its segment"
        assert office.message(victim.id), "and is kept itself"
        await office.close()
        return office.events.alerts, victim.id

    alerts, hit = asyncio.run(run())
    assert alerts
    reckoning = damaged.reckon(frozenset({hit}))
    assert not reckoning.broken, reckoning.broken[:5]


@pytest.mark.parametrize("text", ["", "seapost", "seapost spool 1\n", "garbage\n" * 200, "seapost spool 2\ncluster 0"])
def test_a_damaged_format_file_is_refused_in_words(site: Site, memory: Path, text: str) -> None:
    damaged = site.copy(memory / "copy")
    marker = Path(damaged.place.spool, "FORMAT")
    marker.chmod(0o600)
    marker.write_text(text)
    with pytest.raises(ConfigError) as refused:
        Office(damaged.place).open()
    assert "FORMAT" in refused.value.mistakes[0]
    assert damaged.log.name == site.log.name, "nothing was touched"


def test_a_log_that_a_newer_version_has_written_is_left_to_it(site: Site, memory: Path) -> None:
    """A record of a kind that nobody here knows is no damage: nothing is cut, skipped or delivered, however often."""
    damaged = site.copy(memory / "copy")
    last = segments.read(damaged.log)[-1]
    name = parse_segment_name(last.path.name)
    assert name
    place = frame.Place(int(damaged.log.name.partition(".")[0], 16), name.token, name.number, last.ends[-1])
    octets = b"".join(frame.encode(place, 1 << 40, [frame.Record(77, b"from the future")])[0])
    with last.path.open("r+b") as file:
        file.seek(last.ends[-1])
        file.write(octets)
    for _ in range(3):
        with pytest.raises(records.UnknownRecord):
            Office(damaged.place).open()
    assert not damaged.set_aside()
    with (damaged.log / last.path.name).open("r+b") as file:  # the newer version has been here, and is done
        file.seek(last.ends[-1])
        file.write(bytes(len(octets)))
    reckoning = damaged.reckon(frozenset())
    assert not reckoning.broken, reckoning.broken[:5]


def test_lost_tokens_cost_nothing(site: Site, memory: Path) -> None:
    damaged = site.copy(memory / "copy")
    for token in Path(damaged.place.spool, "tokens").iterdir():
        token.unlink()
    reckoning = damaged.reckon(frozenset())
    assert not reckoning.broken, reckoning.broken[:5]


def test_a_log_whose_name_is_damaged_is_left_alone_and_found_again(site: Site, memory: Path) -> None:
    """With a name that is none its mail is not there, and nobody touches it; with its name it is all there."""
    damaged = site.copy(memory / "copy")
    name = damaged.log.name
    lost = damaged.log.rename(damaged.log.with_name(f"{name[:-8]}{chr(ord(name[-8]) ^ 0x20)}{name[-7:]}!"))

    async def start() -> list[str]:
        office = Office(damaged.place)
        office.open()
        _, foreign = office.spool.logs()
        await office.close()
        return foreign

    before = sorted((path.name, path.stat().st_size) for path in lost.iterdir())
    assert asyncio.run(start()) == [lost.name]
    assert sorted((path.name, path.stat().st_size) for path in lost.iterdir()) == before
    shutil.rmtree(next(path for path in lost.parent.iterdir() if path != lost))
    lost.rename(lost.with_name(name))
    reckoning = damaged.reckon(frozenset())
    assert not reckoning.broken, reckoning.broken[:5]
