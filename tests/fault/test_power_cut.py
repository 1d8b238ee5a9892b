"""The power fails while the queue and the deliveries work, again and again, on real file systems (ext4, XFS).

The cut is the file system's own shutdown call: nothing unsynced reaches the disk, not even the journal. Every promise
that was told until then is held against what the next owner finds. FAULT_ALL=1 runs more of them.
"""

import json
import multiprocessing
import os
import random
import select
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import missing
from tests.harness import volume
from tests.harness.mailroom import Work, live
from tests.harness.office import Place
from tests.harness.reckoning import Reckoning, Told
from tests.harness.volume import Volume

ALL = os.environ.get("FAULT_ALL") == "1"
SEEDS = range(16 if ALL else 1)
CYCLES = 9
LINES_MAX = 250  # told before the cut; a takeover tells two
JOIN_S = 30.0

pytestmark = [pytest.mark.timeout(120), pytest.mark.parametrize("seed", SEEDS)]


@pytest.fixture(params=["ext4", "xfs"])
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of file system that this machine can make and mount."""
    if lacking := volume.missing_part(request.param):
        missing(*lacking)
    return str(request.param)


@pytest.fixture
def memory(tmp_path: Path, kind: str) -> Iterator[Path]:
    """A folder in memory: the images on it are quick, and their file systems do not know."""
    with volume.in_memory(tmp_path / "memory", "size=1g") as point:
        yield point


@dataclass
class Town:
    """The spool and the homes, on one volume or on two, and everything that was told."""

    directory: Path
    volumes: Sequence[Volume]
    told: Told = field(default_factory=Told)

    @property
    def place(self) -> Place:
        return Place(str(self.volumes[0].point / "spool"), str(self.volumes[-1].point / "Maildir"))

    def found(self) -> None:
        with ExitStack() as mounted:
            for one in self.volumes:
                mounted.enter_context(one.mounted())
            Path(self.place.spool).mkdir()

    def live_until_cut(self, work: Work, seed: int, lines: int, victims: Sequence[Volume]) -> None:
        """A life that ends with the power of the victims, once so many lines have been told; their disks then are as
        the cut left them."""
        fifo = self.directory / f"told-{seed}"
        os.mkfifo(fifo)
        with ExitStack() as mounted:
            for one in self.volumes:
                mounted.enter_context(one.mounted())
            forks = multiprocessing.get_context("forkserver")
            forks.set_forkserver_preload(["tests.harness.mailroom"])
            process = forks.Process(target=live, args=(self.place, work, seed, str(fifo)))
            process.start()
            said = os.open(fifo, os.O_RDONLY)
            heard = _read(said, lines)
            for victim in victims:
                victim.cut()
            process.kill()
            late = _read(said, None)
            os.close(said)
            process.join(JOIN_S)
            process.close()
        self.told.learn(map(json.loads, heard))
        # While the power failed a sync may have said that it was done, which no machine lives to hear: what was told
        # from then on is an intention at most.
        self.told.learn(map(json.loads, late), promises=False)

    def reckon(self, finish: bool, reader: bool) -> None:
        """Mounts what is left, as after the reboot, and holds every promise against it."""
        with ExitStack() as mounted:
            for one in self.volumes:
                mounted.enter_context(one.mounted())
            reckoning = Reckoning(self.place, self.told)
            if finish:
                reckoning.finish(reader)
            else:
                reckoning.look()
        reckoning.assert_kept()
        assert not reckoning.alerts, "a power cut is no damage"


def _read(fd: int, lines: int | None) -> list[bytes]:
    """What stands in a pipe once at least so many lines do, or at its end."""
    said = b""
    while (lines is None or said.count(b"\n") < lines or select.select([fd], [], [], 0)[0]) and (
        more := os.read(fd, 65_536)
    ):
        said += more
    return said.splitlines()


def make_town(directory: Path, kind: str, count: int) -> Town:
    volumes = [Volume.make(kind, directory / f"image-{n}", directory / f"mount-{n}") for n in range(count)]
    town = Town(directory, volumes)
    town.found()
    return town


def cut_again_and_again(town: Town, work: Work, victims: Sequence[Volume], seed: int) -> None:
    dice = random.Random(seed)
    for cycle in range(CYCLES):
        # Now and then in the takeover itself, which tells nothing between its first and its second line.
        lines = dice.choice((1, 1, dice.randrange(2, 30), dice.randrange(LINES_MAX), dice.randrange(LINES_MAX)))
        town.live_until_cut(work, seed * CYCLES + cycle, lines, victims)
        last = cycle == CYCLES - 1
        town.reckon(finish=last or cycle % 3 == 2, reader=cycle % 2 == 0)
    assert len(town.told.committed) > CYCLES, "the lives were long enough to promise something"


def test_the_machine_loses_power(memory: Path, kind: str, seed: int) -> None:
    """Spool and homes on one file system."""
    town = make_town(memory, kind, 1)
    cut_again_and_again(town, Work(large_every=15), town.volumes, seed)


def test_a_neighbour_syncs_all_the_while(memory: Path, kind: str, seed: int) -> None:
    """Another's sync commits the journal while our data is unwritten: no promise stands on names without contents."""
    town = make_town(memory, kind, 1)
    neighbour = str(town.volumes[0].point / "neighbour")
    cut_again_and_again(town, Work(neighbour=neighbour), town.volumes, seed)


def test_the_spool_loses_power_and_the_homes_do_not(memory: Path, kind: str, seed: int) -> None:
    town = make_town(memory, kind, 2)
    cut_again_and_again(town, Work(), town.volumes[:1], seed)


def test_the_homes_lose_power_and_the_spool_does_not(memory: Path, kind: str, seed: int) -> None:
    """What was recorded as delivered is in the Maildir: the outcome is never durable before the file."""
    town = make_town(memory, kind, 2)
    cut_again_and_again(town, Work(), town.volumes[1:], seed)


def test_both_volumes_lose_power(memory: Path, kind: str, seed: int) -> None:
    town = make_town(memory, kind, 2)
    cut_again_and_again(town, Work(), town.volumes, seed)
