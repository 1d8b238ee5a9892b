"""The check at the start, on real file systems: good ones pass, and what breaks a promise ends with exit status 78."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.queue import probe
from services.queue.visibility import Beat, write_beat
from tests.conftest import missing
from tests.harness.queue_house import QueueHouse
from tests.harness.volume import MAKERS, Volume, missing_part

EX_CONFIG = 78


def volume(directory: Path, kind: str, options: str = "loop") -> Volume:
    lack = missing_part(kind)
    if lack:
        missing(*lack)
    (directory / "point").mkdir()
    made = Volume.make(kind, directory / "image", directory / "point")
    made.options = options
    return made


@pytest.fixture(params=sorted(MAKERS))
def good(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with volume(tmp_path, request.param).mounted() as mounted:
        yield mounted.point


def test_a_good_file_system_keeps_every_promise(good: Path) -> None:
    before = sorted(os.listdir(good))
    results = probe.probe(str(good), "queue-0", Disk())
    assert probe.judge(results) == ([], [])
    assert sorted(os.listdir(good)) == before


async def test_a_volume_without_barriers_is_refused_and_taken_when_told_so(tmp_path: Path) -> None:
    with volume(tmp_path, "ext4", "loop,nobarrier").mounted() as mounted:
        house = QueueHouse(tmp_path / "state")
        house.extra = {"SPOOL_DIR": str(mounted.point), "SPOOL_UNSAFE_FS": "0"}
        with pytest.raises(AssertionError, match="ext4 with nobarrier: a power cut loses what was synced"):
            await house.start()
        assert await house.end() == EX_CONFIG
        house.extra["SPOOL_UNSAFE_FS"] = "1"
        await house.start()
        assert ["nobarrier" in event["text"] for event in house.named("warning")] == [True]
        assert await house.end() == 0


async def test_a_machine_that_does_not_see_us_keeps_a_replica_from_starting(tmp_path: Path) -> None:
    """The other machine is played: its beat moves, and it never renames what the new replica makes."""
    house = QueueHouse(tmp_path / "state")
    house.extra = {"SPOOL_UNSAFE_FS": "0"}
    nodes = tmp_path / "state" / "spool" / "nodes"
    nodes.mkdir()

    async def beat() -> None:
        for count in range(10_000):
            (nodes / f"{'b' * 32}.queue-1").write_bytes(write_beat(Beat("elsewhere", count)))
            await asyncio.sleep(0.1)

    beating = asyncio.create_task(beat())
    try:
        with pytest.raises(
            AssertionError, match=r"queue-1 lives on another machine and does not see.*lookupcache=none"
        ):
            await house.start()
        assert await house.end() == EX_CONFIG
        assert not list((tmp_path / "state" / "spool" / "logs").iterdir())
    finally:
        beating.cancel()
        await house.end(signal.SIGKILL)


async def test_the_volume_of_another_cluster_is_refused(tmp_path: Path) -> None:
    ours, theirs = "a" * 32, "b" * 32
    house = QueueHouse(tmp_path / "state")
    marker = tmp_path / "state" / "spool" / "FORMAT"
    marker.write_text(f"seapost spool 1\ncluster {ours}\nname mail\n")
    house.extra = {"SPOOL_CLUSTER": theirs}
    with pytest.raises(AssertionError, match=f"is of cluster {ours}: mount the right volume"):
        await house.start()
    assert await house.end() == EX_CONFIG
    house.extra["SPOOL_CLUSTER"] = "mine"
    with pytest.raises(AssertionError, match="SPOOL_CLUSTER='mine' is not 32 hexadecimal digits"):
        await house.start()
    assert await house.end() == EX_CONFIG
    house.extra["SPOOL_CLUSTER"] = ours
    await house.start()
    assert await house.end() == 0
    marker.unlink()
    (tmp_path / "state" / "spool" / "logs").rename(tmp_path / "elsewhere")
    await house.start()
    assert await house.end() == 0
    assert f"\ncluster {ours}\n" in marker.read_text(), "a new spool is of the cluster that it should be of"
