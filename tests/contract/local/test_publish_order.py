"""How a batch reaches a Maildir: nothing is elected before it is durable, nothing told before its name is."""

from pathlib import Path

import pytest

from runtime.clock import SystemChance, SystemClock
from services.local.publish import SYNC_TOGETHER_MIN, Copy, Publisher
from tests.harness.recording import RecordingDisk


def published(maildir: Path, count: int, crowded: bool) -> list[tuple[str, str]]:
    """What the disk was asked for by one batch; drafts are called `draft`."""
    disk = RecordingDisk()
    publisher = Publisher(disk, SystemClock(), SystemChance())
    publisher.publish(str(maildir), [], make=True)
    disk.done.clear()
    copies = [Copy(f"{number}.Q", b"Head: x\n", memoryview(b"body\n")) for number in range(count)]
    publisher.publish(str(maildir), copies, make=False, crowded=crowded)
    assert not any(copy.trouble for copy in copies)
    return [(what, "draft" if name.endswith(".w") else name) for what, name in disk.done]


@pytest.mark.parametrize(("count", "crowded"), [(1, False), (SYNC_TOGETHER_MIN, False), (SYNC_TOGETHER_MIN, True)])
def test_durable_then_elected_then_visible_then_told(tmp_path: Path, count: int, crowded: bool) -> None:
    done = published(tmp_path / "Maildir", count, crowded)
    writes = [at for at, step in enumerate(done) if step == ("write", "draft")]
    synced = [at for at, (what, _) in enumerate(done) if what in ("sync all", "sync")]
    links = [at for at, (what, _) in enumerate(done) if what == "link"]
    renames = [at for at, (what, _) in enumerate(done) if what == "rename"]
    tmp, new = done.index(("sync", "tmp")), done.index(("sync", "new"))
    assert (len(writes), len(links), len(renames)) == (count, count, count)
    drafts = [at for at in synced if done[at][0] == "sync all" or done[at] == ("sync", "draft")]
    assert len(drafts) == (1 if count >= SYNC_TOGETHER_MIN and not crowded else count)
    assert max(writes) < min(drafts)
    assert max(drafts) < min(links)
    assert max(links) < tmp < min(renames)
    assert max(renames) < new == len(done) - 1


def test_a_maildir_that_is_made_is_durable_with_its_parts(tmp_path: Path) -> None:
    disk = RecordingDisk()
    Publisher(disk, SystemClock(), SystemChance()).publish(str(tmp_path / "Maildir"), [], make=True)
    steps = [name for what, name in disk.done if what == "sync directory"]
    assert steps[:2] == ["Maildir", tmp_path.name]
