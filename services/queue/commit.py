"""Group commit: what gathers while one frame is being synced shares the next one.

A group is what must exist together or not at all. Groups are committed in the order in which they came, and told in
that order. After the first failure nothing more is written: everything waiting, and everything that comes, is unknown.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from services.queue import frame, records
from services.queue.log import FRAME_MAX_OCTETS, Log, LostLog
from services.queue.names import Position

# Called with the positions of the group's bodies once it is committed, or with None when that is unknown.
Then = Callable[[list[Position] | None], None]

# For how long an outcome waits for new mail to share its frame and its sync. Nobody waits for it but its slot's ack.
PATIENCE_S = 0.005

# Records are counted with this much for their fields, which are few and bounded by mail/limits.py.
_FIELDS_OCTETS = 512

# What may wait for the disk. More than this means that the disk is slower than the mail: new mail is refused for now.
WAITING_MAX_OCTETS = 128 * 1024 * 1024

T = TypeVar("T")


@dataclass(slots=True)
class _Group:
    said: list[records.Said]
    then: Then
    octets: int


class Commits:
    """The commit queue of one log. All work on the log's files goes through its one thread, in order."""

    def __init__(self, log: Log, failed: Callable[[Exception], None]) -> None:
        self._log = log
        self._failed = failed
        self._waiting: deque[_Group] = deque()
        self._wanted = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"log-{log.name.log}")
        self._broken = False
        self._poisoned = False  # the same, as the thread knows it
        self._writing = 0
        self._patience: asyncio.TimerHandle | None = None
        self._later: set[asyncio.Future[None]] = set()
        self.waiting_octets = 0

    def add(self, said: list[records.Said], then: Then, patient: bool = False) -> None:
        """Commits the group with the next frame. An empty group is told after all before it and a re-check.

        A patient one, for which no client waits, does not make a frame of its own before PATIENCE_S have passed.
        """
        if self._broken:
            then(None)
            return
        octets = sum(_octets(one) for one in said)
        self._waiting.append(_Group(said, then, octets))
        self.waiting_octets += octets
        if not patient:
            self._wanted.set()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._wanted.set)

    @property
    def idle(self) -> bool:
        """Whether nothing is being written and nothing waits to be."""
        return not self._waiting and not self._writing

    async def in_order(self, work: Callable[[], T]) -> T | None:
        """Runs work on the log's files in the thread that writes them; None when it, or anything before it, failed."""
        if self._broken:
            return None
        self._writing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, work)
        except (LostLog, OSError) as error:
            self._fail(error)
            return None
        finally:
            self._writing -= 1

    def _do(self, work: Callable[[], T]) -> T | None:
        """In the thread: what stands there behind a failure is not done, though the loop has not heard of it yet."""
        if self._poisoned:
            return None
        try:
            return work()
        except (LostLog, OSError):
            self._poisoned = True
            raise

    def later(self, work: Callable[[], None]) -> None:
        """As `in_order`, for work that nobody waits for."""
        task = asyncio.ensure_future(self.in_order(work))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def run(self) -> None:
        """Commits until cancelled or until the log fails."""
        while not self._broken:
            await self._wanted.wait()
            self._wanted.clear()
            if self._patience:
                self._patience.cancel()
                self._patience = None
            while self._waiting and not self._broken:
                await self._commit(self._next_groups())

    def close(self) -> None:
        """Ends the thread; what comes after this is not done."""
        self._broken = True
        self._thread.shutdown(wait=True)

    def _next_groups(self) -> list[_Group]:
        groups = [self._waiting.popleft()]
        octets = groups[0].octets
        while self._waiting and octets + self._waiting[0].octets <= FRAME_MAX_OCTETS:
            groups.append(self._waiting.popleft())
            octets += groups[-1].octets
        self.waiting_octets -= octets
        return groups

    async def _commit(self, groups: list[_Group]) -> None:
        said = [one for group in groups for one in group.said]
        positions = await self.in_order(lambda: self._write(said))
        if positions is None:
            for group in groups:
                group.then(None)
            return
        at = 0
        for group in groups:
            group.then(positions[at : at + len(group.said)])
            at += len(group.said)

    def _fail(self, error: Exception) -> None:
        """Nothing is written after a failure: what a failed sync left in the cache looks durable and is not."""
        if self._broken:
            return
        self._broken = True
        self._failed(error)
        while self._waiting:
            self._waiting.popleft().then(None)

    def _write(self, said: list[records.Said]) -> list[Position]:
        if said:
            return self._log.append(said)
        self._log.recheck()
        return []


def tell(future: "asyncio.Future[T]", value: T) -> None:
    """Answers somebody who waits, unless he has gone away: then his future is cancelled and takes nothing."""
    if not future.done():
        future.set_result(value)


def _octets(said: records.Said) -> int:
    match said:
        case records.Accepted():
            body = len(said.body)
        case records.Snapshot():
            body = len(said.message.body)
        case _:
            body = 0
    return frame.OVERHEAD_OCTETS + _FIELDS_OCTETS + body
