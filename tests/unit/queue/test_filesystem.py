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


# As the kernel shows actimeo=0: never by that name.
UNCACHED = (
    "rw,vers=4.2,acregmin=0,acregmax=0,acdirmin=0,acdirmax=0,hard,lookupcache=none,local_lock=none,addr=192.0.2.1"
)


@pytest.mark.parametrize(
    "options", [UNCACHED, "rw,sync,noac,lookupcache=none,local_lock=none", "rw,lookupcache=none,actimeo=0"]
)
def test_nfs_without_caches_is_good(options: str) -> None:
    assert judge(mounted("nfs4", options), "/srv/spool").refusal == ""


@pytest.mark.parametrize("missing", ["acregmin=0", "acregmax=0", "acdirmin=0", "acdirmax=0", "lookupcache=none"])
def test_nfs_must_not_answer_from_a_cache(missing: str) -> None:
    options = UNCACHED.replace(missing, missing.replace("0", "30").replace("none", "all"))
    refusal = judge(mounted("nfs", options), "/srv/spool").refusal
    assert "lookupcache=none,actimeo=0" in refusal
    assert ("without lookupcache=none" in refusal) is (missing == "lookupcache=none")


@pytest.mark.parametrize("local", ["nolock", "local_lock=flock", "local_lock=all"])
def test_nfs_must_show_locks_to_other_machines(local: str) -> None:
    options = UNCACHED.replace("local_lock=none", local)
    assert "local_lock=none" in judge(mounted("nfs4", options), "/srv/spool").refusal
    assert judge(mounted("nfs4", UNCACHED.replace("=none,addr", "=posix,addr")), "/srv/spool").refusal == ""


@pytest.mark.parametrize("option", ["nobarrier", "barrier=0"])
def test_a_disk_that_may_forget_what_was_synced_is_refused(option: str) -> None:
    assert option in judge(mounted("ext4", f"rw,{option}"), "/srv/spool").refusal
    assert judge(mounted("ext4", "rw,barrier=1"), "/srv/spool").refusal == ""


def test_others_are_refused_with_the_way_out() -> None:
    assert "SPOOL_UNSAFE_FS=1" in judge(mounted("vfat"), "/srv/spool").refusal


def test_the_innermost_mount_counts() -> None:
    assert judge(mounted("vfat"), "/srv").refusal == ""
    assert judge(mounted("vfat"), "/srv/spool2").refusal == ""
    assert judge(mounted("vfat", at="/srv/my\\040spool"), "/srv/my spool/x").refusal != ""


def test_a_mount_point_in_any_letters_disturbs_nobody() -> None:
    text = mounted("vfat", at="/srv/Post\udcff") + "31 22 0:41 / /srv/B\u00fccher\\040alt rw - vfat none rw\n"
    assert judge(text, "/srv/spool").refusal == ""
    assert judge(text, "/srv/B\u00fccher alt/spool").refusal != ""
    assert judge(text, "/srv/Post\udcff/spool").refusal != ""
