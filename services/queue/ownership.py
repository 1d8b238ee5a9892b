"""Who owns which log: keeps ours, takes those whose owner is gone.

An owner shows life in three ways: a lock that the kernel drops when it dies (local file systems), a heartbeat file that
moves each second, a lease in Redis. `may_take` is the whole rule. A lease never stops an owner, and losing Redis robs
nobody: what counts is the name of the directory.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass

from runtime.config import EXIT_CONFIG
from runtime.durable import Disk
from runtime.serve import Process
from services.queue import records, strangers
from services.queue.dispatch import Dispatch
from services.queue.fence import RENEW_S, Fence, Lease
from services.queue.index import Index
from services.queue.log import NO_SPACE, LostLog
from services.queue.names import LogName
from services.queue.reclaim import reclaim
from services.queue.scrub import Scrub
from services.queue.spool import LOCK, Spool, try_lock
from services.queue.store import Store
from services.queue.takeover import Taken, Taker

HEARTBEAT_S = 1.0

# With no lease in sight a log is taken when its heartbeat has stood still for this long of our own monotonic clock.
STILL_S = 8.0

# The same when Redis cannot be asked: it may be us who are cut off.
STILL_WITHOUT_REDIS_S = 60.0
assert HEARTBEAT_S * 4 < STILL_S < STILL_WITHOUT_REDIS_S, "a busy owner is not taken for a dead one"

# A replica that starts beside others lets each come back to its own log before it takes what is free.
_SETTLE_S = 3.0

# A log of at most this size is asked for before a new one is made. With small messages its scan may still take long:
# new mail waits for it only so long, and then goes into a log of its own.
_QUICK_OCTETS = 128 * 1024 * 1024
_QUICK_S = 1.0

# A disk that was too full to take a log is asked again after this.
_FULL_AGAIN_S = 5.0

LOGS_MAX = 64  # one replica's share; more would mean that 64 others have died


def may_take(lock_is_free: bool, lease: Lease, still_s: float) -> bool:
    """Whether a log may be taken from its owner; `still_s`: seconds for which its heartbeat has not moved."""
    if lock_is_free:
        return True
    if lease is Lease.ABSENT:
        return still_s >= STILL_S
    return lease is Lease.UNREACHABLE and still_s >= STILL_WITHOUT_REDIS_S


@dataclass(slots=True)
class _Pulse:
    """The heartbeat of another's log as we last saw it, and since when."""

    beat: bytes
    since: float


class Ownership:
    """Keeps the logs of this replica and watches those of others."""

    def __init__(self, process: Process, spool: Spool, taker: Taker, fence: Fence) -> None:
        self._process = process
        self._spool = spool
        self._taker = taker
        self._fence = fence
        self._disk = Disk()
        self._locks: dict[str, int] = {}
        self._pulses: dict[LogName, _Pulse] = {}
        self._taking: set[str] = set()
        self._beat = 0
        self._heard = False

    async def start(self, store: Store, dispatch: Dispatch) -> None:
        """Takes our own logs, else a free one, else makes one: but never waits for a long scan before it takes mail."""
        self._spool.sweep(self._process.instance)
        strangers.tell(self._spool.path, self._process.events)
        names, _ = self._spool.logs()
        quick = [name for name in names if self._spool.octets(name) <= _QUICK_OCTETS]
        mine = [name for name in quick if name.owner == self._process.instance]
        begun = self._process.clock.monotonic()
        for name in (*mine, *quick):
            left_s = begun + _QUICK_S - self._process.clock.monotonic()
            if left_s > 0 and (name in mine or not store.ledgers):
                await asyncio.wait({self._process.keep(self._take_if_free(name, store, dispatch))}, timeout=left_s)
        while not store.ledgers and not self._process.stopping.is_set():
            await self._create(store)

    async def _create(self, store: Store) -> None:
        """A log of our own; on a full disk later."""
        log_id = self._process.chance.octets(4).hex()
        try:
            taken = self._taker.create(log_id, await self._fence.highest_token())
        except LostLog:
            return  # an empty log, and somebody took it: the next try makes another
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._process.events.alert("the spool is full: waiting for room to begin a log")
            await asyncio.sleep(_FULL_AGAIN_S)
            return
        self._hold_lock(taken)
        store.adopt(taken, Index())

    async def keep(self, store: Store, dispatch: Dispatch) -> None:
        """Beats, renews and watches until cancelled; nothing in here waits for the disk longer than a look takes."""
        started = self._process.clock.monotonic()
        renewed = 0.0
        while True:
            now = self._process.clock.monotonic()
            ours = [name for name in self._spool.logs()[0] if name.owner == self._process.instance]
            self._write_heartbeats(ours)
            if now - renewed >= RENEW_S:
                renewed = now
                await self._renew(ours)
            await self._look_at_others(store, dispatch, settled=now - started >= _SETTLE_S)
            await asyncio.sleep(HEARTBEAT_S)

    async def tidy(self, store: Store) -> None:
        """Looks after the disk until cancelled: free space, spares, what can be reclaimed, logs that are empty."""
        scrub = Scrub(self._spool, self._process.events, self._process.clock, self._process.chance)
        self._process.keep(scrub.keep(store.ledgers))
        while True:
            store.look_at_disk()
            await store.make_spares()
            await store.beat()
            for ledger in list(store.ledgers.values()):
                await reclaim(ledger, self._process.events)
            self._remove_empty(store)
            await asyncio.sleep(HEARTBEAT_S)

    async def _renew(self, ours: list[LogName]) -> None:
        """Tells Redis which logs are ours, and the operator when Redis stops or begins to hear it."""
        heard = all(await asyncio.gather(*(self._fence.renew(name.log, name.token) for name in ours)))
        if heard != self._heard:
            self._heard = heard
            self._process.events.fence(heard)

    async def release(self) -> None:
        """After the last write: others may take our logs at once."""
        await asyncio.gather(*(self._fence.release(log) for log in self._locks))
        await self._fence.close()
        for fd in self._locks.values():
            os.close(fd)

    def _remove_empty(self, store: Store) -> None:
        """Adopted logs take no new mail; once nothing in them is kept or remembered they are removed."""
        for log, ledger in list(store.ledgers.items())[1:]:
            if ledger.index.is_empty and ledger.commits.idle and log not in self._taking:
                store.drop(log)
                self._spool.remove_log(ledger.log.name)
                _close(self._locks.pop(log, None))
                self._process.events.removed_log(log)

    def _write_heartbeats(self, ours: list[LogName]) -> None:
        """Moves the counter of every log that is ours by name, also of one that is just being scanned. Not synced: it
        says that we live, not what we know.
        """
        self._beat += 1
        for name in ours:
            path = os.path.join(self._spool.log_path(name), "heartbeat")
            try:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(f"{self._process.instance} {self._beat:020}\n".encode())
            except OSError:
                continue  # a full disk; or renamed by another owner: the next commit's re-check says so

    # -- others' logs -------------------------------------------------------------------------------------------------

    async def _look_at_others(self, store: Store, dispatch: Dispatch, settled: bool) -> None:
        """Begins to take what may be taken, one log at a time; our own of an earlier life need no waiting."""
        names, _ = self._spool.logs()
        others = [name for name in names if name.log not in store.ledgers and name.log not in self._taking]
        self._pulses = {name: pulse for name, pulse in self._pulses.items() if name in others}
        if self._taking or len(store.ledgers) >= LOGS_MAX:
            return
        for name in others:
            if not settled and name.owner != self._process.instance:
                continue
            found, lock = self._try_lock(name)
            if found and (lock is not None or await self._may_be_overtaken(name)):
                self._process.keep(self._take(name, lock, store, dispatch))
                return

    async def _may_be_overtaken(self, name: LogName) -> bool:
        still_s = self._still_s(name)
        return still_s >= STILL_S and may_take(False, await self._fence.lease(name.log), still_s)

    def _still_s(self, name: LogName) -> float:
        """For how long the heartbeat of a log has stood still, as far as we have watched it."""
        now = self._process.clock.monotonic()
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in its place is not waited for
            with open(os.open(os.path.join(self._spool.log_path(name), "heartbeat"), flags), "rb") as file:
                beat = file.read(200) or b""
        except OSError:
            beat = b""
        pulse = self._pulses.get(name)
        if pulse is None or pulse.beat != beat:
            self._pulses[name] = _Pulse(beat, now)
            return 0.0
        return now - pulse.since

    def _try_lock(self, name: LogName) -> tuple[bool, int | None]:
        """Whether the log is still there by this name, and its lock when the kernel has dropped it."""
        try:
            return True, try_lock(self._spool.log_path(name))
        except FileNotFoundError:
            return False, None  # another taker was quicker

    async def _take_if_free(self, name: LogName, store: Store, dispatch: Dispatch) -> None:
        """Takes a log whose lock the kernel has dropped."""
        lock = self._try_lock(name)[1]
        if lock is not None:
            await self._take(name, lock, store, dispatch)

    async def _take(self, name: LogName, lock: int | None, store: Store, dispatch: Dispatch) -> None:
        """Takes a log and puts it to work; when another was quicker, or the disk is too full, nothing has happened."""
        index = Index()
        self._taking.add(name.log)
        try:
            hint = await self._fence.highest_token()
            taken = await asyncio.get_running_loop().run_in_executor(None, self._taker.take, name, hint, index.learn)
            taken.lock = lock
            self._hold_lock(taken)
            await dispatch.adopt(store.adopt(taken, index), taken.clean)
        except (FileNotFoundError, LostLog):
            _close(lock)
        except records.UnknownRecord as error:
            _close(lock)
            self._refuse(name, error)
        except OSError as error:
            _close(lock)
            if error.errno not in NO_SPACE:
                raise
            self._process.events.alert(f"the spool is too full to take log {name.log}: {error.strerror}")
            await asyncio.sleep(_FULL_AGAIN_S)
        finally:
            self._taking.discard(name.log)

    def _refuse(self, name: LogName, error: records.UnknownRecord) -> None:
        mistake = f"log {name} holds what this version does not know ({error}): start the newer Seapost"
        self._process.events.alert(mistake)
        self._process.stop(EXIT_CONFIG)

    def _hold_lock(self, taken: Taken) -> None:
        """Keeps the lock of a log; one of our own when it came without: a paused owner may hold the old file's."""
        if taken.lock is None:
            with contextlib.suppress(IsADirectoryError):  # a stranger in its place: then the heartbeat tells of us
                self._disk.replace_file(os.path.join(taken.log.path, LOCK), b"")
            taken.lock = try_lock(taken.log.path)
        if taken.lock is not None:
            self._locks[taken.log.name.log] = taken.lock


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
