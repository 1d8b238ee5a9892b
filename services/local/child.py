"""What runs as the user, in the user's home: deliver batches, look addresses up, sweep, until the front hangs up.

Everything that reads a .qmail file or writes a Maildir is here and below. It knows no network, no queue and no other
account. Whatever goes wrong with one job is that job's deferral.
"""

import functools
import mmap
import os
import socket
from collections.abc import Iterator

from mail.accounts import Account
from mail.limits import HEADER_MAX_OCTETS
from mail.maildir import delivery_name
from mail.outcome import Deferred, Failed
from runtime.clock import Chance, Clock, SystemChance, SystemClock
from runtime.durable import Disk
from runtime.offspring import Work
from services.local import batch, dotqmail, lookup, texts
from services.local.batch import Answer, Done, Question
from services.local.config import LocalConfig
from services.local.delivery import Attempt, Forwarding, Job, Owner
from services.local.publish import Copy, Publisher
from services.local.sweep import sweep

_RECEIVE_OCTETS = 256 * 1024


def work(config: LocalConfig) -> Work:
    """What local's spawner makes children for."""
    return Work(functools.partial(serve, config.time_scale))


def serve(time_scale: float, line: socket.socket, account: Account) -> None:
    """Answers questions until the front hangs up. The working directory is the home."""
    delivery = UserDelivery(Disk(), SystemClock(time_scale), SystemChance())
    while True:
        payload, fd = _receive(line)
        if payload is None:
            return
        question = batch.read_question(payload)
        with memoryview(_map(fd)) as bodies:
            answer = delivery.answer(question, bodies)
        line.sendall(batch.answer_frame(answer))


class UserDelivery:
    """Deliveries of one user. The process must be that user and stand in the home."""

    def __init__(self, disk: Disk, clock: Clock, chance: Chance) -> None:
        self._disk = disk
        self._clock = clock
        self._publisher = Publisher(disk, clock, chance)

    def answer(self, question: Question, bodies: memoryview) -> Answer:
        """Does what the question asks; `bodies` holds the messages that its jobs point into."""
        return Answer(
            done=tuple(self._deliver(question, bodies)),
            found=tuple(_found(dash, ext) for dash, ext in question.addresses),
            stay=tuple(sweep(self._disk, self._clock, path, question.settled) for path in question.sweep),
        )

    def _deliver(self, question: Question, bodies: memoryview) -> Iterator[Done]:
        if not question.jobs:
            return
        trouble = _home_trouble()
        attempts = [self._begin(job, question, bodies, trouble) for job in question.jobs]
        forgotten: set[int] = set()
        while waiting := _by_maildir(attempts):
            for path, wanted in waiting.items():
                forgotten.update(self._publish(path, wanted, question, bodies))
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
        if not found.content:
            return Attempt(job, dotqmail.parse(question.default_delivery.encode()))
        return Attempt(job, dotqmail.parse(found.content, found.forward_only))

    def _publish(
        self, path: str, wanted: list[tuple[int, Attempt]], question: Question, bodies: memoryview
    ) -> Iterator[int]:
        """Yields the numbers of those that may be second copies (window W5)."""
        copies = [_copy(attempt, bodies) for _, attempt in wanted]
        is_default = path in question.default_delivery.split("\n")
        self._publisher.publish(path, copies, make=is_default, crowded=question.crowded)
        for (number, attempt), copy in zip(wanted, copies, strict=True):
            maildir = attempt.next_file()
            if maildir is None or copy.trouble:
                attempt.defer(copy.trouble or texts.MAILDIR_TROUBLE)
                continue
            attempt.file_is_published(maildir, copy.name)
            if copy.forgotten:
                yield number


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


def _by_maildir(attempts: list[Attempt]) -> dict[str, list[tuple[int, Attempt]]]:
    """Which Maildir each unfinished attempt waits for; attempts at the same one are published together."""
    waiting: dict[str, list[tuple[int, Attempt]]] = {}
    for number, attempt in enumerate(attempts):
        maildir = attempt.next_file()
        if maildir is not None:
            waiting.setdefault(maildir.path, []).append((number, attempt))
    return waiting


def _copy(attempt: Attempt, bodies: memoryview) -> Copy:
    job, maildir = attempt.job, attempt.next_file()
    assert maildir is not None, "only attempts that wait for a Maildir are published"
    return Copy(
        name=delivery_name(job.arrived_s, job.message, job.recipient, maildir.index, job.cluster),
        head=(job.return_path() + job.delivered_to()).encode("utf-8", "surrogateescape"),
        body=bodies[job.start : job.end],
    )


def _finish(attempt: Attempt, forgotten: bool) -> Done:
    forwardings: tuple[Forwarding, ...] = ()
    if attempt.wants_to_forward():
        try:
            forwardings = (attempt.forwarding(_owner(attempt.job)),)
        except lookup.LookupTrouble as trouble:
            attempt.defer(str(trouble))
    assert attempt.outcome is not None, "every attempt ends with an outcome"
    return Done(attempt.outcome, tuple(attempt.done), forwardings, tuple(attempt.published), forgotten)


def _owner(job: Job) -> Owner:
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
