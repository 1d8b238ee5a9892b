"""Local that dies at every system call of a delivery: a Maildir gets one copy, a forward is made once, and what cannot
be done exactly once (an mbox, a program) is done at least once, with window W2 announced when it may be twice.

Five processes are struck: the front, the spawner, the user's warm child, the child that runs the programs, a program.
A sample of the calls; FAULT_ALL=1 takes all.
"""

import asyncio
import contextlib
import os
import re
import select
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pytest
import pytest_asyncio

from proto import work_pb2
from tests.harness import inspection, strace
from tests.harness.local_house import FRONT_UID, HOST, ROOT, TIMEOUT_S, House, message_id
from tests.harness.strace import Injection

ALL = os.environ.get("FAULT_ALL") == "1"
SAMPLES = 7  # of the calls of each process, and those that count
COUNTS = {"rename", "renameat2", "link", "linkat"}
ATTEMPTS_MAX = 6
# The first program waits at a gate when there is one, so that the test may reach into who runs it.
DOT = """./Maildir/
|echo "$DELIVERY_ID" >> first; if [ -p gate ]; then echo $PPID $$ > pids; read x < gate; fi; echo "$DELIVERY_ID" >> last
./Mailbox
|echo "$DELIVERY_ID" >> second; cat >> texts
&friend@far.example
"""
BODY = b"Subject: x\n\nFrom here on\nno more\n"
DELIVERED = work_pb2.Outcome.DELIVERED
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")
_NOT_STRUCK = {"exit_group", "restart_syscall", "rt_sigreturn", "clone", "execve"}

pytestmark = [
    pytest.mark.timeout(1_800),
    pytest.mark.skipif(not ROOT, reason="needs root: a process that gave up its rights may only be traced by root"),
]


@dataclass(slots=True)
class Mailroom:
    """A local service that is started again when it has died, and what it has been given."""

    house: House
    program: str
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000_000)))

    async def start(self) -> None:
        await self.house.start(EVENTS_DIR=str(self.house.state / "events"))

    def account(self) -> Path:
        """Somebody with a child that is warm and four instructions."""
        home = self.house.account()
        for part in ("", "tmp", "new", "cur"):
            (home / "Maildir" / part).mkdir(mode=0o700)
        self.house.write(home / ".qmail", DOT)
        self.house.write(home / ".qmail-warm", "# nothing\n")
        for path in (home / "Maildir", *(home / "Maildir").iterdir()):
            os.chown(path, home.stat().st_uid, home.stat().st_gid)
        return home

    async def warm(self, home: Path) -> int:
        """The pid of the user's child."""
        address = f"{home.name}-warm@{HOST}"
        delivery = self.house.queue.delivery(address)
        self.hand_out(delivery)
        assert await self._outcome(delivery) is not None
        assert self.house.process
        (child,) = inspection.of_uid(inspection.below(self.house.process.pid), home.stat().st_uid)
        return child

    async def recover(self) -> None:
        """The front or the spawner was struck: returns when the service has ended and runs again."""
        assert self.house.process
        with _death_of(self.house.process.pid) as death:
            await asyncio.wait_for(death, TIMEOUT_S)
        await self.house.stop()
        await self.start()

    async def finish(self, home: Path, number: int, first: work_pb2.Delivery) -> list[work_pb2.Outcome]:
        """Tries until it is delivered, as the queue does; every outcome that the queue has had."""
        outcomes: list[work_pb2.Outcome] = []
        delivery = first
        for _ in range(ATTEMPTS_MAX):
            outcome = await self._outcome(delivery)
            if outcome is not None:
                outcomes.append(outcome)
                if outcome.kind == DELIVERED:
                    return outcomes
            _fetch(home)
            done = outcomes[-1].done if outcomes else ()
            delivery = self.delivery(home, number, done)
            self.hand_out(delivery)
        return outcomes

    def delivery(self, home: Path, number: int, done: object = ()) -> work_pb2.Delivery:
        return self.house.queue.delivery(f"{home.name}@{HOST}", number=number, body=BODY, done=done)

    def hand_out(self, delivery: work_pb2.Delivery) -> None:
        self.house.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=[delivery]))

    async def _outcome(self, delivery: work_pb2.Delivery) -> work_pb2.Outcome | None:
        """None when the service has died; then it has been started again."""
        assert self.house.process
        outcome = asyncio.create_task(self.house.queue.outcome_of(delivery))
        with _death_of(self.house.process.pid) as death:
            await asyncio.wait((outcome, death), return_when=asyncio.FIRST_COMPLETED)
        if outcome.done():
            return outcome.result()[0]
        outcome.cancel()
        await self.house.stop()
        while not self.house.queue.said.empty():  # what was on its way goes nowhere: the queue hands it out anew
            self.house.queue.said.get_nowait()
        await self.start()
        return self.house.queue.outcomes.get((delivery.key, 0))  # it may have come with the last breath


def _fetch(home: Path) -> None:
    """Somebody reads this mail at once and takes it home: a second copy would find no first one."""
    (home / "fetched").mkdir(exist_ok=True)
    for path in (home / "Maildir" / "new").iterdir():
        path.rename(home / "fetched" / f"{path.name}.{len(os.listdir(home / 'fetched'))}")


@contextlib.contextmanager
def _death_of(pid: int) -> Iterator["asyncio.Future[None]"]:
    loop = asyncio.get_running_loop()
    death: asyncio.Future[None] = loop.create_future()
    pidfd = os.pidfd_open(pid)

    def has_ended() -> None:
        if not death.done():
            death.set_result(None)

    loop.add_reader(pidfd, has_ended)
    try:
        yield death
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


@dataclass(frozen=True, slots=True)
class Call:
    """The n-th call of its kind of a process."""

    name: str
    number: int

    @property
    def words(self) -> tuple[str, ...]:
        return Injection(self.name, "signal=KILL", str(self.number)).words


EVERYTHING = ("-s", "0", "-e", "trace=all", "-e", "signal=none")


def calls_in(report: Path) -> list[Call]:
    """Every call that strace saw of one thread; of several threads, of the busiest in each kind."""
    counts: dict[str, Counter[str]] = {}
    order: list[Call] = []
    for line in report.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match and match[1] not in _NOT_STRUCK:
            thread = line.split(" ")[0] if line[:1].isdigit() else ""
            counter = counts.setdefault(thread, Counter())
            counter[match[1]] += 1
            call = Call(match[1], counter[match[1]])
            if call not in order:
                order.append(call)
    return order


# -- one message, and who is struck while it is delivered -------------------------------------------------------------

WHO = ("front", "spawner", "child", "runner", "program")


@dataclass(frozen=True, slots=True)
class Story:
    """What has become of a message. `struck`: the process was not there any more in the end; `orphaned`: it was one
    that the service does not live without, and the service is still the same."""

    home: Path
    number: int
    outcomes: list[work_pb2.Outcome]
    seen: Path
    struck: bool
    orphaned: bool = False


async def tell(room: Mailroom, who: str, words: tuple[str, ...]) -> Story:
    """One message, with strace at one of the processes; tried until it is delivered."""
    home, number = room.account(), next(room.numbers)
    seen = room.house.state / f"calls-{number}"
    warm = await room.warm(home)
    assert room.house.process
    front = room.house.process.pid
    delivery = room.delivery(home, number)
    if who in ("runner", "program"):
        with await _at_the_gate(room, home, delivery) as gate:
            runner, shell = map(int, (home / "pids").read_text().split())
            pid = runner if who == "runner" else shell
            with strace.attached(room.program, pid, words, seen, alone=True), _watch(pid) as is_gone:
                with contextlib.suppress(BrokenPipeError), gate:  # it is dead already
                    gate.write("on\n")
                return Story(home, number, await room.finish(home, number, delivery), seen, is_gone())
    pid = {"child": warm, "front": front, "spawner": strace.child_of(front)}[who]
    with _watch(pid) as is_gone:
        with strace.attached(room.program, pid, words, seen, alone=who != "front"):
            room.hand_out(delivery)
            outcomes = await room.finish(home, number, delivery)
        orphaned = who in ("front", "spawner") and is_gone() and room.house.process.pid == front
        return Story(home, number, outcomes, seen, is_gone(), orphaned)


async def _at_the_gate(room: Mailroom, home: Path, delivery: work_pb2.Delivery) -> TextIO:
    """Returns when the first program waits; it goes on when something is written."""
    gate = home / "gate"
    os.mkfifo(gate)
    os.chown(gate, home.stat().st_uid, home.stat().st_gid)
    room.hand_out(delivery)
    opened = await asyncio.to_thread(gate.open, "w")
    gate.unlink()
    return opened


@contextlib.contextmanager
def _watch(pid: int) -> Iterator[Callable[[], bool]]:
    """Says whether the process has ended; a number that is used again does not confuse it."""
    pidfd = os.pidfd_open(pid)
    try:
        yield lambda: bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)


def faults(room: Mailroom, story: Story) -> list[str]:
    """What is not as it was promised."""
    home, name, outcomes = story.home, message_id(story.number), story.outcomes
    if not outcomes or outcomes[-1].kind != DELIVERED:
        return [f"was not delivered: {[outcome.report for outcome in outcomes]}"]
    found = []
    _fetch(home)
    maildir = [path.read_bytes() for path in (home / "fetched").iterdir()]
    head = f"Return-Path: <joe@far.example>\nDelivered-To: {home.name}@{HOST}\n".encode()
    found += [f"{len(maildir)} copies in the Maildir"] * (maildir != [head + BODY])
    forwards = [tuple(forward.recipients) for outcome in outcomes for forward in outcome.forwards]
    found += [f"forwards: {forwards}"] * (forwards != [("friend@far.example",)])
    entries = re.split(rb"(?m)^(?=From )", (home / "Mailbox").read_bytes())[1:]
    wanted = head + BODY.replace(b"\nFrom", b"\n>From") + b"\n"
    found += [f"a torn mbox: {entry!r}" for entry in entries if entry.partition(b"\n")[2] != wanted]
    ran = {part: (home / part).read_text().split() for part in ("first", "second")}
    found += [f"{part} was never run" for part, lines in ran.items() if not lines]
    found += [f"{part} was told another id: {lines}" for part, lines in ran.items() if len(set(lines)) > 1]
    # A program that failed is tried again, and that is no window: its end is known.
    known = sum(1 for outcome in outcomes if outcome.report.endswith("child crashed. (#4.3.0)\n"))
    again = len(entries) - 1 + sum(len(lines) - 1 for lines in ran.values()) - known
    announced = [event for event in room.house.named("possible-duplicate") if event["msg"] == name]
    found += [f"{again} times again, {len(announced)} times announced"] * (again > len(announced))
    return found


@pytest_asyncio.fixture
async def room(program: Callable[[str], str]) -> AsyncIterator[Mailroom]:
    made = Mailroom(House(), program("strace"))
    events = made.house.state / "events"
    events.mkdir()
    os.chown(events, FRONT_UID, FRONT_UID)
    try:
        await made.start()
        yield made
    finally:
        await made.house.close()


@pytest.mark.parametrize("who", WHO)
async def test_a_delivery_survives_the_death_of_a_process_at_every_call(room: Mailroom, who: str) -> None:
    story = await tell(room, who, EVERYTHING)
    assert faults(room, story) == []
    calls = calls_in(story.seen)
    assert len(calls) > SAMPLES
    every = -(-len(calls) // SAMPLES)
    chosen = calls if ALL else [call for number, call in enumerate(calls) if call.name in COUNTS or not number % every]
    wrong, struck = [], 0
    for call in chosen:
        story = await tell(room, who, call.words)
        wrong += [f"{who} at {call}: {fault}" for fault in faults(room, story)]
        struck += story.struck
        if story.orphaned:
            await room.recover()
    print(f"{who}: {struck} of {len(chosen)} calls, of {len(calls)}")
    assert not wrong, "\n".join(wrong)
    assert struck > len(chosen) // 2
