"""The logs that this replica owns, as one place: mail comes in here, and what is asked about it is answered here.

Between the rims (intake.py, dispatch.py, admin.py) and the ledgers. Refuses only before anything is written.
"""

import asyncio
import os
from collections.abc import Callable

from mail import address
from mail.ids import MessageId, born_ms
from mail.limits import RECIPIENTS_MAX, SPOOLED_MAX_OCTETS
from runtime.config import EXIT_IO, EXIT_TEMPORARY
from runtime.durable import Disk
from runtime.serve import Process
from services.queue.commit import WAITING_MAX_OCTETS, Commits, tell
from services.queue.index import ID_AHEAD_S, ID_OLDEST_S, Index, Standing, id_memory_ms
from services.queue.ledger import Incoming, Ledger, NoSpace
from services.queue.log import DamagedBody, LostLog
from services.queue.message import Message
from services.queue.rules import Rules
from services.queue.takeover import Taken
from services.queue.timekeeper import Timekeeper

# New mail is refused below this, so that outcomes can still be recorded: a twentieth of the volume, at most 2 GiB, at
# least four segments; and a thousand inodes.
_FREE_PART = 20
_FREE_MAX_OCTETS = 2 * 1024**3
_FREE_MIN_OCTETS = 256 * 1024**2
_FREE_INODES = 1_000

NOT_HERE = "451 4.3.2 this log is not kept here, please try again"
DRAINING = "451 4.3.2 the queue is closing, please try again"
BUSY = "451 4.3.2 the disk is slower than the mail, please try again"
FULL = "452 4.3.1 not enough disk space, please try again later"
STALE = "451 4.3.0 the message id is too old or from the future"
INVALID = "554 5.6.0 the queue cannot take such an envelope"
GONE = "451 4.3.0 this id was refused before"

# Called with None when the message is committed, else with an answer: UNKNOWN or the reply of a refusal.
Answer = Callable[[str | None], None]
UNKNOWN = "unknown"


class Store:
    """Every ledger of this replica."""

    def __init__(self, process: Process, rules: Rules, spool_path: str) -> None:
        self.rules = rules
        self.times = Timekeeper(process.clock, Disk(), process.events, id_memory_ms(process.clock.scaled(1.0)))
        self.ledgers: dict[str, Ledger] = {}
        self.draining = False
        self.on_message: Callable[[Message], None] = lambda message: None
        self.on_change: list[Callable[[], None]] = []
        self._process = process
        self._spool_path = spool_path
        self._low_space = False
        self._spares_missing = False
        self._tasks: list[asyncio.Task[None]] = []

    # -- logs ---------------------------------------------------------------------------------------------------------

    def adopt(self, taken: Taken, index: Index) -> Ledger:
        """Puts a log that is ours to work and tells everybody that it is here."""
        name = taken.log.name.log

        def failed(error: Exception) -> None:
            self._failed(name, error)

        commits = Commits(taken.log, failed)
        ledger = Ledger(taken.log, index, commits, self.rules, self._damaged)
        # A log that holds nothing has nothing to doubt: it begins anew.
        path = taken.log.path
        ledger.time = self.times.begin(path) if index.is_empty else self.times.resume(name, path)
        self.ledgers[name] = ledger
        self._tasks.append(self._process.keep(commits.run()))
        self._process.events.took_log(name, taken.log.name.token, len(index), taken.torn)
        for orphan in set(taken.log.large_names()) - index.large_users.keys():
            commits.later(lambda orphan=orphan: taken.log.remove_large(orphan))  # type: ignore[misc]
        self._changed()
        return ledger

    def drop(self, log: str) -> None:
        """Lets go of a log that is about to be removed."""
        ledger = self.ledgers.pop(log)
        ledger.commits.close()
        ledger.log.close()
        self._changed()

    def open_logs(self) -> list[str]:
        """The logs that take mail: the first one new mail, the others what was handed to them before."""
        return [] if self.draining else list(self.ledgers)

    def set_rules(self, rules: Rules) -> None:
        """After SIGHUP: how recipients that come from now on are routed."""
        self.rules = rules
        for ledger in self.ledgers.values():
            ledger.rules = rules

    def drain(self) -> None:
        """Takes no new mail from now on."""
        self.draining = True
        self._changed()

    async def close(self, clean: bool) -> None:
        """Ends the work on every log; a clean end is written into it, so that the next owner need not wait."""
        for ledger in list(self.ledgers.values()):  # one whose disk fails now is no longer among them
            if clean:
                await ledger.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for ledger in self.ledgers.values():
            ledger.commits.close()
            ledger.log.close()

    def look_at_disk(self) -> None:
        """Measures the free space; called each second, so that accepting does not."""
        found = os.statvfs(self._spool_path)
        size = found.f_blocks * found.f_frsize
        wanted = max(_FREE_MIN_OCTETS, min(size // _FREE_PART, _FREE_MAX_OCTETS))
        # A file system that says 0 inodes (btrfs) makes them as it goes.
        few_inodes = found.f_files > 0 and found.f_favail < _FREE_INODES
        low = found.f_bavail * found.f_frsize < min(wanted, size // 2) or few_inodes or self._spares_missing
        if low and not self._low_space:
            self._process.events.alert("the spool is nearly full: new mail is refused")
        self._low_space = low
        for ledger in self.ledgers.values():
            ledger.cramped = low

    async def beat(self) -> None:
        """Called each second: records the times of our logs, and forgets the ids that nobody may ask about any more.

        Ids are judged by the wall clock, for producers make them; so while it was set lately none is forgotten.
        """
        await self.times.beat({ledger.log.path: ledger.time for ledger in self.ledgers.values()})
        if self.times.may_forget():
            for ledger in self.ledgers.values():
                ledger.index.forget(self._process.clock.wall_ms(), self._process.clock.scaled(1.0))

    async def make_spares(self) -> None:
        """Sees to it that every log has its spare segment; a disk without room for one is full."""
        made = [await ledger.commits.in_order(ledger.log.make_spare) for ledger in list(self.ledgers.values())]
        self._spares_missing = False in made

    # -- mail in ------------------------------------------------------------------------------------------------------

    async def accept(self, log: str, incoming: Incoming, answer: Answer) -> None:
        """Takes a message, or repeats what became of it the last time."""
        ledger = self.ledgers.get(log)
        if ledger is None:
            answer(NOT_HERE)
            return
        standing = ledger.standing(incoming.id)
        if standing is Standing.REFUSED:
            ledger.when_refused(incoming.id, lambda committed: answer(GONE if committed else UNKNOWN))
        elif standing is not Standing.UNKNOWN:
            ledger.when_known(incoming.id, lambda committed: answer(None if committed else UNKNOWN))
        elif refusal := self._refusal(ledger, incoming):
            answer(refusal)
        else:
            try:
                await ledger.accept(incoming, ledger.time.now_ms(), lambda message: self._accepted(message, answer))
            except NoSpace:
                answer(FULL)

    def _accepted(self, message: Message | None, answer: Answer) -> None:
        if message is None:
            answer(UNKNOWN)
            return
        self.announce(message)
        self.on_message(message)
        answer(None)

    def announce(self, message: Message) -> None:
        """The two events with which a message begins."""
        self._process.events.new_msg(message.id)
        self._process.events.info_msg(message.id, message.size, message.sender, message.uid)

    def _refusal(self, ledger: Ledger, incoming: Incoming) -> str:
        """Why a message is not taken, as an SMTP reply; "" when it is. Nothing was written yet."""
        if self.draining:
            return DRAINING
        if self._low_space:
            return FULL
        if ledger.commits.waiting_octets > WAITING_MAX_OCTETS:
            return BUSY
        age_ms = self._process.clock.wall_ms() - born_ms(incoming.id)
        if not -self._horizon_ms(ID_AHEAD_S) <= age_ms <= self._horizon_ms(ID_OLDEST_S):
            return STALE
        addresses = (incoming.sender, *incoming.recipients)
        if not 1 <= len(incoming.recipients) <= RECIPIENTS_MAX or not all(map(address.acceptable, addresses)):
            return INVALID
        if len(incoming.body) > SPOOLED_MAX_OCTETS:
            return INVALID
        return ""

    def _horizon_ms(self, seconds: int) -> int:
        return int(self._process.clock.scaled(seconds) * 1_000)

    # -- what became of it --------------------------------------------------------------------------------------------

    async def resolve(self, log: str, message: MessageId) -> bool | None:
        """Whether an id is committed in the log: True, or False with a tombstone on the disk; None: ask another."""
        ledger = self.ledgers.get(log)
        if ledger is None:
            return None
        standing = ledger.standing(message)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if standing in (Standing.UNKNOWN, Standing.REFUSED):
            ask = ledger.refuse if standing is Standing.UNKNOWN else ledger.when_refused
            ask(message, lambda refused: tell(future, refused))
            return False if await future else None
        ledger.when_known(message, lambda committed: tell(future, committed))
        return True if await future else None

    def find(self, message: MessageId) -> tuple[str, Message] | None:
        """A message that is not finished, and its log."""
        for log, ledger in self.ledgers.items():
            found = ledger.index.get(message)
            if found:
                return log, found
        return None

    # -- trouble ------------------------------------------------------------------------------------------------------

    def _failed(self, log: str, error: Exception) -> None:
        """A log that failed or was lost ends this process: the next owner, often ourselves again, takes it over."""
        self.ledgers.pop(log, None)
        self._changed()
        if isinstance(error, LostLog):
            self._process.events.lost_log(log, str(error))
            self._process.stop(EXIT_TEMPORARY)
        else:
            self._process.events.alert(f"the spool's disk failed: {error}")
            self._process.stop(EXIT_IO)

    def _damaged(self, message: MessageId, error: DamagedBody) -> None:
        self._process.events.alert(f"msg {message} is damaged and stays in the queue: {error}")

    def _changed(self) -> None:
        for call in self.on_change:
            call()
