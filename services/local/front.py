"""The front's side of local delivery: takes deliveries from the queue's stream and gives them to users' children.

While one batch of an account is under way the next gathers: the busier a mailbox, the fewer syncs a message. What comes
back unfinished, because a program is next, is carried on by itself (services/local/apart.py). Knows who answers for an
address and what to say when there is no child; sees no home, and no file that a user controls.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace

from mail import address
from mail.accounts import Account
from mail.outcome import Deferred, Delivered, Failed, Outcome
from runtime.accounts import AccountsError, AssignmentsError
from runtime.children import SpawnError
from runtime.config import EXIT_TEMPORARY
from runtime.durable import Disk
from runtime.serve import Process
from runtime.spawn import Status
from runtime.worker import Delivery, ForwardMail, Result, Target, Worker
from services.local import texts
from services.local.apart import Apart, Crowded
from services.local.batch import Done, Question
from services.local.config import Rules
from services.local.delivery import Job
from services.local.ownership import Ownership, Person, Unserved
from services.local.pool import ChildGone, Pool
from services.local.progress import Progress
from services.local.settlement import Settlement
from services.local.sweep import called
from services.local.underway import Underway

# One batch is one memory file and one round of syncs; more than this at once only makes the first wait for the last.
BATCH_JOBS_MAX = 64
BATCH_OCTETS_MAX = 8 * 1024 * 1024
# With more accounts at once than this, children sync their own files only: each syncfs(2) waits for all others' writes
# (measured on ext4, 20 users: 626 messages a second with it, 1,448 without).
LANES_TOGETHER_MAX = 2


@dataclass(slots=True)
class _Waiting:
    """One recipient of one delivery, the accounts that may answer for it, and the one whose turn it is."""

    delivery: Delivery
    target: Target
    persons: Iterator[Person]
    person: Person


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the front is told, whose part it is, and where it notes what it has begun (services/local/underway.py)."""

    rules: Rules
    process: Process
    underway_path: str


class Front:
    """Delivers what the worker takes."""

    def __init__(
        self, worker: Worker, pool: Pool, ownership: Ownership, settlement: Settlement, around: Surroundings
    ) -> None:
        self._worker = worker
        self._pool = pool
        process = around.process
        self._apart = Apart(process.clock, worker.offer_more)
        self._ownership = ownership
        self._settlement = settlement
        self._rules = around.rules
        self._events = process.events
        self._underway = Underway(around.underway_path, Disk(), process.clock)
        self._stop = process.stop
        self._lanes: dict[Account, deque[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Takes what the queue gives, until cancelled."""
        await self._worker.run(self.take, self.recorded)

    def take(self, deliveries: list[Delivery]) -> None:
        """Begins every delivery; each target is settled with the worker when its outcome is known."""
        for delivery in deliveries:
            self._settlement.took(delivery.key)
            for target in delivery.targets:
                self._begin(delivery, target)

    def recorded(self, delivery: Delivery) -> None:
        """The queue has recorded every outcome of this delivery."""
        for target in delivery.targets:
            self._underway.finish(called(delivery.id, target.index))

    def _begin(self, delivery: Delivery, target: Target) -> None:
        local, host = address.split(target.address)
        if not host:
            self._settle(delivery, target, Failed(texts.NO_HOST))
        elif not local:
            self._settle(delivery, target, Delivered(""))  # qmail-lspawn's trash address
        else:
            self._line_up(delivery, target, self._ownership.persons(local))

    def _line_up(self, delivery: Delivery, target: Target, persons: Iterator[Person]) -> None:
        """Into the lane of the next account that may answer for the address."""
        try:
            person = next(persons, None)
        except Unserved as unserved:
            return self._settle(delivery, target, Deferred(unserved.report))
        except AccountsError as error:
            self._events.warning(str(error))
            unread = isinstance(error, AssignmentsError)
            return self._settle(
                delivery, target, Deferred(texts.ASSIGN_UNREADABLE if unread else texts.ACCOUNTS_UNREADABLE)
            )
        if person is None:
            return self._settle(delivery, target, Deferred(texts.NO_ALIAS))
        waiting = _Waiting(delivery, target, persons, person)
        lane = self._lanes.get(person.account)
        if lane is not None:
            lane.append(waiting)
            return
        self._lanes[person.account] = deque((waiting,))
        self._start(self._run_lane(person.account))

    def _start(self, lane: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(lane)
        self._tasks.add(task)
        task.add_done_callback(self._lane_ended)

    async def _run_lane(self, account: Account) -> None:
        """One batch after another, until nothing waits for this account."""
        lane = self._lanes[account]
        while lane:
            # What arrives in this turn of the loop still comes along.
            await asyncio.sleep(0)
            wanted = [one for one in _next_batch(lane) if self._may_begin(one)]
            if wanted:
                await self._deliver(account, wanted)
        del self._lanes[account]

    async def _deliver(self, account: Account, wanted: list[_Waiting]) -> None:
        jobs, bodies = _jobs(wanted)
        progress = self._progress(wanted)
        try:
            crowded = len(self._lanes) > LANES_TOGETHER_MAX
            question = Question(jobs=jobs, default_delivery=self._rules.default_delivery, crowded=crowded)
            answer = await self._pool.ask(account, question, bodies, progress.told)
        except SpawnError as error:
            return self._no_child(account, wanted, error)
        except ChildGone as gone:
            return self._lost_child(account, wanted, progress, gone, texts.MAILDIR_TIMEOUT)
        self._ownership.learn(account, True)
        for one, done in zip(wanted, answer.done, strict=True):
            if done.outcome is None:
                self._note_published(account, one, done)
                target = replace(one.target, done=done.done)
                self._start(self._carry_on(account, replace(one, target=target)))
            else:
                self._finish(account, one, done, done.outcome)

    async def _carry_on(self, account: Account, one: _Waiting) -> None:
        """The rest of one delivery, which begins with a program."""
        jobs, bodies = _jobs([one])
        progress = self._progress([one])
        question = Question(jobs=jobs, default_delivery=self._rules.default_delivery, limits=self._rules.limits)
        try:
            async with self._apart.turn(account, len(bodies[0])):
                if not self._may_begin(one):
                    return
                answer = await self._pool.ask_apart(account, question, bodies[0], progress.told)
        except Crowded:
            return self._settle(one.delivery, one.target, Deferred(texts.PROGRAMS_BUSY))
        except SpawnError as error:
            return self._no_child(account, [one], error)
        except ChildGone as gone:
            silent = texts.program_timeout(self._rules.limits.wall_s)  # it has stopped its own child
            return self._lost_child(account, [one], progress, gone, silent)
        done = answer.done[0]
        assert done.outcome is not None, "read_said lets no other pass"
        self._finish(account, one, done, done.outcome)

    def _progress(self, wanted: list[_Waiting]) -> Progress:
        return Progress([(one.delivery.id, one.target.index) for one in wanted], self._underway, self._events)

    def _lane_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug: the lane's deliveries would wait for ever. The next start takes them up again.
            self._events.alert(f"a lane has ended with {error!r}")
            self._stop(EXIT_TEMPORARY)

    def _may_begin(self, one: _Waiting) -> bool:
        if self._worker.may_proceed(one.delivery):
            return True
        self._settle(one.delivery, one.target, Deferred(texts.OUT_OF_CONTACT))
        return False

    def _no_child(self, account: Account, wanted: list[_Waiting], error: SpawnError) -> None:
        if error.status is Status.NOT_OWNER:  # then this is no mail account, and the next best answers
            self._ownership.learn(account, False)
            for one in wanted:
                self._line_up(one.delivery, one.target, one.persons)
            return
        self._events.warning(f"no child for {account.name}: {error}", account=account.name, deliveries=len(wanted))
        for one in wanted:
            self._settle(one.delivery, one.target, Deferred(report_of(account, error)))

    def _lost_child(
        self, account: Account, wanted: list[_Waiting], progress: Progress, gone: ChildGone, silent: str
    ) -> None:
        """Ignorance means later: the next attempt finds out what this one did."""
        self._events.warning(str(gone), account=account.name, deliveries=len(wanted))
        report = silent if gone.silent else texts.CRASHED
        for number, one in enumerate(wanted):
            self._settlement.deferred(called(one.delivery.id, one.target.index))
            target = replace(one.target, done=(*one.target.done, *progress.lost(number)))
            self._settle(one.delivery, target, Deferred(report))

    def _finish(self, account: Account, one: _Waiting, done: Done, outcome: Outcome) -> None:
        delivery = one.delivery
        self._note_published(account, one, done)
        what = called(delivery.id, one.target.index)
        if isinstance(outcome, Deferred):
            self._settlement.deferred(what)
        else:
            self._settlement.finished(what)
        forwards = tuple(
            ForwardMail(made.sender, made.recipients, made.header, made.instruction) for made in done.forwardings
        )
        self._worker.settle(delivery, (Result(one.target.index, outcome, done.done, forwards),))

    def _note_published(self, account: Account, one: _Waiting, done: Done) -> None:
        for path, name in done.published:
            self._events.published(one.delivery.id, account.name, name)
            self._settlement.published(account.key, path)
        if done.forgotten:
            self._events.possible_duplicate("W5", one.delivery.id)

    def _settle(self, delivery: Delivery, target: Target, outcome: Outcome) -> None:
        self._worker.settle(delivery, (Result(target.index, outcome, target.done),))


def report_of(account: Account, error: SpawnError) -> str:
    """What a deferral says when the user's child could not be made."""
    match error.status:
        case Status.NO_HOME:
            return texts.no_home(account.home, error.errno)
        case Status.UNREADABLE:
            return texts.ACCOUNTS_UNREADABLE
        case Status.UNSAFE:
            return texts.UNSAFE
        case _:
            return texts.NO_CHILD


def _next_batch(lane: deque[_Waiting]) -> list[_Waiting]:
    """What goes together: bounded in number and octets, but always at least one."""
    batch: list[_Waiting] = []
    octets = 0
    while lane and len(batch) < BATCH_JOBS_MAX:
        octets += len(lane[0].delivery.body)
        if batch and octets > BATCH_OCTETS_MAX:
            break
        batch.append(lane.popleft())
    return batch


def _jobs(wanted: list[_Waiting]) -> tuple[tuple[Job, ...], list[bytes]]:
    """The jobs, and the bodies they point into; a body that several recipients get is there once."""
    jobs: list[Job] = []
    bodies: list[bytes] = []
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for one in wanted:
        delivery = one.delivery
        if delivery.key not in places:
            places[delivery.key] = (end, end + len(delivery.body))
            end += len(delivery.body)
            bodies.append(delivery.body)
        local, host = address.split(one.target.address)
        start, stop = places[delivery.key]
        jobs.append(
            Job(
                message=delivery.id,
                recipient=one.target.index,
                arrived_s=delivery.arrived_ms // 1_000,
                cluster=delivery.cluster,
                sender=delivery.sender,
                local=local,
                host=host,
                dash=one.person.dash,
                ext=one.person.ext,
                done=one.target.done,
                start=start,
                end=stop,
            )
        )
    return tuple(jobs), bodies
