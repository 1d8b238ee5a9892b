"""Which file systems may hold the spool."""

import pytest

from services.queue.filesystem import judge

ROOT = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"


def mounted(kind: str, options: str = "rw", at: str = "/srv/spool") -> str:
    return ROOT + f"30 22 0:40 / {at} rw,relatime - {kind} source {options}\n"


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "ceph"])
def test_a_local_file_system_is_good(kind: str) -> None:
    verdict = judge(mounted(kind), "/srv/spool/deeper")
    assert (verdict.refusal, verdict.warning) == ("", "")


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_a_temporary_one_is_taken_with_a_warning(kind: str) -> None:
    assert "gone with it" in judge(mounted(kind), "/srv/spool").warning


def test_nfs_must_not_answer_from_a_cache() -> None:
    assert "actimeo=0" in judge(mounted("nfs4", "rw,lookupcache=none"), "/srv/spool").refusal
    assert judge(mounted("nfs4", "rw,lookupcache=none,actimeo=0"), "/srv/spool").refusal == ""


def test_others_are_refused_with_the_way_out() -> None:
    assert "SPOOL_UNSAFE_FS=1" in judge(mounted("vfat"), "/srv/spool").refusal


def test_the_innermost_mount_counts() -> None:
    assert judge(mounted("vfat"), "/srv").refusal == ""
    assert judge(mounted("vfat"), "/srv/spool2").refusal == ""
    assert judge(mounted("vfat", at="/srv/my\\040spool"), "/srv/my spool/x").refusal != ""
