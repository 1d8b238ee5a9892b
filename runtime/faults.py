"""Crash points: every dangerous line has a name, and the fault suite kills the process at each (tests/fault).

`CRASH_AT=log.after_write:3` kills with SIGKILL the process that passes that point as the third of this process and its
forks, and no other; it says so on standard error. Nothing else arms one.
"""

import mmap
import os
import signal
from enum import StrEnum


class Point(StrEnum):
    """Where a crash is worth a test. What a crash leaves behind is said beside the line that passes the point."""

    LOG_BEFORE_WRITE = "log.before_write"
    LOG_AFTER_WRITE = "log.after_write"
    LOG_AFTER_SYNC = "log.after_sync"
    LOG_AFTER_RECHECK = "log.after_recheck"
    SEGMENT_AFTER_CREATE = "segment.after_create"
    SEGMENT_AFTER_FOOTER = "segment.after_footer"
    SPARE_AFTER_CREATE = "spare.after_create"
    LARGE_AFTER_SYNC = "large.after_sync"
    RECLAIM_AFTER_SNAPSHOT = "reclaim.after_snapshot"
    RECLAIM_AFTER_UNLINK = "reclaim.after_unlink"
    TAKEOVER_AFTER_TOKEN = "takeover.after_token"
    TAKEOVER_AFTER_RENAME = "takeover.after_rename"
    TAKEOVER_AFTER_SCAN = "takeover.after_scan"
    TAKEOVER_AFTER_SEAL = "takeover.after_seal"
    INTAKE_BEFORE_RECEIPT = "intake.before_receipt"
    DISPATCH_BEFORE_DELIVERY = "dispatch.before_delivery"
    DISPATCH_BEFORE_ACK = "dispatch.before_ack"
    SMTPD_BEFORE_ENQUEUE = "smtpd.before_enqueue"
    SMTPD_BEFORE_REPLY = "smtpd.before_reply"
    PUBLISH_AFTER_WRITE = "publish.after_write"
    PUBLISH_AFTER_LINK = "publish.after_link"
    PUBLISH_BEFORE_RENAME = "publish.before_rename"
    PUBLISH_AFTER_RENAME = "publish.after_rename"
    PUBLISH_AFTER_SYNC = "publish.after_sync"
    WORKER_BEFORE_OUTCOME = "worker.before_outcome"
    REMOTE_BEFORE_DOT = "remote.before_dot"
    REMOTE_AFTER_DOT = "remote.after_dot"
    POP3_BEFORE_UNLINK = "pop3.before_unlink"
    POP3_AFTER_UNLINK = "pop3.after_unlink"


class _Armed:
    """The one point that this process was told to die at, if any. Forks share the count: users' children are many."""

    def __init__(self) -> None:
        self.point: Point | None = None
        self.left = memoryview(b"")


_armed = _Armed()


def arm(spec: str) -> None:
    """Tells this process to die at a point: its name and, after a colon, at which passing; "" disarms."""
    name, _, count = spec.partition(":")
    _armed.point = Point(name) if name else None
    if name:
        _armed.left = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        _armed.left[0] = int(count or 1)


def point(name: Point) -> None:
    """Dies here when armed for this point; otherwise does nothing."""
    if name is not _armed.point:
        return
    _armed.left[0] -= 1
    if _armed.left[0] == 0:
        os.write(2, f"crash point {name} reached\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("CRASH_AT", ""))
