"""The lossy file system: what is synced stays, what is not may go, and nothing appears that nobody wrote."""

import errno
import os
from random import Random

import pytest

from tests.sim.filesystem import SECTOR, FileSystem, Survival


def cut(volume: FileSystem, manner: str, seed: int = 1, hosts: tuple[str, ...] = ("h",)) -> None:
    volume.power_cut(set(hosts), Survival(Random(seed), manner))


@pytest.mark.parametrize("weak", [False, True])
def test_what_was_synced_with_its_name_survives(weak: bool) -> None:
    volume = FileSystem(Random(1), weak)
    node = volume.make("h", "/a", False)
    volume.write("h", node, 0, b"one")
    volume.sync(node)
    volume.sync(volume.root)
    volume.write("h", node, 0, b"two")
    cut(volume, "none")
    assert bytes(volume.find("/a").data) == b"one"


def test_without_a_journal_a_synced_file_can_lose_its_name() -> None:
    volume = FileSystem(Random(1), weak=True)
    node = volume.make("h", "/a", False)
    volume.write("h", node, 0, b"one")
    volume.sync(node)
    cut(volume, "none")
    with pytest.raises(FileNotFoundError):
        volume.find("/a")


def test_with_a_journal_later_changes_do_not_outlive_earlier_ones() -> None:
    for seed in range(50):
        volume = FileSystem(Random(1), weak=False)
        for name in "abcdef":
            volume.make("h", f"/{name}", False)
        cut(volume, "some", seed)
        left = "".join(path[1:] for path in volume.tree())
        assert "abcdef".startswith(left)


def test_an_unsynced_write_is_torn_at_sectors() -> None:
    seen = set()
    for seed in range(40):
        volume = FileSystem(Random(1), weak=True)
        node = volume.make("h", "/a", False)
        volume.resize("h", node, 4 * SECTOR)
        volume.sync(node)
        volume.sync(volume.root)
        volume.write("h", node, 100, b"x" * (3 * SECTOR))
        cut(volume, "some", seed)
        octets = bytes(volume.find("/a").data)
        pieces = [octets[start : start + SECTOR] for start in range(0, 4 * SECTOR, SECTOR)]
        assert all(piece.strip(b"\0") in (b"", b"x" * len(piece.strip(b"\0"))) for piece in pieces)
        seen.add(tuple(b"x" in piece for piece in pieces))
    assert len(seen) > 8


def test_a_rename_happens_whole_or_not_at_all() -> None:
    for seed in range(30):
        volume = FileSystem(Random(1), weak=True)
        volume.make("h", "/old", True)
        volume.sync(volume.root)
        volume.rename("h", "/old", "/new")
        volume.rename("h", "/new", "/newer")
        cut(volume, "some", seed)
        assert len(volume.tree()) == 1


def test_a_failed_sync_looks_clean_until_the_pages_are_dropped() -> None:
    volume = FileSystem(Random(2), weak=True)
    node = volume.make("h", "/a", False)
    volume.resize("h", node, 40 * SECTOR)
    volume.sync(node)
    volume.write("h", node, 0, b"x" * (40 * SECTOR))
    volume.fail_sync(node)
    volume.sync(node)
    assert b"\0" not in node.data
    volume.drop_caches()
    assert b"\0" in node.data


def test_another_host_keeps_what_it_has_not_synced() -> None:
    volume = FileSystem(Random(1), weak=True)
    volume.make("dies", "/a", False)
    kept = volume.make("lives", "/b", False)
    volume.write("lives", kept, 0, b"here")
    cut(volume, "none", hosts=("dies",))
    assert volume.tree() == ["/b"]
    assert bytes(kept.data) == b"here"


def test_a_full_disk_says_so() -> None:
    volume = FileSystem(Random(1), weak=True)
    node = volume.make("h", "/a", False)
    volume.full = True
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        volume.write("h", node, 0, b"x")
