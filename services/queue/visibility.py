"""Whether this machine sees at once what another one does on the shared volume: the asking and its judgement. Pure.

A re-check is worth as much as the freshness of a name: a kernel that answers from its cache lets a former owner
acknowledge what nobody will deliver. So a new replica makes a directory, the asking, and a replica of another machine
renames it, as it would rename a log. Its beat then says so, and from that moment on the old name must be gone here and
the new one there. Files are neighbours.py's.
"""

import re
from dataclasses import dataclass, field
from enum import Enum

# A replica is named by the boot of its machine and by its instance.
_REPLICA = re.compile(r"([0-9a-f]{32})\.([A-Za-z0-9_-]{1,64})\Z")
_ASKING = re.compile(r"(ask|saw)\.([0-9a-f]{32})\.([0-9a-f]{32}\.[A-Za-z0-9_-]{1,64})\Z")
_BEAT = re.compile(r"seapost replica (\d{1,6})\nhost ([!-~]{1,64}) *\nbeat (\d{20})\nanswered([ 0-9a-f]*)\n")
VERSION = 1

# A replica answers in its beat, so whoever has beaten so often since it was asked and has not answered does not see us.
PATIENCE_BEATS = 3

# Whose beat has not moved for so long is not there to answer: its beat comes each second.
STILL_S = 3.0

# Longer than that nobody is waited for: a neighbour that beats more slowly has other troubles than what it sees.
WAIT_S = 60.0
assert STILL_S < WAIT_S

# The last askings that a replica has answered; more replicas than this do not start within one beat of it.
ANSWERED_MAX = 8
BEAT_MAX_OCTETS = 1_024

CACHED = "this machine's kernel answers from its cache what another machine has changed"
FIX = "mount the volume on every machine with lookupcache=none,actimeo=0 (NFS), or set SPOOL_UNSAFE_FS=1 to risk it"
LOCKS_FIX = "mount the volume on every machine with local_lock=none (NFS), or set SPOOL_UNSAFE_FS=1 to risk it"


@dataclass(frozen=True, slots=True)
class Replica:
    """Who has a file in nodes/; `node` is the boot of its machine."""

    node: str
    instance: str

    def __str__(self) -> str:
        return f"{self.node}.{self.instance}"


@dataclass(frozen=True, slots=True)
class Beat:
    """What a replica says of itself each second."""

    host: str
    count: int
    answered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asking:
    """A directory that waits for its renaming, or has had it."""

    seen: bool
    nonce: str
    asker: str


def parse_replica(name: str) -> Replica | None:
    found = _REPLICA.match(name)
    return Replica(found[1], found[2]) if found else None


def parse_asking(name: str) -> Asking | None:
    found = _ASKING.match(name)
    return Asking(found[1] == "saw", found[2], found[3]) if found else None


def asking_name(seen: bool, nonce: str, asker: Replica | str) -> str:
    return f"{'saw' if seen else 'ask'}.{nonce}.{asker}"


def write_beat(beat: Beat) -> bytes:
    """The file of a replica. Always of one length, so that it is written over in one piece."""
    answered = " ".join(beat.answered[-ANSWERED_MAX:])
    host = re.sub(r"[^!-~]", "-", beat.host)[:64] or "-"
    lines = (
        f"seapost replica {VERSION}",
        f"host {host:64}",
        f"beat {beat.count:020}",
        f"answered {answered:{33 * ANSWERED_MAX}}",
    )
    return "".join(f"{line}\n" for line in lines).encode()


def read_beat(octets: bytes) -> Beat | None:
    """What a replica says; None when it does not read, or is being written."""
    found = _BEAT.match(octets[:BEAT_MAX_OCTETS].decode("ascii", "replace"))
    return Beat(found[2], int(found[3]), tuple(found[4].split())) if found else None


class Answer(Enum):
    """How far the asking is."""

    OPEN = "open"
    NOBODY = "nobody"  # no other machine is there to answer: there is nothing to prove
    PROVEN = "proven"
    UNPROVEN = "unproven"  # somebody is there, and too slow
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Sight:
    """What was looked at, in this order: the beats of other machines' replicas, the new name, the old name."""

    beats: dict[Replica, Beat]
    new_name: bool
    old_name: bool


@dataclass(slots=True)
class _Seen:
    """A beat as it was first seen, and when it moved last."""

    first: int
    last: int
    moved_s: float


@dataclass(slots=True)
class Proof:
    """One asking, made at `began_s`, and what has been seen since. `reason` says why it is BROKEN."""

    nonce: str
    began_s: float
    reason: str = ""
    _seen: dict[Replica, _Seen] = field(default_factory=dict)

    def look(self, sight: Sight, now_s: float) -> Answer:
        """Takes in another look; what it leads to."""
        for replica, beat in sight.beats.items():
            seen = self._seen.setdefault(replica, _Seen(beat.count, beat.count, now_s))
            if beat.count != seen.last:
                seen.last, seen.moved_s = beat.count, now_s
        told = [replica for replica, beat in sight.beats.items() if self.nonce in beat.answered]
        if told or sight.new_name or not sight.old_name:
            return self._judge_names(bool(told), sight, now_s)
        living = [replica for replica in sight.beats if self._moved(replica)]
        for replica in living:
            if self._seen[replica].last - self._seen[replica].first > PATIENCE_BEATS:
                return self._broken(f"{replica.instance} lives on another machine and does not see what this one makes")
        if not living and now_s - self.began_s >= STILL_S:
            return Answer.NOBODY
        return Answer.OPEN if now_s - self.began_s < WAIT_S else Answer.UNPROVEN

    def still(self, now_s: float) -> list[Replica]:
        """The replicas that have not shown life for STILL_S."""
        return [replica for replica, seen in self._seen.items() if now_s - seen.moved_s >= STILL_S]

    def moving(self) -> list[Replica]:
        """The replicas whose beat has moved since the asking."""
        return [replica for replica in self._seen if self._moved(replica)]

    def _moved(self, replica: Replica) -> bool:
        return self._seen[replica].last != self._seen[replica].first

    def _judge_names(self, told: bool, sight: Sight, now_s: float) -> Answer:
        """A directory was renamed: the new name was looked at first, so the old one must be gone by then. Its beat says
        right after it who did it, but may not be able to: a full disk takes no beats.
        """
        if sight.new_name and not sight.old_name:
            return Answer.PROVEN if told or now_s - self.began_s >= STILL_S else Answer.OPEN
        if sight.old_name:
            return self._broken(f"{CACHED}: a renamed directory still has its old name")
        if told or now_s - self.began_s >= WAIT_S:
            return self._broken(f"{CACHED}: a renamed directory has no new name")
        return Answer.OPEN

    def _broken(self, reason: str) -> Answer:
        self.reason = reason
        return Answer.BROKEN


def refusal(reason: str, fix: str = FIX) -> str:
    """What the operator is told."""
    return (
        f"the volume is shared with other machines, and {reason}; so a former owner of a log may acknowledge mail "
        f"that nobody delivers: {fix}"
    )
