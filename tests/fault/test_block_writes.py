"""Every block that the kernel wrote as the last one: the images that a power cut may leave are rebuilt and recovered.

A device records each write and each flush while the queue and the deliveries work on ext4, and every promise between
them. Then a cut is tried behind any of them: with all that was written, and with only some of what was not flushed, in
blocks and in torn ones. FAULT_ALL=1 tries all moments, several times; otherwise some.
"""

import json
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.config import ConfigError
from runtime.durable import Disk
from tests.conftest import missing
from tests.harness import volume
from tests.harness.blocks import Flush, Recording, RecordingDevice
from tests.harness.mailroom import Work, live
from tests.harness.office import Place
from tests.harness.reckoning import Reckoning, Told
from tests.harness.volume import Volume

ALL = os.environ.get("FAULT_ALL") == "1"
MOMENTS_MAX = 100_000 if ALL else 45
STATES_EACH = 4 if ALL else 2  # the first is what was written, the others have lost something
LIVES = 3  # each takes the log of the one before
STEPS = 45
# Small, because every state is written anew; a journal of the least size that mkfs makes.
IMAGE_OCTETS = 24 << 20
MAKE = ("-b", "4096", "-J", "size=4")

pytestmark = pytest.mark.timeout(7_200 if ALL else 120)


class SyncsNoData(Disk):
    """Forgets one duty, to be found out."""

    def sync_data(self, fd: int) -> None:
        pass


class SyncsNoDirectory(Disk):
    """The same with another."""

    def sync_directory(self, path: str, dir_fd: int | None = None) -> None:
        pass

    def sync_file(self, fd: int) -> None:
        pass


class SyncsNoDrafts(Disk):
    """The same with a third: messages for a Maildir are elected before they are on the disk."""

    def sync_filesystem(self, fd: int) -> None:
        pass

    def sync_data(self, fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".seg"):
            super().sync_data(fd)


@dataclass
class Film:
    """What was recorded, and where its states are tried."""

    recording: Recording
    directory: Path

    def states(self, seed: int) -> "list[tuple[int, random.Random | None]]":
        dice = random.Random(seed)
        moments = self.recording.moments()
        chosen = sorted(dice.sample(moments, min(MOMENTS_MAX, len(moments))))
        each = range(STATES_EACH)
        return [(moment, random.Random(f"{moment}/{n}") if n else None) for moment in chosen for n in each]

    def broken(self, moment: int, dice: random.Random | None) -> list[str]:
        """What is wrong after a cut at that moment; [] when every promise is kept."""
        image = self.directory / "state"
        self.recording.image(image, moment, dice)
        told = Told()
        told.learn(map(json.loads, self.recording.marks(moment)))
        with Volume("ext4", image, self.directory / "mount").mounted() as here:
            place = place_in(here.point)
            if not Path(place.spool).exists():
                return []  # nothing was promised yet: the folder was made by hand, and nobody synced it
            reckoning = Reckoning(place, told)
            try:
                reckoning.finish(reader=moment % 2 == 0)
            except ConfigError as error:  # a spool that does not look like one
                return error.mistakes
        return reckoning.broken + reckoning.alerts


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: what stands on it as a loop device is synced at once."""
    if lacking := volume.missing_part("ext4"):
        missing(*lacking)
    if not Path("/dev/fuse").exists():
        missing("/dev/fuse", "modprobe fuse")
    with volume.in_memory(tmp_path / "memory", "size=512m") as point:
        yield point


def place_in(point: Path) -> Place:
    return Place(str(point / "spool"), str(point / "Maildir"), segment_octets=32 * 1024)


def film(directory: Path, disk: Callable[[], Disk]) -> Film:
    """Some lives of the office on a device that remembers."""
    home = Volume.make("ext4", directory / "image", directory / "mount", IMAGE_OCTETS, MAKE)
    recording = Recording(home.image.read_bytes())
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.harness.mailroom"])
    with RecordingDevice(recording, directory / "device").mounted() as device:
        home.image = device / "disk"
        with home.mounted():
            place = place_in(home.point)
            Path(place.spool).mkdir()
            for seed in range(LIVES):
                words = (place, Work(STEPS, large_every=25), seed, str(device / "marks"), disk())
                process = forks.Process(target=live, args=words)
                process.start()
                process.join(60)
                assert process.exitcode == 0
                process.close()
    return Film(recording, directory)


def test_no_promise_is_broken_behind_any_write(memory: Path) -> None:
    filmed = film(memory, Disk)
    assert sum(isinstance(entry, Flush) for entry in filmed.recording.entries) > LIVES * 10
    broken = {
        (moment, dice is not None): found for moment, dice in filmed.states(1) if (found := filmed.broken(moment, dice))
    }
    assert not broken, f"{len(broken)} states are broken, the first: {next(iter(broken.items()))}"


@pytest.mark.parametrize("disk", [SyncsNoData, SyncsNoDirectory, SyncsNoDrafts])
def test_a_missing_sync_is_found_out(memory: Path, disk: type[Disk]) -> None:
    """That the test above can fail: the same on a disk that leaves one kind of sync out."""
    filmed = film(memory, disk)
    states = filmed.states(2)
    random.Random(3).shuffle(states)
    assert any(filmed.broken(moment, dice) for moment, dice in states)
