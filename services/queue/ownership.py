"""Who owns which log: keeps ours, takes those whose owner is gone.

An owner shows life in three ways: a lock that the kernel drops when it dies (local file systems), a heartbeat file that
moves each second, a lease in Redis. `may_take` is the whole rule. A lease never stops an owner, and losing Redis robs
nobody: what counts is the name of the directory.
"""

import asyncio
import os
from dataclasses import dataclass

from runtime.durable import Disk
from runtime.serve import Process
from services.queue.dispatch import Dispatch
from services.queue.fence import RENEW_S, Fence, Lease
from services.queue.index import Index
from services.queue.log import LostLog
from services.queue.names import LogName
from services.queue.reclaim import reclaim
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
        self._beat = 0
        self._heard = False

    async def start(self, store: Store, dispatch: Dispatch) -> None:
        """Takes our own log, else a free one, else makes one."""
        self._spool.sweep(self._process.instance)
        names, foreign = self._spool.logs()
        for stranger in foreign:
            self._process.events.warning(f"foreign name in the spool is ignored: {stranger}")
        mine = [name for name in names if name.owner == self._process.instance]
        for name in (*mine, *names):
            if name in mine or not store.ledgers:
                await self._take_if_free(name, store, dispatch)
        if not store.ledgers:
            log_id = self._process.chance.octets(4).hex()
            taken = self._taker.create(log_id, await self._fence.highest_token())
            self._hold_lock(taken)
            store.adopt(taken, Index())

    async def keep(self, store: Store, dispatch: Dispatch) -> None:
        """Beats, renews, watches and reclaims until cancelled."""
        started = self._process.clock.monotonic()
        renewed = 0.0
        while True:
            now = self._process.clock.monotonic()
            store.look_at_disk()
            self._write_heartbeats(store)
            if now - renewed >= RENEW_S:
                renewed = now
                await self._renew(store)
            if now - started >= _SETTLE_S and len(store.ledgers) < LOGS_MAX:
                await self._look_at_others(store, dispatch)
            for ledger in list(store.ledgers.values()):
                ledger.index.forget(self._process.clock.wall_ms(), self._process.clock.scaled(1.0))
                await reclaim(ledger, self._process.events)
            self._remove_empty(store)
            await asyncio.sleep(HEARTBEAT_S)

    async def _renew(self, store: Store) -> None:
        """Tells Redis which logs are ours, and the operator when Redis stops or begins to hear it."""
        leases = [self._fence.renew(log, ledger.log.name.token) for log, ledger in store.ledgers.items()]
        heard = all(await asyncio.gather(*leases))
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
            if ledger.index.is_empty and ledger.commits.idle:
                store.drop(log)
                self._spool.remove_log(ledger.log.name)
                os.close(self._locks.pop(log))
                self._process.events.removed_log(log)

    def _write_heartbeats(self, store: Store) -> None:
        """Moves the counter of each of our logs. Not synced: it says that we live, not what we know."""
        self._beat += 1
        for ledger in store.ledgers.values():
            try:
                path = os.path.join(ledger.log.path, "heartbeat")
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            except OSError:
                continue  # renamed by another owner: the next commit's re-check says so
            os.pwrite(fd, f"{self._process.instance} {self._beat:020}\n".encode(), 0)
            os.close(fd)

    async def _look_at_others(self, store: Store, dispatch: Dispatch) -> None:
        names, _ = self._spool.logs()
        others = [name for name in names if name.log not in store.ledgers]
        self._pulses = {name: pulse for name, pulse in self._pulses.items() if name in others}
        for name in others:
            if not await self._take_if_free(name, store, dispatch):
                still_s = self._still_s(name)
                if still_s >= STILL_S and may_take(False, await self._fence.lease(name.log), still_s):
                    await self._take(name, None, store, dispatch)

    def _still_s(self, name: LogName) -> float:
        """For how long the heartbeat of a log has stood still, as far as we have watched it."""
        now = self._process.clock.monotonic()
        try:
            with open(os.path.join(self._spool.log_path(name), "heartbeat"), "rb") as file:
                beat = file.read(200)
        except OSError:
            beat = b""
        pulse = self._pulses.get(name)
        if pulse is None or pulse.beat != beat:
            self._pulses[name] = _Pulse(beat, now)
            return 0.0
        return now - pulse.since

    async def _take_if_free(self, name: LogName, store: Store, dispatch: Dispatch) -> bool:
        """Takes a log whose lock the kernel has dropped; says whether the lock was free."""
        try:
            lock = try_lock(self._spool.log_path(name))
        except FileNotFoundError:
            return True  # another taker was quicker
        if lock is None:
            return False
        await self._take(name, lock, store, dispatch)
        return True

    async def _take(self, name: LogName, lock: int | None, store: Store, dispatch: Dispatch) -> None:
        index = Index()
        try:
            hint = await self._fence.highest_token()
            taken = await asyncio.get_running_loop().run_in_executor(None, self._taker.take, name, hint, index.learn)
        except (FileNotFoundError, LostLog):
            if lock is not None:
                os.close(lock)
            return
        taken.lock = lock
        self._hold_lock(taken)
        store.adopt(taken, index)
        dispatch.adopt(name.log, list(index.messages.values()), taken.clean)

    def _hold_lock(self, taken: Taken) -> None:
        """Keeps the lock of a log; one of our own when it came without: a paused owner may hold the old file's."""
        if taken.lock is None:
            self._disk.replace_file(os.path.join(taken.log.path, LOCK), b"")
            taken.lock = try_lock(taken.log.path)
        if taken.lock is not None:
            self._locks[taken.log.name.log] = taken.lock
