"""What runs as the user, in the user's home: deliver batches, look addresses up, sweep, until the front hangs up.

Everything that reads a .qmail file or writes a Maildir is here and below. A delivery that comes to a program is handed
back, and carried on in a child that is made for it and ends with it: nothing that a program does to its surroundings
touches another delivery. It knows no network, no queue and no other account. Whatever goes wrong with one job is that
job's deferral.
"""

import contextlib
import functools
import mmap
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from mail.accounts import Account
from mail.limits import HEADER_MAX_OCTETS
from mail.maildir import delivery_name
from mail.outcome import Deferred, Failed
from runtime import family
from runtime.clock import Chance, Clock, SystemChance, SystemClock
from runtime.durable import Disk
from runtime.offspring import Work
from services.local import batch, dotqmail, environment, lookup, texts, warmth
from services.local.batch import Answer, Done, Note, Question
from services.local.config import LocalConfig
from services.local.delivery import Attempt, Ending, Forwarding, Job, Owner, new_sender
from services.local.dotqmail import Maildir, Mbox, Program
from services.local.environment import Person
from services.local.mbox import Appender, Entry
from services.local.program import HungUp, Runner
from services.local.publish import Copy, Publisher
from services.local.sweep import sweep

_RECEIVE_OCTETS = 256 * 1024
_parse = functools.lru_cache(maxsize=16)(dotqmail.parse)  # a batch mostly has one file
_PROGRAMS_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "bin")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all users' children have in common; the directories are told to programs."""

    time_scale: float
    socket_dir: str
    control_dir: str
    as_root: bool  # then each user has a uid of its own

    def person(self, account: Account) -> Person:
        return Person(account.name, account.home, _PROGRAMS_DIR, self.socket_dir, self.control_dir)


def work(config: LocalConfig) -> Work:
    """What local's spawner makes children for. Called before anybody has given up root."""
    socket_dir = os.path.abspath(config.submit_dir) if config.submit_dir else ""
    around = Surroundings(config.time_scale, socket_dir, os.path.abspath(config.control_dir), os.geteuid() == 0)
    return Work(functools.partial(serve, around), warmth.children_max())


def serve(around: Surroundings, line: socket.socket, account: Account) -> None:
    """Answers questions until the front hangs up. The working directory is the home."""
    with contextlib.suppress(HungUp, BrokenPipeError, ConnectionResetError):
        _serve(around, line, account)
    # Whoever is left of a program's family is the spawner's, which looks when a child exits with a failure.
    if family.reap():
        os._exit(1)


def _serve(around: Surroundings, line: socket.socket, account: Account) -> None:
    clock = SystemClock(around.time_scale)
    user = UserDelivery(Disk(), clock, SystemChance(), Front(line))
    asked = False
    while True:
        payload, fd = _receive(line)
        if payload is None:
            return
        if asked and lookup.home_has_moved(account.home):
            return line.sendall(batch.LENGTH.pack(len(batch.MOVED)) + batch.MOVED)
        asked = True
        question = batch.read_question(payload)
        if question.limits is not None:
            runner = Runner(line, clock, question.limits, around.as_root)
            programs = Programs(runner, around.person(account), fd)
            with memoryview(_map(os.dup(fd))) as bodies:
                answer = user.answer(question, bodies, programs)
            return line.sendall(batch.answer_frame(answer))
        with memoryview(_map(fd)) as bodies:
            answer = user.answer(question, bodies)
        line.sendall(batch.answer_frame(answer))


class Front:
    """The front, as the child sees it: told what begins and what is done, and waited for before anything begins that
    cannot be done exactly once."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def begin(self, steps: list[tuple[int, int]], program: bool = False) -> None:
        self._line.sendall(batch.note_frame(Note(begins=tuple(steps), program=program)))
        if not self._line.recv(len(batch.GO)):
            raise HungUp

    def done(self, steps: list[tuple[int, int]]) -> None:
        if steps:
            self._line.sendall(batch.note_frame(Note(done=tuple(steps))))


@dataclass(frozen=True, slots=True)
class Programs:
    """How programs are run in this child. `message` is a descriptor of what they read."""

    runner: Runner
    person: Person
    message: int

    def run(self, attempt: Attempt, program: Program) -> Ending:
        told = environment.of_program(attempt.job, self.person, attempt.new_sender, attempt.default, program.index)
        return self.runner.run(program.command, told, self.message)


class UserDelivery:
    """Deliveries of one user. The process must be that user and stand in the home. Those for which it would have to
    wait are handed back when it has others to do: whose next step is a program, or a locked mbox."""

    def __init__(self, disk: Disk, clock: Clock, chance: Chance, front: Front) -> None:
        self._disk = disk
        self._clock = clock
        self._publisher = Publisher(disk, clock, chance)
        self._impatient, self._patient = Appender(disk, clock, patience=False), Appender(disk, clock)
        self._front = front

    def answer(self, question: Question, bodies: memoryview, programs: Programs | None = None) -> Answer:
        """Does what the question asks; `bodies` holds the messages that its jobs point into. Without `programs`, jobs
        that need one are handed back."""
        return Answer(
            done=tuple(self._deliver(question, bodies, programs)),
            found=tuple(_found(dash, ext) for dash, ext in question.addresses),
            stay=tuple(sweep(self._disk, self._clock, path, question.settled) for path in question.sweep),
        )

    def _deliver(self, question: Question, bodies: memoryview, programs: Programs | None) -> Iterator[Done]:
        if not question.jobs:
            return
        trouble = _home_trouble()
        attempts = [self._begin(job, question, bodies, trouble) for job in question.jobs]
        forgotten: set[int] = set()
        self._run(attempts, programs)
        while waiting := _by_file(attempts):
            for (kind, path), wanted in waiting.items():
                if kind is Maildir:
                    forgotten.update(self._publish(path, wanted, question, bodies))
                else:
                    self._append(path, wanted, bodies, patient=programs is not None)
            self._run(attempts, programs)
        for number, attempt in enumerate(attempts):
            yield _finish(attempt, number in forgotten)

    def _begin(self, job: Job, question: Question, bodies: memoryview, trouble: str) -> Attempt:
        if trouble:
            return _ended(job, Deferred(trouble))
        if is_looping(bodies[job.start : job.end], job.delivered_to().encode("utf-8", "surrogateescape")):
            return _ended(job, Failed(texts.LOOPING))
        found = lookup.find(job.dash, job.ext)
        if not isinstance(found, lookup.DotFile):
            return _ended(job, found)
        content, forward_only = found.content, found.forward_only
        if not content:
            content, forward_only = question.default_delivery.encode(), False
        instructions = _parse(content, forward_only)
        if all(isinstance(one, Maildir | Mbox) for one in instructions):  # they ask for nothing else
            return Attempt(job, instructions)
        try:
            sender = new_sender(job, _owner(job))
        except lookup.LookupTrouble as owner_trouble:
            return _ended(job, Deferred(str(owner_trouble)))
        default = environment.default_part(job.dash, job.ext, found.name) if found.name else None
        return Attempt(job, instructions, sender, default)

    def _publish(
        self, path: str, wanted: list[tuple[int, Attempt]], question: Question, bodies: memoryview
    ) -> Iterator[int]:
        """Yields the numbers of those that may be second copies (window W5)."""
        copies = [_copy(attempt, bodies) for _, attempt in wanted]
        is_default = path in question.default_delivery.split("\n")
        self._publisher.publish(path, copies, make=is_default, crowded=question.crowded)
        for (number, attempt), copy in zip(wanted, copies, strict=True):
            maildir = attempt.next_step()
            if not isinstance(maildir, Maildir) or copy.trouble:
                attempt.defer(copy.trouble or texts.MAILDIR_TROUBLE)
                continue
            attempt.maildir_is_published(maildir, copy.name)
            if copy.forgotten:
                yield number

    def _append(self, path: str, wanted: list[tuple[int, Attempt]], bodies: memoryview, patient: bool) -> None:
        entries: list[tuple[int, Attempt, Mbox, Entry]] = []
        for number, attempt in wanted:
            mbox = attempt.next_step()
            assert isinstance(mbox, Mbox), "only attempts that wait for an mbox are appended"
            entries.append((number, attempt, mbox, _entry(attempt, mbox, bodies)))
        self._front.begin([(number, mbox.index) for number, _, mbox, _ in entries])
        appender = self._patient if patient else self._impatient
        appender.append(path, [entry for *_, entry in entries])
        for _, attempt, mbox, entry in entries:
            if not entry.trouble:
                attempt.mbox_is_appended(mbox)
            elif entry.trouble == texts.SLOW_LOCK and not patient:
                attempt.set_aside()
            else:
                attempt.defer(entry.trouble)
        self._front.done([(number, mbox.index) for number, _, mbox, entry in entries if not entry.trouble])

    def _run(self, attempts: list[Attempt], programs: Programs | None) -> None:
        """Runs the programs whose turn it is, when they may be run here."""
        if programs is None:
            return
        for number, attempt in enumerate(attempts):
            while isinstance(program := attempt.next_step(), Program):
                before = len(attempt.done)
                self._front.begin([(number, program.index)], program=True)
                attempt.program_has_ended(program, programs.run(attempt, program))
                self._front.done([(number, index) for index in attempt.done[before:]])


def is_looping(message: memoryview, line: bytes) -> bool:
    """Whether the header has this very line, up to the first empty line (qmail-local, step 4)."""
    head = bytes(message[:HEADER_MAX_OCTETS])
    end = head.find(b"\n\n")
    head = b"" if head.startswith(b"\n") else b"\n" + (head if end < 0 else head[: end + 1])
    return b"\n" + line in head


def _home_trouble() -> str:
    try:
        return lookup.home_report()
    except OSError as error:
        return f"Unable to stat home directory: {texts.because(error.errno or 0)}. (#4.3.0)\n"


def _ended(job: Job, outcome: Deferred | Failed) -> Attempt:
    attempt = Attempt(job, ())
    attempt.outcome = outcome
    return attempt


def _by_file(attempts: list[Attempt]) -> dict[tuple[type, str], list[tuple[int, Attempt]]]:
    """Which Maildir or mbox each unfinished attempt waits for; attempts at the same one are made together."""
    waiting: dict[tuple[type, str], list[tuple[int, Attempt]]] = {}
    for number, attempt in enumerate(attempts):
        step = attempt.next_step()
        if isinstance(step, Maildir | Mbox) and not attempt.is_set_aside:
            waiting.setdefault((type(step), step.path), []).append((number, attempt))
    return waiting


def _copy(attempt: Attempt, bodies: memoryview) -> Copy:
    job, maildir = attempt.job, attempt.next_step()
    assert isinstance(maildir, Maildir), "only attempts that wait for a Maildir are published"
    return Copy(
        name=delivery_name(job.arrived_s, job.message, job.recipient, maildir.index, job.cluster),
        head=_head(job),
        body=bodies[job.start : job.end],
    )


def _entry(attempt: Attempt, mbox: Mbox, bodies: memoryview) -> Entry:
    job = attempt.job
    return Entry(environment.from_line(job), _head(job), bodies[job.start : job.end], attempt.copies_before(mbox))


def _head(job: Job) -> bytes:
    return (job.return_path() + job.delivered_to()).encode("utf-8", "surrogateescape")


def _finish(attempt: Attempt, forgotten: bool) -> Done:
    """What became of it; without an outcome when there is more to do, which is not done here."""
    unfinished = attempt.next_step() is not None
    assert unfinished or attempt.outcome is not None, "every attempt ends with an outcome"
    forwardings: tuple[Forwarding, ...] = (attempt.forwarding(),) if attempt.wants_to_forward() else ()
    return Done(attempt.outcome, tuple(attempt.done), forwardings, tuple(attempt.published), forgotten)


def _owner(job: Job) -> Owner:
    if job.sender in ("", "#@[]"):
        return Owner()
    owner, owner_default = dotqmail.owner_names(job.dash, job.ext)
    if not lookup.there(owner):
        return Owner()
    return Owner(True, lookup.there(owner_default))


def _found(dash: str, ext: str) -> bool | None:
    if dash and _home_trouble():  # what the delivery would say before it looks
        return None
    try:
        return lookup.exists(dash, ext)
    except lookup.LookupTrouble:
        return None


def _receive(line: socket.socket) -> tuple[bytes | None, int]:
    """(payload, descriptor of the bodies or -1); the payload is None when the front has hung up."""
    received, fds, _, _ = socket.recv_fds(line, _RECEIVE_OCTETS, 1, socket.MSG_CMSG_CLOEXEC)
    data = bytearray(received)
    fd = fds[0] if fds else -1
    while len(data) < batch.LENGTH.size or len(data) < batch.LENGTH.size + batch.LENGTH.unpack_from(data)[0]:
        more = line.recv(_RECEIVE_OCTETS) if data else b""
        if not more:
            return None, fd
        data += more
    return bytes(data[batch.LENGTH.size :]), fd


def _map(fd: int) -> mmap.mmap | bytes:
    if fd < 0:
        return b""
    try:
        return mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    except ValueError:  # what is empty cannot be mapped, but may be delivered
        return b""
    finally:
        os.close(fd)
