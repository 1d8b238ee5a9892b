"""What was promised against what is found after a crash, a power cut or damage: the judge of the storage tests.

Takes the log as the next owner would, and compares it with every line that lives of tests/harness/mailroom.py told.
`finish` then delivers what is left, so that in the end each recipient has exactly the copies that it should have.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mail import ids
from mail.ids import MessageId
from services.queue.index import Standing
from services.queue.log import DamagedBody
from services.queue.message import Message, State
from tests.harness import maildir
from tests.harness.mailroom import next_step
from tests.harness.office import DELIVERED, FAILED, FORWARDED, Office, Place, destiny

_BOUNCE = (0, 1_000_000, "bounce")  # services/queue/ledger.py: of what the id of a bounce is made
_FORWARD = (0, "friend@here.example")  # its instruction and target, from tests/harness/office.py
_GENERATIONS = 3  # a message, its forward, the bounce of that, and the bounce of the bounce
_STATES = {DELIVERED: State.DELIVERED, FORWARDED: State.DELIVERED, FAILED: State.FAILED}


@dataclass
class Told:
    """Everything that was told so far, by message."""

    offered: dict[str, int] = field(default_factory=dict)  # with the number of recipients
    committed: set[str] = field(default_factory=set)
    refusing: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    intended: set[tuple[str, int]] = field(default_factory=set)  # recipients whose end was reported
    settled: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)  # what, after how many attempts
    finished: set[str] = field(default_factory=set)
    children: set[str] = field(default_factory=set)
    lines: int = 0

    def learn(self, said: Iterable[list[Any]], promises: bool = True) -> None:
        """Adds lines; `promises` False: only what they say was intended."""
        for line in said:
            self.lines += 1
            if promises or line[0] in ("offer", "refusing", "settling"):
                self._learn(*line)

    def _learn(self, kind: str, message: str = "", *rest: Any) -> None:
        match kind:
            case "offer":
                self.offered[message] = rest[0]
            case "committed":
                self.committed.add(message)
            case "refusing":
                self.refusing.add(message)
            case "refused":
                self.refused.add(message)
            case "settling" if rest[1]:
                self.intended.add((message, rest[0]))
            case "settled":
                recipient, what, attempt, finished, children = rest
                self.settled[message, recipient] = (what, attempt)
                self.finished.update([message] if finished else [])
                self.children.update(children)


@dataclass
class Reckoning:
    """One look at a spool and its Maildir with everything that was told before. `broken` are the broken promises."""

    place: Place
    told: Told
    hit: frozenset[str] = frozenset()  # messages that damage has hit: they may be lost or stay, but never be altered
    scrub: bool = False
    broken: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)
    torn: int = 0
    _spare: set[str] = field(default_factory=set)  # what was hit, and what can come of it

    def __post_init__(self) -> None:
        self._spare = _family({name: self.told.offered.get(name, 1) for name in self.hit})

    def look(self) -> None:
        """Takes the log and compares. Leaves it to be taken again."""
        asyncio.run(self._work(None))

    def finish(self, reader: bool = False) -> None:
        """`look`, then resolves what is unknown, delivers what is left and counts the copies. `reader`: somebody has
        moved every message that was in new/ elsewhere meanwhile."""
        asyncio.run(self._work(reader))

    def assert_kept(self) -> None:
        assert not self.broken, f"{len(self.broken)} promises of {self.told.lines} lines broken:\n" + "\n".join(
            self.broken[:20]
        )

    async def _work(self, reader: bool | None) -> None:
        office = Office(self.place)
        self.torn = office.open().torn
        try:
            if self.scrub:
                await office.scrub()
            self._compare(office)
            self._look_for_copies(office)
            if reader is not None:
                if reader:
                    _read_everything(Path(self.place.maildir))
                await self._resolve(office)
                await self._drain(office)
                self._compare(office)
                self._count_copies(office)
        finally:
            self.alerts += office.events.alerts
            await office.close()

    # -- the queue ----------------------------------------------------------------------------------------------------

    def _compare(self, office: Office) -> None:
        live = {message.id for message in office.messages()}
        known = self._family()
        for name in {*self.told.offered, *self.told.refusing, *self.told.children}:
            standing = office.ledger.standing(MessageId(name))
            if name not in self._spare:
                self._judge(name, standing, live)
            self._judge_end(name, standing)
        for message in office.messages():
            if message.id not in known:
                self._break(f"a ghost: {message.id}")
            if message.id not in self._spare:
                self._judge_live(office, message)
        self._judge_children(office)

    def _judge(self, name: str, standing: Standing, live: set[MessageId]) -> None:
        told = self.told
        if (name in live) != (standing is Standing.LIVE):
            self._break(f"{name} is {standing} and live: {name in live}")
        if (
            name in told.refusing
            and standing is not Standing.REFUSED
            and (name in told.refused or standing is not Standing.UNKNOWN)
        ):
            self._break(f"refused, but {standing}: {name}")
        if name in told.committed | told.children and standing not in (Standing.LIVE, Standing.FINISHED):
            self._break(f"committed, but {standing}: {name}")
        if name in told.finished and standing is not Standing.FINISHED:
            self._break(f"finished, but {standing}: {name}")

    def _judge_end(self, name: str, standing: Standing) -> None:
        if standing is Standing.FINISHED:
            count = self.told.offered.get(name, 1)
            missing = [number for number in range(count) if (name, number) not in self.told.intended]
            if missing:
                self._break(f"an outcome was invented: {name} is finished, nobody reported {missing}")

    def _judge_live(self, office: Office, message: Message) -> None:
        for number, recipient in enumerate(message.recipients):
            key = (str(message.id), number)
            what, attempts = self.told.settled.get(key, ("", 0))
            if what and recipient.state is not _STATES[what]:
                self._break(f"{key} was {what}, but is {recipient.state}")
            if recipient.attempts < attempts:
                self._break(f"{key} had {attempts} attempts, but has {recipient.attempts}")
            if recipient.settled and key not in self.told.intended:
                self._break(f"an outcome was invented: {key} is {recipient.state}")
        try:
            body = office.ledger.body(message)
        except DamagedBody as error:
            self._break(f"damaged: {message.id}: {error}")
            return
        if not message.parent and not maildir.unpack(body).whole:
            self._break(f"altered in the queue: {message.id}")

    def _judge_children(self, office: Office) -> None:
        """A bounce exists exactly when its message is finished with a failure."""
        for name, count in self.told.offered.items():
            if name in self._spare or _child(MessageId(name), *_BOUNCE) in self._spare:
                continue
            standing = office.ledger.standing(MessageId(name))
            bounce = office.ledger.standing(_child(MessageId(name), *_BOUNCE))
            failed = any(destiny(MessageId(name), number, True)[1] == FAILED for number in range(count))
            if (bounce is not Standing.UNKNOWN) != (standing is Standing.FINISHED and failed):
                self._break(f"{name} is {standing}, its bounce is {bounce}")

    # -- the end ------------------------------------------------------------------------------------------------------

    async def _resolve(self, office: Office) -> None:
        """What nobody was told is settled now, once and for all."""
        told = self.told
        for name in {*told.offered, *told.refusing} - told.committed - told.refused - self._spare:
            answer = await office.resolve(MessageId(name))
            if answer is None:
                self._break(f"no answer: {name}")
            (told.committed if answer else told.refused).add(name)
        told.refusing |= told.refused

    async def _drain(self, office: Office) -> None:
        """Every delivery that is left, until nothing is queued."""
        while waiting := [message for message in office.messages() if message.id not in self._spare]:
            steps = [
                (message, number, next_step(message, number))
                for message in waiting
                for number, recipient in enumerate(message.recipients)
                if not recipient.settled
            ]
            troubles = office.publish([(message, number) for message, number, what in steps if what == DELIVERED])
            assert not any(troubles), troubles
            await asyncio.gather(*(self._settle(office, *step) for step in steps))
        for message in office.messages():  # those that damage has hit: whole, or not at all
            for number, recipient in enumerate(message.recipients):
                what = "" if recipient.settled else next_step(message, number)
                if what == DELIVERED and not any(office.publish([(message, number)])):
                    await self._settle(office, message, number, what)

    async def _settle(self, office: Office, message: Message, number: int, what: str) -> None:
        attempt = message.recipients[number].attempts + 1
        self.told.learn([["settling", message.id, number, what]])
        settlement = await office.settle(message, number, attempt, what)
        assert settlement is not None, "the disk is well"
        children = [child.id for child in settlement.children]
        self.told.learn([["settled", message.id, number, what, attempt, settlement.finished, children]])

    # -- the Maildir --------------------------------------------------------------------------------------------------

    def _look_for_copies(self, office: Office) -> None:
        """An outcome never counts before its copy is on the disk."""
        found = _copies(Path(self.place.maildir))
        for name in set(self.told.offered) - self._spare:
            message = office.message(MessageId(name))
            finished = office.ledger.standing(MessageId(name)) is Standing.FINISHED
            for number in range(self.told.offered[name]):
                done = finished if message is None else message.recipients[number].state is State.DELIVERED
                if done and destiny(MessageId(name), number, True)[1] == DELIVERED and not found[name, number]:
                    self._break(f"delivered, but nothing is there: {name} to {number}")

    def _count_copies(self, office: Office) -> None:
        """Now that nothing is queued: exactly one copy for each recipient that was to have one, and no other file."""
        found, family = _copies(Path(self.place.maildir)), self._family()
        for name in family:
            message = MessageId(name)
            finished = office.ledger.standing(message) is Standing.FINISHED
            may_forward = name in self.told.offered
            for number in range(self.told.offered.get(name, 1)):
                wanted = int(finished and destiny(message, number, may_forward)[1] == DELIVERED)
                if found[name, number] != wanted and (name not in self._spare or found[name, number] > 1):
                    self._break(f"{found[name, number]} copies, not {wanted}: {name} to {number}")
        for name, number in set(found):
            if name not in family:
                self._break(f"copies of what nobody sent: {name} to {number}")
        for path in _files(Path(self.place.maildir)):
            name, _ = _key(path.name)
            if name in self.told.offered and not maildir.unpack(path.read_bytes()).whole:
                self._break(f"altered: {path}")

    def _family(self) -> set[str]:
        """Every message that may be there."""
        return _family(self.told.offered)

    def _break(self, what: str) -> None:
        self.broken.append(what)


def _family(names: Mapping[str, int]) -> set[str]:
    """Messages with these numbers of recipients, and what can come of them."""
    young = {MessageId(name): count for name, count in names.items()}
    family = set(young)
    for _ in range(_GENERATIONS):
        bounces = {_child(name, *_BOUNCE): 1 for name in young}
        forwards = {_child(name, number, *_FORWARD): 1 for name in young for number in range(young[name])}
        young = bounces | forwards
        family |= set(young)
    return {str(name) for name in family}


@cache
def _child(parent: MessageId, recipient: int, instruction: int, target: str) -> MessageId:
    """The same ids are asked for in every state of a recording."""
    return ids.child_id(parent, recipient, instruction, target)


def _files(directory: Path) -> list[Path]:
    """What was published into the Maildir, also when somebody has moved it."""
    return [path for part in ("new", "cur", "taken") for path in sorted((directory / part).glob("*"))]


def _key(name: str) -> tuple[str, int]:
    """Of a copy's name the message and the recipient."""
    message, _, recipient = name.partition(".Q")[2].partition("R")
    return message, int(recipient.partition("I")[0])


def _copies(directory: Path) -> Counter[tuple[str, int]]:
    return Counter(_key(path.name) for path in _files(directory))


def _read_everything(directory: Path) -> None:
    with suppress(FileExistsError):
        (directory / "taken").mkdir(parents=True)
    for number, path in enumerate(sorted((directory / "new").glob("*"))):
        target = directory / "taken" / path.name
        path.rename(target if not target.exists() else target.with_name(f"{path.name}.{number}"))
