"""Blocks of the disk that do not read any more: under a frame, under a footer, under a large body, under the seal.

The device of tests/harness/blocks.py answers EIO for a block of 4 KiB; the kernel may read more of the file at once,
and then refuses all that. What stood in that segment may be lost or stay undelivered, with an alert; everything else is
delivered, and the queue starts again and again.
"""

import asyncio
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.harness import segments, volume
from tests.harness.blocks import Recording, RecordingDevice
from tests.harness.mailroom import Mailroom, Work
from tests.harness.office import Office, Place
from tests.harness.reckoning import Reckoning, Told
from tests.harness.volume import Volume

BLOCK = 4096
SEGMENT_OCTETS = 32 * 1024
IMAGE_OCTETS = 32 << 20

pytestmark = pytest.mark.timeout(120)


@dataclass
class Disk:
    """An image with a spool, what was told of it, and of some places the block and the messages that it concerns."""

    image: bytes
    told: Told
    places: dict[str, tuple[range, frozenset[str]]]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    if lacking := volume.missing_part("ext4"):
        missing(*lacking)
    if not Path("/dev/fuse").exists():
        missing("/dev/fuse", "modprobe fuse")
    with volume.in_memory(tmp_path / "memory", "size=512m") as point:
        yield point


def place_in(point: Path) -> Place:
    return Place(str(point / "spool"), str(point / "Maildir"), segment_octets=SEGMENT_OCTETS)


def fill(memory: Path) -> Disk:
    """Two owners one after the other, the last of which has just died."""
    home = Volume.make("ext4", memory / "image", memory / "mount", IMAGE_OCTETS, ("-b", str(BLOCK), "-J", "size=4"))
    told = Told()

    async def live(seed: int, work: Work) -> None:
        office = Office(place_in(home.point))
        office.open()
        await Mailroom(office, work, lambda *said: told.learn([list(said)]), random.Random(seed)).run()
        await office.close()

    found: dict[str, tuple[bytes, frozenset[str]]] = {}
    with home.mounted():
        Path(place_in(home.point).spool).mkdir()
        asyncio.run(live(0, Work(80)))
        asyncio.run(live(1, Work(12, large_every=4, new_mail=90)))
        [log] = Path(place_in(home.point).spool, "logs").iterdir()
        for segment in segments.read(log):
            octets = segment.path.read_bytes()
            for region in segment.regions:
                kind = f"{region.what}{' of a full segment' if segment.is_full else ''}"
                start = region.start - region.start % BLOCK
                if region.start < segment.counts:
                    found[kind] = (octets[start : start + BLOCK], segment.ids())
        for large in (log / "large").iterdir():
            found["large body"] = (large.read_bytes()[BLOCK : 2 * BLOCK], frozenset({large.name.partition("-")[0]}))
    image = home.image.read_bytes()
    return Disk(image, told, {kind: (_where(image, octets), ids) for kind, (octets, ids) in found.items()})


def _where(image: bytes, octets: bytes) -> range:
    at = image.find(octets.ljust(BLOCK, b"\0"))
    assert at >= 0, "a file's block stands on the disk as it is"
    assert at % BLOCK == 0
    return range(at, at + BLOCK)


def test_a_block_that_does_not_read_costs_what_stood_there(memory: Path) -> None:
    disk = fill(memory)
    assert {"seal fields", "frame body", "footer body of a full segment", "large body"} <= set(disk.places)
    for kind in (
        "seal fields",
        "frame body",
        "frame body of a full segment",
        "footer body of a full segment",
        "large body",
    ):
        bad, hit = disk.places[kind]
        device = RecordingDevice(Recording(disk.image), memory / f"device-{kind.replace(' ', '-')}")
        device.bad.append(bad)
        with device.mounted() as there:
            here = Volume("ext4", there / "disk", memory / "mount")
            with here.mounted():
                reckoning = Reckoning(place_in(here.point), copy.deepcopy(disk.told), hit=hit, scrub=True)
                reckoning.look()
                alerts = list(reckoning.alerts)
                reckoning.finish()
        assert not reckoning.broken, (kind, reckoning.broken[:5])
        assert alerts, f"nobody was told of a bad {kind}"
