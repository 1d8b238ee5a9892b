"""How a log gets its owner: claim, rename, sync, scan, seal; at a restart and for a dead neighbour's log alike.

Only after the seal is durable and re-checked may the owner act. A crash anywhere in here changes nothing that counts:
the next taker does the same again. What an earlier owner writes later stands beyond the seal and counts for nothing.
"""

import contextlib
import os
from dataclasses import dataclass

from runtime.durable import Disk
from runtime.events import Events
from runtime.faults import Point, point
from services.queue import records
from services.queue.log import SEGMENT_OCTETS, Log
from services.queue.names import LogName, SegmentName, parse_segment_name
from services.queue.scan import Learn, Scan, Scanner
from services.queue.spool import Spool


@dataclass(slots=True)
class Taken:
    """A log that is ours now. `clean`: its last owner ended in order, so nothing was under way.
    `lock` is held when it came with the log.
    """

    log: Log
    clean: bool
    torn: int
    lock: int | None = None


class Taker:
    """Takes logs for one owner."""

    def __init__(
        self, spool: Spool, disk: Disk, owner: str, events: Events, segment_octets: int = SEGMENT_OCTETS
    ) -> None:
        self._spool = spool
        self._disk = disk
        self._owner = owner
        self._events = events
        self._segment_octets = segment_octets

    def create(self, log_id: str, token_hint: int) -> Taken:
        """A new log, sealed at its birth like every other."""
        name = LogName(log_id, self._spool.claim_token(token_hint), self._owner)
        path, lock = self._spool.create_log(name)
        log = Log(name, path, self._disk, self._segment_octets)
        log.append([records.Seal({})])
        return Taken(log, clean=True, torn=0, lock=lock)

    def take(self, old: LogName, token_hint: int, learn: Learn) -> Taken:
        """Makes the log ours and tells `learn` everything in it that counts, oldest first.

        Raises FileNotFoundError when another taker was quicker, LostLog when one was quicker later.
        """
        token = self._spool.claim_token(token_hint)
        point(Point.TAKEOVER_AFTER_TOKEN)  # a token is spent; nothing else happened
        name = LogName(old.log, token, self._owner)
        path = self._spool.rename_log(old, name)
        point(Point.TAKEOVER_AFTER_RENAME)  # the log is ours by name; nothing of it was read
        with contextlib.suppress(FileExistsError):  # it is there, but in what somebody made by hand
            self._disk.make_directory(os.path.join(path, "large"))
        segments = self._sync(path)
        scan = Scanner(name, path, self._spool, self._events).run(segments, learn)
        point(Point.TAKEOVER_AFTER_SCAN)
        log = Log(name, path, self._disk, self._segment_octets, scan.sequence + 1)
        log.segments = {segment: length for segment, length in scan.lengths.items() if length}
        self._seal(log, scan, learn)
        point(Point.TAKEOVER_AFTER_SEAL)  # from here on the owner may act
        log.remove_empty([segment for segment, length in scan.lengths.items() if not length])
        return Taken(log, scan.clean, scan.torn)

    def _sync(self, path: str) -> list[SegmentName]:
        """Every segment of earlier owners, oldest first, synced: what can be read may never have been."""
        with os.scandir(path) as entries:
            kinds = {
                name: one.is_file(follow_symlinks=False) for one in entries if (name := parse_segment_name(one.name))
            }
        names = sorted(name for name, is_file in kinds.items() if is_file)
        for name in sorted(kinds.keys() - names):
            self._events.alert(f"segment {name} of {path} is no file: nothing is read there")
        for name in names:
            fd = os.open(os.path.join(path, str(name)), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                self._disk.sync_data(fd)
            except OSError as error:
                # What the failed sync left in the cache is copied forward below, and synced there or not at all.
                self._events.alert(f"segment {name} of {path} does not sync: {error.strerror}")
            finally:
                os.close(fd)
        return names

    def _seal(self, log: Log, scan: Scan, learn: Learn) -> None:
        """Writes the seal and, in the same frame, what the last owner's last frame said."""
        lengths = {str(segment): length for segment, length in scan.lengths.items()}
        copied = [
            records.decode(record)
            for record in (scan.last.records if scan.last else ())
            if record.kind not in (records.SEAL, records.RELEASED)
        ]
        positions = log.append([records.Seal(lengths), *copied])
        for said, position in zip(copied, positions[1:], strict=True):
            learn(said, position)
