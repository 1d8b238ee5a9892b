"""Whether a file system can keep the spool's promises, by its type and its mount options.

Pure: the text of /proc/self/mountinfo in, a verdict out (proc_pid_mountinfo(5)). What a file system does when it is
tried is probe.py's.
"""

import os.path
import re
from dataclasses import dataclass

# Verified, or documented to rename atomically and to sync what fsync says (architecture: the queue).
_GOOD = frozenset({"ext4", "xfs", "btrfs", "ceph", "tmpfs"})
# A container's own layer keeps the promises as long as the container lives.
_TEMPORARY = frozenset({"tmpfs", "overlay"})
_NFS = frozenset({"nfs", "nfs4"})

# actimeo=0 as the kernel shows it; `noac` implies it (nfs(5)). It shows none of them as actimeo.
_ATTRIBUTE_CACHES = ("acregmin", "acregmax", "acdirmin", "acdirmax")

# Locks that stay on this machine: another one would take the log of an owner that lives.
_LOCAL_LOCKS = frozenset({"nolock", "local_lock=flock", "local_lock=all"})

# What makes a disk's own cache lose what fsync has returned for.
_NO_BARRIERS = frozenset({"nobarrier", "barrier=0"})

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`refusal` says why the spool may not be there, `warning` what to know when it may; "" for neither."""

    refusal: str = ""
    warning: str = ""


def judge(mountinfo: str, path: str) -> Verdict:
    """What to think of the file system that holds the absolute path."""
    kind, options = _mounted_at(mountinfo, path)
    if barriers := sorted(_NO_BARRIERS & options):
        return Verdict(
            refusal=f"{kind} with {barriers[0]}: a power cut loses what was synced; mount it with barriers, "
            "or set SPOOL_UNSAFE_FS=1 if the disk's own cache survives a power cut"
        )
    if kind in _NFS:
        return _judge_nfs(options)
    if kind in _TEMPORARY:
        return Verdict(warning=f"the spool is on {kind}: queued mail is gone with it")
    if kind in _GOOD:
        return Verdict()
    return Verdict(
        refusal=f"file system {kind or 'unknown'} is not known to keep the spool's promises: "
        "use ext4, xfs, btrfs or cephfs, or set SPOOL_UNSAFE_FS=1"
    )


def _judge_nfs(options: frozenset[str]) -> Verdict:
    """No re-check may be answered from a cache, and every machine has to see every lock."""
    missing = []
    if "lookupcache=none" not in options:
        missing.append("lookupcache=none")
    if not options & {"noac", "actimeo=0"} and not {f"{one}=0" for one in _ATTRIBUTE_CACHES} <= options:
        missing.append("actimeo=0")
    if missing:
        return Verdict(refusal=f"NFS without {' and '.join(missing)}: mount it with lookupcache=none,actimeo=0")
    if local := sorted(_LOCAL_LOCKS & options):
        return Verdict(
            refusal=f"NFS with {local[0]}: other machines do not see that an owner lives; mount it with local_lock=none"
        )
    return Verdict()


def _mounted_at(mountinfo: str, path: str) -> tuple[str, frozenset[str]]:
    """Type and options of the innermost mount that holds the path; a later mount hides an earlier one."""
    best = -1
    found: tuple[str, frozenset[str]] = "", frozenset()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, behind = before.split(), after.split()
        if len(fields) < 6 or len(behind) < 3:
            continue
        point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4])
        if os.path.commonpath([point, path]) == point and len(point) >= best:
            best, found = len(point), (behind[0], frozenset(f"{fields[5]},{behind[2]}".split(",")))
    return found
