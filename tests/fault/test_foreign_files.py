"""What does not belong into a spool: links, pipes, folders, thousands of names, names made to hurt.

Wherever it lies, and even under a name that only ours may have, the queue starts, follows nothing, waits for nothing,
removes nothing that is not its own, says what it saw, and delivers its mail.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.config import ConfigError
from services.queue.strangers import NAMED_MAX, strangers
from tests.harness.mailroom import Mailroom, Work
from tests.harness.office import Office, Place
from tests.harness.reckoning import Reckoning, Told
from tests.harness.stack import Stack, running
from tests.harness.traffic import Traffic, reckon
from tests.harness.volume import quick_folder

ALL = os.environ.get("FAULT_ALL") == "1"
JUNK = 100_000 if ALL else 3_000
LARGE_ID = "06h08vqbt1qf5r80kfoa5c501g"

pytestmark = pytest.mark.timeout(60)

HOSTILE = [
    b"new\nline",
    b"\x1b[2Jescape",
    b"not \xff\xfe text",
    b"..",
    b"%s%n",
    b"-rf",
    "ÄÖÜ\u202e".encode(),
    b"x" * 255,
    b"0a1b2c3d.0000000001.queue-0 ",
    b"0000000001-000001.seg.bak",
]
# Names that only ours may have, by the folder that they would be in.
OURS = {
    "logs": "0badcafe.0000000009.queue-9",
    "log": "0000000001-000077.seg",
    "large": f"{LARGE_ID}-{'0' * 64}",
    "tokens": "0000000777",
}


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with quick_folder(tmp_path) as found:
        yield found


class Farm:
    """A spool with mail in it, whose owner has died, and something outside that nobody may touch."""

    def __init__(self, directory: Path) -> None:
        self.place = Place(str(directory / "spool"), str(directory / "Maildir"), segment_octets=24 * 1024)
        self.told = Told()
        self.outside = directory / "outside"
        self.outside.mkdir()
        (self.outside / "precious").write_text("do not touch\n")
        Path(self.place.spool).mkdir()
        asyncio.run(self.live())

    async def live(self) -> None:
        office = Office(self.place)
        office.open()
        work = Work(60, large_every=20)
        await Mailroom(office, work, lambda *said: self.told.learn([list(said)]), random.Random(1)).run()
        await office.close()

    def folder(self, where: str) -> Path:
        spool = Path(self.place.spool)
        [log] = [path for path in (spool / "logs").iterdir() if path.name.startswith("0a1b2c3d.") and path.is_dir()]
        return {"spool": spool, "logs": spool / "logs", "log": log, "large": log / "large"}.get(where, spool / where)

    def reckon(self) -> None:
        for _ in range(2):
            reckoning = Reckoning(self.place, self.told, scrub=True)
            reckoning.finish()
            reckoning.assert_kept()
        assert (self.outside / "precious").read_text() == "do not touch\n"
        assert os.listdir(self.outside) == ["precious"]


Plant = Callable[[Path, Path], None]


def link_to_a_file(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "precious")


def link_to_a_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def link_to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "missing")


def pipe(path: Path, outside: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, outside: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("x")


PLANTS: list[Plant] = [link_to_a_file, link_to_a_folder, link_to_nothing, pipe, folder]
FOLDERS = ["spool", "logs", "log", "large", "tokens", "quarantine"]


@pytest.mark.parametrize("where", FOLDERS)
def test_strange_names_are_left_alone_and_told(memory: Path, where: str) -> None:
    farm = Farm(memory)
    base = os.fsencode(farm.folder(where))
    names = {os.fsdecode(name) for name in HOSTILE if name != b".."}
    for name in names:
        Path(os.fsdecode(base), name).write_text("x")
    for plant in PLANTS:
        plant(Path(os.fsdecode(base), plant.__name__), farm.outside)
        names.add(plant.__name__)
    found = list(strangers(farm.place.spool))
    if where != "quarantine":  # whose files have any name
        assert {os.path.basename(path) for path in found} == names
    farm.reckon()
    assert names <= set(os.listdir(farm.folder(where))), "what is not ours is not removed"


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("where", OURS)
def test_a_stranger_under_one_of_our_names_stops_nobody(memory: Path, where: str, plant: Plant) -> None:
    farm = Farm(memory)
    plant(farm.folder(where) / OURS[where], farm.outside)
    if where == "logs" and plant is folder:
        return  # a directory of that name is a log, if an empty one: test_a_stack_lives_with_a_spool_full_of_strangers
    farm.reckon()


@pytest.mark.parametrize("plant", [link_to_a_file, link_to_nothing, pipe, folder], ids=lambda plant: plant.__name__)
@pytest.mark.parametrize("name", ["heartbeat", "owner.lock", "clock", "spare"])
def test_a_stranger_in_the_place_of_a_small_file_stops_nobody(memory: Path, name: str, plant: Plant) -> None:
    farm = Farm(memory)
    path = farm.folder("log") / name
    path.unlink(missing_ok=True)
    plant(path, farm.outside)
    farm.reckon()


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_format_that_is_no_file_is_refused_and_not_waited_for(memory: Path, plant: Plant) -> None:
    farm = Farm(memory)
    marker = Path(farm.place.spool, "FORMAT")
    marker.unlink()
    plant(marker, farm.outside)
    with pytest.raises(ConfigError):
        Office(farm.place).open()


def test_another_clusters_volume_and_an_empty_one_beside_logs_are_refused(memory: Path) -> None:
    """A marker that is missing beside logs is a volume that somebody has damaged, and no new spool."""
    farm = Farm(memory)
    marker = Path(farm.place.spool, "FORMAT")
    marker.unlink()
    with pytest.raises(ConfigError, match="logs beside it"):
        Office(farm.place).open()
    assert not marker.exists()


@pytest.mark.timeout(240)
def test_a_stack_lives_with_a_spool_full_of_strangers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    stack = Stack(state, environment={"TIME_SCALE": "0.002"})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("do not touch\n")
    with running(stack):
        pass
    spool = state / "spool"
    [log] = (spool / "logs").iterdir()
    for directory, ours in (
        (spool, "tokens.old"),
        (spool / "logs", OURS["logs"]),
        (spool / "tokens", OURS["tokens"]),
        (log, OURS["log"]),
        (log / "large", OURS["large"]),
    ):
        for number, plant in enumerate(PLANTS):
            plant(directory / (ours if not number else f"{plant.__name__}\n{number}"), outside)
        owner = directory.stat()
        for number in range(JUNK):
            (directory / f"junk-{number}").touch()
        for path in directory.iterdir():
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    asyncio.run(mail_passes(stack))
    said = stack.said.find(r"^queue-0: warning: .*(strange|foreign)")
    assert 0 < len(said) <= 2 * (NAMED_MAX + 1), "told at each start, and not a thousand times"
    assert (outside / "precious").read_text() == "do not touch\n"
    assert not stack.said.find(r"^up: queue-0 ended"), stack.said.tail()


async def mail_passes(stack: Stack) -> None:
    with running(stack):
        traffic = Traffic(stack.ports["smtp"])
        async with traffic.flowing():
            await traffic.accepted(20)
            since = stack.mark()
            await asyncio.to_thread(stack.kill, "queue-0")
            await asyncio.to_thread(stack.wait_started, "queue-0", since)
            await traffic.accepted(20)
        await asyncio.to_thread(reckon, stack, traffic.kept)
