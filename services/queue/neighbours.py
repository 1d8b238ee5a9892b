"""The replicas that share the volume, each with a file in nodes/ that it beats in; and the asking of a new one.

The rim of visibility.py, which judges. Everybody answers the askings of other machines with each beat; a new replica
asks once, before it takes a log. A replica on the same machine proves nothing, for it sees through the same kernel.
"""

import asyncio
import contextlib
import fcntl
import os
from dataclasses import dataclass, field
from itertools import islice

from runtime.clock import Chance, Clock, boot_id
from runtime.config import ConfigError
from runtime.durable import Disk
from runtime.events import Events
from services.queue import visibility
from services.queue.log import NO_SPACE
from services.queue.visibility import Answer, Asking, Beat, Proof, Replica, Sight, parse_asking, parse_replica

DIRECTORY = "nodes"

# How often a replica shows life, and so how soon it answers. It beats while it asks as well: two that start together
# answer each other.
BEAT_S = 1.0
assert BEAT_S * 2 < visibility.STILL_S, "who lives is seen to live"

# How often a new replica looks for its answer.
LOOK_S = 0.05

# What is looked at in nodes/ at a time: 64 replicas are many, and whatever else is there is none of ours.
_ENTRIES_MAX = 1_000

# The askings that are answered in one beat.
_ANSWERS_MAX = 16

# An asking that nobody took back is removed once somebody has seen it for so long: its asker has given up or died.
SWEPT_AFTER_S = 120.0
assert SWEPT_AFTER_S > visibility.WAIT_S


@dataclass(slots=True)
class Surroundings:
    """What this replica is, and what it works with."""

    instance: str
    host: str
    clock: Clock
    chance: Chance
    events: Events
    disk: Disk = field(default_factory=Disk)
    node: str = field(default_factory=boot_id)
    unsafe: bool = False  # SPOOL_UNSAFE_FS


class Neighbours:
    """This replica among those that share the spool at one path."""

    def __init__(self, spool: str, around: Surroundings) -> None:
        self._path = os.path.join(spool, DIRECTORY)
        self._around = around
        self._me = Replica(around.node, around.instance)
        self._lock: int | None = None
        self._count = 0
        self._answered: list[str] = []
        self._first_seen: dict[str, float] = {}

    async def start_up(self) -> None:
        """Proves that this machine sees at once what another one does, if there is one; ConfigError if it does not."""
        try:
            with contextlib.suppress(FileExistsError):
                self._around.disk.make_directory(self._path)
            self._clear_up()
            self.beat()
            if self._others():
                await self._ask()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise ConfigError([f"{self._path}: {error}: uid {os.geteuid()} must be able to write there"]) from error
            self._around.events.warning("the spool is too full to try what this machine sees of others'")

    def _clear_up(self) -> None:
        """Removes what an earlier life of ours has left, and the dead of this machine: their locks are free."""
        for name in self._names():
            asking, replica = parse_asking(name), parse_replica(name)
            if asking and asking.asker == str(self._me):
                self._remove(name)
            elif replica and replica.node == self._me.node and replica != self._me:
                self._bury(replica)

    def beat(self) -> None:
        """Shows that this replica lives, and answers the askings of other machines."""
        now_s = self._around.clock.monotonic()
        names = self._names()
        askings = {name: asking for name in names if (asking := parse_asking(name))}
        foreign = [
            name for name, asking in askings.items() if not asking.seen and not asking.asker.startswith(self._me.node)
        ]
        for name in foreign[:_ANSWERS_MAX]:
            self._answer(name, askings[name])
        self._first_seen = {name: self._first_seen.get(name, now_s) for name in askings}
        for name, since_s in self._first_seen.items():
            if now_s - since_s > SWEPT_AFTER_S:
                self._remove(name)
        self._show()

    async def keep(self) -> None:
        """Beats until cancelled, and takes leave."""
        try:
            while True:
                self.beat()
                await asyncio.sleep(BEAT_S)
        finally:
            self.leave()

    def leave(self) -> None:
        """Our file is removed; a process that is killed leaves it, and its lock free."""
        with contextlib.suppress(OSError):
            self._around.disk.unlink(self._file(self._me))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- the beat -----------------------------------------------------------------------------------------------------

    def _answer(self, name: str, asking: Asking) -> None:
        """Does with a directory what is done to a log that is taken; one winner."""
        new = visibility.asking_name(True, asking.nonce, asking.asker)
        with contextlib.suppress(OSError):  # another replica answered, or the asker is gone
            self._around.disk.rename(os.path.join(self._path, name), os.path.join(self._path, new))
            self._answered = [*self._answered, asking.nonce][-visibility.ANSWERED_MAX :]

    def _show(self) -> None:
        """Writes our beat, under our lock: nobody sees the one without the other."""
        if self._lock is None or not self._is_mine():
            self._lock = self._open()
        if self._lock is None:
            return
        self._count += 1
        beat = Beat(self._around.host, self._count, tuple(self._answered))
        with contextlib.suppress(OSError):  # a full disk: somebody else's trouble, and the next beat tries again
            # Closed each time: on NFS that is when others get to see it.
            fd = os.open(self._file(self._me), os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "wb") as file:
                file.write(visibility.write_beat(beat))

    def _open(self) -> int | None:
        """Our file, locked; None when somebody tries our lock at this moment."""
        if self._lock is not None:
            os.close(self._lock)
        try:
            fd = os.open(self._file(self._me), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        if not _lock(fd):
            os.close(fd)
            return None
        return fd

    def _is_mine(self) -> bool:
        """Whether our file still stands under its name: one that was thought dead is swept."""
        assert self._lock is not None
        try:
            return os.path.samestat(os.stat(self._file(self._me)), os.fstat(self._lock))
        except OSError:
            return False

    # -- the asking ---------------------------------------------------------------------------------------------------

    async def _ask(self) -> None:
        clock = self._around.clock
        proof = Proof(self._around.chance.octets(16).hex(), clock.monotonic())
        old, new = (visibility.asking_name(seen, proof.nonce, self._me) for seen in (False, True))
        self._around.disk.make_directory(os.path.join(self._path, old))
        beaten_s = clock.monotonic()
        try:
            while (answer := proof.look(self._sight(old, new), clock.monotonic())) is Answer.OPEN:
                await asyncio.sleep(LOOK_S)
                if clock.monotonic() - beaten_s >= BEAT_S:
                    beaten_s = clock.monotonic()
                    self.beat()
            self._conclude(answer, proof)
        finally:
            self._remove(old)
            self._remove(new)

    def _sight(self, old: str, new: str) -> Sight:
        """A look at everything that counts, in the order that the judgement relies on."""
        beats = {replica: beat for replica in self._others() if (beat := self._read(replica))}
        new_name = os.path.isdir(os.path.join(self._path, new))
        return Sight(beats, new_name, old_name=os.path.isdir(os.path.join(self._path, old)))

    def _conclude(self, answer: Answer, proof: Proof) -> None:
        if answer is Answer.BROKEN:
            self._refuse(visibility.refusal(proof.reason))
        elif answer is Answer.UNPROVEN:
            self._around.events.warning("other machines share the volume, but are too slow to show what this one sees")
        for replica in proof.moving():
            if self._is_free(replica):
                reason = f"the lock of {replica.instance}, which lives on another machine, is not seen on this one"
                self._refuse(visibility.refusal(reason, visibility.LOCKS_FIX))
                return
        for replica in proof.still(self._around.clock.monotonic()):
            self._bury(replica)

    def _refuse(self, reason: str) -> None:
        if not self._around.unsafe:
            raise ConfigError([reason])
        self._around.events.warning(reason)

    # -- others' files ------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        try:
            with os.scandir(self._path) as entries:
                return [entry.name for entry in islice(entries, _ENTRIES_MAX)]
        except OSError:
            return []

    def _others(self) -> list[Replica]:
        """The replicas of other machines that may live. This machine before its last start is buried at once: nobody
        holds the lock, and the host's name, or ours, is the same."""
        found = []
        for name in self._names():
            replica = parse_replica(name)
            if replica is None or replica.node == self._me.node:
                continue
            beat = self._read(replica)
            ours = replica.instance == self._me.instance or (beat is not None and beat.host == self._around.host)
            if not ours or not self._bury(replica):
                found.append(replica)
        return found

    def _bury(self, replica: Replica) -> bool:
        """Removes the file of a replica whose lock is free. One that lives makes it again with its next beat."""
        if not self._is_free(replica):
            return False
        with contextlib.suppress(OSError):
            self._around.disk.unlink(self._file(replica))
        return True

    def _is_free(self, replica: Replica) -> bool:
        try:
            fd = os.open(self._file(replica), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return _lock(fd)
        finally:
            os.close(fd)

    def _read(self, replica: Replica) -> Beat | None:
        try:
            fd = os.open(self._file(replica), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return visibility.read_beat(os.read(fd, visibility.BEAT_MAX_OCTETS))
        except OSError:
            return None
        finally:
            os.close(fd)

    def _file(self, replica: Replica) -> str:
        return os.path.join(self._path, str(replica))

    def _remove(self, name: str) -> None:
        """Removes an asking, which is an empty directory."""
        with contextlib.suppress(OSError):
            self._around.disk.remove_directory(os.path.join(self._path, name))


def _lock(fd: int) -> bool:
    """Whether the lock was free; it is held until the descriptor is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
