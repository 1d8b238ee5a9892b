"""Clearing tmp/ of a Maildir of what the exactly-once publish leaves there, once nobody can ask for it any more.

An election (`NAME.d`) may go when the queue has durably recorded the delivery for an hour. The front says up to which
time that holds and what it excepts; what it knows nothing of, because it was started later, goes after 36 hours.
"""

import contextlib
import os
from dataclasses import dataclass

from runtime.clock import Clock
from runtime.durable import Disk
from services.local.publish import ELECTION_LASTS_S

_BEFORE, _AFTER = ".Q", "I"  # around message and recipient in a name of ours: `<seconds>.Q<id>R<recipient>I…`


@dataclass(frozen=True, slots=True)
class Settled:
    """Elections written from `since_s` until `until_s` (unix time) are of deliveries that are over, except `but`
    (message and recipient, `called`), which will be tried again."""

    since_s: float
    until_s: float
    but: frozenset[str]


NOTHING_SETTLED = Settled(0.0, 0.0, frozenset())


def sweep(disk: Disk, clock: Clock, path: str, settled: Settled) -> int:
    """Removes what is due in the Maildir at `path`; returns how many elections stay."""
    stay = 0
    try:
        tmp = os.open(os.path.join(path, "tmp"), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0
    oldest_s = clock.wall_ms() / 1_000 - clock.scaled(ELECTION_LASTS_S)
    try:
        for name in os.listdir(tmp):
            if not name.endswith((".d", ".w")):
                continue
            with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove: both are well
                written_s = os.stat(name, dir_fd=tmp, follow_symlinks=False).st_mtime
                if written_s < oldest_s or (name.endswith(".d") and _is_over(name, written_s, settled)):
                    disk.unlink(name, dir_fd=tmp)
                elif name.endswith(".d"):
                    stay += 1
    finally:
        os.close(tmp)
    return stay


def called(message: str, recipient: int) -> str:
    """A message and recipient as a file name has them (mail/maildir.py)."""
    return f"{message}R{recipient}"


def _is_over(name: str, written_s: float, settled: Settled) -> bool:
    what = name.partition(_BEFORE)[2].partition(_AFTER)[0]
    return settled.since_s <= written_s < settled.until_s and what not in settled.but
