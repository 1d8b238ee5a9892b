"""Whether a file system can keep the spool's promises: atomic rename, exclusive create, a re-check without cache.

Pure: the text of /proc/self/mountinfo in, a verdict out (proc_pid_mountinfo(5)).
"""

import os.path
from dataclasses import dataclass

# Verified, or documented to rename atomically and to sync what fsync says (architecture: the queue).
_GOOD = frozenset({"ext4", "xfs", "btrfs", "ceph", "tmpfs"})
# A container's own layer keeps the promises as long as the container lives.
_TEMPORARY = frozenset({"tmpfs", "overlay"})
_NFS = frozenset({"nfs", "nfs4"})
_NFS_OPTIONS = ("lookupcache=none", "actimeo=0")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refusal` says why the spool may not be there, `warning` what to know when it may; "" for neither."""

    refusal: str = ""
    warning: str = ""


def judge(mountinfo: str, path: str) -> Verdict:
    """What to think of the file system that holds the absolute path."""
    kind, options = _mounted_at(mountinfo, path)
    if kind in _NFS:
        missing = [option for option in _NFS_OPTIONS if option not in options]
        if missing:
            return Verdict(refusal=f"NFS without {' and '.join(missing)}: mount it with lookupcache=none,actimeo=0")
        return Verdict()
    if kind in _TEMPORARY:
        return Verdict(warning=f"the spool is on {kind}: queued mail is gone with it")
    if kind in _GOOD:
        return Verdict()
    return Verdict(
        refusal=f"file system {kind or 'unknown'} is not known to keep the spool's promises: "
        "use ext4, xfs, btrfs or cephfs, or set SPOOL_UNSAFE_FS=1"
    )


def _mounted_at(mountinfo: str, path: str) -> tuple[str, str]:
    """Type and options of the innermost mount that holds the path; a later mount hides an earlier one."""
    best, found = -1, ("", "")
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, behind = before.split(), after.split()
        if len(fields) < 6 or len(behind) < 3:
            continue
        point = fields[4].encode().decode("unicode_escape")
        if os.path.commonpath([point, path]) == point and len(point) >= best:
            best, found = len(point), (behind[0], f"{fields[5]},{behind[2]}")
    return found
