"""One owned log at work: messages go in, outcomes come in, and every change is committed before anybody is told.

Decides nothing about time or workers (plan.py, dispatch.py). A record changes the index through `Index.learn` only;
what becomes of a recipient is learned as soon as it is decided, so that two outcomes in one frame see each other, but
whatever others may see or do waits for the commit.
"""

import asyncio
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from mail.dsn import Wish
from mail.ids import MessageId
from mail.limits import BOUNCE_BODY_MAX_OCTETS
from mail.outcome import Kind
from runtime.clock import SystemClock
from services.queue import notices, records
from services.queue.commit import Commits
from services.queue.index import Index, Standing
from services.queue.log import INLINE_MAX_OCTETS, NO_SPACE, DamagedBody, Log, LostLog
from services.queue.message import Message
from services.queue.names import NOWHERE, Position
from services.queue.notices import Notices
from services.queue.rules import Rules
from services.queue.settlement import Moment, Reported, Settlement, child_of, decide, is_news, postponed
from services.queue.timekeeper import unrecorded

DAMAGED = "The message is damaged in the queue; somebody has to look at it. (#4.3.0)\n"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that wants in; what its sender wishes to be told as in `records.Accepted`."""

    id: MessageId
    sender: str
    recipients: tuple[str, ...]
    body: bytes
    uid: int
    envid: str = ""
    ret: str = ""
    wishes: tuple[Wish, ...] = ()


class NoSpace(Exception):
    """The disk has no room for a message, and nothing of it was written."""


Told = Callable[[Settlement | None], None]


class Ledger:
    """The log, its index and its commits."""

    def __init__(
        self, log: Log, index: Index, commits: Commits, rules: Rules, damaged: Callable[[MessageId, DamagedBody], None]
    ) -> None:
        self.time = unrecorded(SystemClock())  # until it is given the log's own
        self.log = log
        self.index = index
        self.commits = commits
        self.rules = rules
        self.cramped = False  # the disk is nearly full: nothing is caused that takes more room than an outcome
        self._damaged = damaged
        self._coming: dict[MessageId, list[Callable[[bool], None]]] = {}
        self._refusing: dict[MessageId, list[Callable[[bool], None]]] = {}

    # -- in -----------------------------------------------------------------------------------------------------------

    def standing(self, message: MessageId) -> Standing:
        """What is known of an id; LIVE also while its commit is under way."""
        return Standing.LIVE if message in self._coming else self.index.standing(message)

    def when_known(self, message: MessageId, then: Callable[[bool], None]) -> None:
        """Tells, of an id that is LIVE or FINISHED, whether it is committed: now, or when its commit is over."""
        if message in self._coming:
            self._coming[message].append(then)
        else:
            then(True)

    async def accept(self, incoming: Incoming, now_ms: int, then: Callable[[Message | None], None]) -> None:
        """Takes a message whose id is unknown; tells it once it is committed, or None when that is unknown. `now_ms` is
        the log's time, as everywhere here.

        NoSpace when a large body found no room on the disk: no frame names the id, nor will one.
        """
        self._coming[incoming.id] = []
        large = ""
        body = incoming.body
        if len(body) > INLINE_MAX_OCTETS:
            try:
                stored = await self.commits.in_order(lambda: self._store_large(incoming))
            except asyncio.CancelledError:  # the producer's stream broke: no frame names the id, nor will one
                self._tell(incoming.id, False)
                raise
            if stored == "":
                self._tell(incoming.id, False)
                raise NoSpace
            large, body = stored or "", b""
        said = records.Accepted(
            id=incoming.id,
            arrived_ms=now_ms,
            sender=incoming.sender,
            recipients=incoming.recipients,
            routes=tuple(map(self.rules.routing.route, incoming.recipients)),
            size=len(incoming.body),
            uid=incoming.uid,
            envid=incoming.envid,
            ret=incoming.ret,
            wishes=incoming.wishes,
            large=large,
            body=body,
        )
        self.commits.add([said], lambda positions: self._accepted(said, positions, then))

    def _store_large(self, incoming: Incoming) -> str:
        """The name of the stored body; "" when the disk has no room for it."""
        try:
            return self.log.store_large(incoming.id, incoming.body)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return ""

    def _accepted(
        self, said: records.Accepted, positions: list[Position] | None, then: Callable[[Message | None], None]
    ) -> None:
        message = self._learn_message(said, positions[0]) if positions else None
        then(message)
        self._tell(said.id, message is not None)

    def _tell(self, message: MessageId, committed: bool) -> None:
        for known in self._coming.pop(message, ()):
            known(committed)

    def refuse(self, message: MessageId, then: Callable[[bool], None]) -> None:
        """Commits a tombstone for an id that is unknown: it will never be taken. Tells whether it is committed."""
        tombstone = records.Refused(message)
        self._refusing[message] = [then]
        self.index.learn(tombstone, NOWHERE)
        self.commits.add([tombstone], lambda positions: self._refused(tombstone, positions))

    def _refused(self, tombstone: records.Refused, positions: list[Position] | None) -> None:
        if positions:
            self.index.learn(tombstone, positions[0])
        for then in self._refusing.pop(tombstone.id):
            then(positions is not None)

    def when_refused(self, message: MessageId, then: Callable[[bool], None]) -> None:
        """Tells, of an id that is REFUSED, whether its tombstone is committed: now, or when its commit is over."""
        if message in self._refusing:
            self._refusing[message].append(then)
        else:
            then(True)

    # -- out ----------------------------------------------------------------------------------------------------------

    def is_ours(self) -> bool:
        """Whether the log still has our name. One that slept may have lost it: then the next commit, made to come now,
        ends us, and until then nothing is given out that the new owner has given out before.
        """
        try:
            self.log.recheck()
        except LostLog:
            self.commits.add([], lambda positions: None)
            return False
        return True

    def body(self, message: Message) -> bytes:
        """The whole message; DamagedBody when the disk gave other octets than it was given."""
        inline = self.log.read(message.position, message.body_crc)
        return inline + self.log.read_large(message.large) if message.large else inline

    def report(self, message: Message, index: int) -> str:
        """The last report on a recipient: from memory, or from the log."""
        recipient = message.recipients[index]
        if recipient.report or recipient.told == NOWHERE:
            return recipient.report
        try:
            said = self.log.said(recipient.told)
        except DamagedBody as error:
            self._damaged(message.id, error)
            return ""
        settled = said.settled if isinstance(said, records.Snapshot) else (said,)
        return next((one.report for one in settled if isinstance(one, records.Settled) and one.recipient == index), "")

    def settle(self, reported: Reported, now_ms: int, then: Told) -> None:
        """Takes what a worker reports; tells what it led to once that is committed, or None when that is unknown.

        A report of something settled before changes nothing, and is told in its turn all the same.
        """
        message = self.index.get(reported.id)
        if message is None or not is_news(message, reported):
            self.commits.add([], lambda positions: then(None if positions is None else Settlement()), patient=True)
            return
        if self.cramped and (reported.forwards or reported.kind == Kind.FAILED):
            reported = postponed(reported)
        now = Moment(self.rules, self.time, now_ms, self.cramped)
        said: list[records.Said] = []
        try:
            body = self.log.read(message.position, message.body_crc) if reported.forwards else b""
            made = [child_of(message, reported, forward, body, now) for forward in reported.forwards]
            said += {child.id: child for child in made if self.standing(child.id) is Standing.UNKNOWN}.values()
        except DamagedBody as error:
            self._damaged(message.id, error)
            reported = replace(reported, kind=Kind.DEFERRED, report=DAMAGED)
        was_first = not message.recipients[reported.recipient].attempts
        settled = decide(message, reported, now)
        message.changing += 1
        self.index.learn(settled, NOWHERE)
        settlement = Settlement(message, settled)
        said[:0] = self._notify(message, settlement, was_first, now_ms)
        if message.settled:
            said += self._finish(message, settlement, now_ms)
        self._coming.update({one.id: [] for one in said if isinstance(one, records.Accepted)})
        self.commits.add(said, lambda positions: self._settled(settlement, said, positions, then), patient=True)

    def _settled(
        self, settlement: Settlement, said: list[records.Said], positions: list[Position] | None, then: Told
    ) -> None:
        if positions is None:
            then(None)
            return
        for one, position in zip(said, positions, strict=True):
            match one:
                case records.Accepted():
                    settlement.children.append(self._learn_message(one, position))
                    self._tell(one.id, True)
                case records.Settled():
                    self.index.committed(one, position)
                case records.Finished():
                    self.index.learn(one, position)
                    settlement.finished = True
        if message := settlement.message:
            message.changing -= 1
        if settlement.finished:
            self.drop_large(message)
        then(settlement)

    def _notify(self, message: Message, settlement: Settlement, was_first: bool, now_ms: int) -> list[records.Said]:
        """The record of an outcome, and behind it what tells of an arrival or of a delay."""
        settled = settlement.settled
        assert settled is not None
        # While the disk is nearly full nothing of the original goes with it: it takes little more than an outcome.
        about = self._notices(now_ms, _nothing if self.cramped else self._beginning)
        told: list[records.Said] = []
        if arrived := notices.arrived(message, settled.recipient, was_first):
            told.append(notice := about.success(message, arrived))
            settlement.notices[notice.id] = "success"
        born_ms = self.time.timeline.born_ms(message.arrived_ms, now_ms)
        age_s = (now_ms - born_ms) / (1_000 * self.rules.scale)
        waits = settled.kind == Kind.DEFERRED and not self.cramped
        if waits and (delayed := notices.delayed(message, age_s, self.rules.delaywarning_s)):
            told.append(notice := about.delay(message, delayed, born_ms))
            settlement.notices[notice.id] = "delay"
            settled = settlement.settled = replace(settled, warned=tuple(delayed))
            self.index.learn(settled, NOWHERE)
        return [settled, *told]

    def drop_large(self, ended: Message | None) -> None:
        """Removes the file of a message that has ended, when no other needs it."""
        if ended and ended.large and ended.large not in self.index.large_users:
            self.commits.later(lambda: self.log.remove_large(ended.large))

    def _finish(self, message: Message, settlement: Settlement, now_ms: int) -> list[records.Said]:
        """The end of a message, with the bounce for those recipients that failed."""
        said: list[records.Said] = [records.Finished(message.id)]
        if failed := notices.failed(message):
            made = self._notices(now_ms, self._beginning).failure(message, failed)
            if made:
                settlement.bounced_to = made.id
                said.insert(0, made)
            settlement.discarded = made is None
        return said

    def _notices(self, now_ms: int, content: Callable[[Message], bytes]) -> Notices:
        return Notices(self.rules, self.report, content, self.time.date_s, now_ms)

    def _beginning(self, message: Message) -> bytes:
        """As much of the original as a bounce may carry, and a little more, so that it is seen to be cut."""
        try:
            inline = self.log.read(message.position, message.body_crc)
            if message.large and len(inline) <= BOUNCE_BODY_MAX_OCTETS:
                return inline + self.log.read_large(message.large)[: BOUNCE_BODY_MAX_OCTETS + 1]
        except DamagedBody as error:
            self._damaged(message.id, error)
            return b""
        return inline

    def _learn_message(self, said: records.Accepted, position: Position) -> Message:
        """Makes a committed message known with the checksum that the scan would read, and without its body."""
        self.index.learn(said, position)
        message = self.index.get(said.id)
        assert message is not None, "it was learned in this moment"
        message.body_crc = zlib.crc32(said.body)
        return message

    async def release(self) -> None:
        """The last record of an orderly end: nothing is under way, so the next owner need not wait for anybody."""
        await self.commits.in_order(lambda: self.log.append([records.Released()]))


def _nothing(message: Message) -> bytes:
    return b""
