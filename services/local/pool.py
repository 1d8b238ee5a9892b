"""Warm children: one a user, kept for a while, at most so many, the least recently used goes first; and children that
are made for one delivery, because it runs a program.

Knows sockets, memory files and silence. A child that is dead, says nonsense or says nothing in time is `ChildGone`;
what it was asked may have happened or not, and asking again is safe.
"""

import asyncio
import fcntl
import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mail.accounts import Account
from runtime import family
from runtime.children import Children
from runtime.clock import Clock
from services.local import batch, warmth
from services.local.batch import Answer, BadFrame, Note, Question

# Children at work at once. More only wait for the same disk.
ACTIVE_MAX = 64
# Of one uid, which users/assign may give to hundreds of names: they count against the processes that a program of that
# uid may have (services/local/limits.py). Without root everybody has one uid, and nothing is counted.
UID_WARM_MAX = 32
# Their memory is bounded, and mail for one person comes every few minutes.
IDLE_S = 300.0
# A batch that takes longer than this hangs: a disk of which nobody knows when it answers.
SILENT_S = 120.0
# So much longer than its limit a program may seem to run: its family is ended, and its child may have to wait.
_LATE_S = family.ENDED_WITHIN_S + 1.5
_LOOK_EVERY_S = 10.0
_RECEIVE_OCTETS = 256 * 1024
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


Told = Callable[[Note], None]


class ChildGone(Exception):
    """The child died, or was given up. `silent`: it did not answer in time; `moved`: it has done nothing,
    for its home is another directory now."""

    def __init__(self, account: str, silent: bool, moved: bool = False) -> None:
        super().__init__(f"the child of {account} {'does not answer' if silent else 'has died'}")
        self.silent = silent
        self.moved = moved


@dataclass(slots=True)
class _Warm:
    """A user's place in the pool: the child, if there is one, and whose turn it is to ask."""

    account: Account
    line: socket.socket | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    active: bool = False
    wanted: int = 0
    used_at: float = 0.0


class Pool:
    """Asks users' children, making them when they are needed."""

    def __init__(self, children: Children, clock: Clock) -> None:
        self._children = children
        self._clock = clock
        self._warm: OrderedDict[Account, _Warm] = OrderedDict()  # least recently used first
        self._at_once = asyncio.Semaphore(ACTIVE_MAX)
        self._loop = asyncio.get_running_loop()
        self._warm_max = warmth.warm_max()
        self._own_uid = os.getuid()

    async def ask(
        self, account: Account, question: Question, bodies: Sequence[bytes] = (), told: Told = lambda note: None
    ) -> Answer:
        """The answer of the user's child; `told` gets its notes, each before what it says begins. ChildGone when the
        answer is not known; SpawnError when there is no child."""
        warm = self._warm.setdefault(account, _Warm(account))
        warm.wanted += 1
        try:
            async with warm.turn, self._at_once:
                warm.active = True
                try:
                    return await self._ask(warm, account, question, bodies, told)
                finally:
                    warm.active = False
        finally:
            warm.wanted -= 1
            warm.used_at = self._clock.monotonic()
            if warm.line is None and not warm.wanted:
                self._warm.pop(account, None)

    async def ask_apart(self, account: Account, question: Question, body: bytes, told: Told) -> Answer:
        """The same, of a child that is made for this question and ends with it. It waits for nobody's turn."""
        line = await self._children.child(account.key)
        try:
            return await self._converse(line, account, question, (body,), told)
        finally:
            line.close()

    async def run(self) -> None:
        """Ends children that nobody has asked for a while; until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            before = self._clock.monotonic() - IDLE_S
            for account in [one for one, warm in self._warm.items() if not warm.wanted and warm.used_at < before]:
                _hang_up(self._warm.pop(account))

    def close(self) -> None:
        """Hangs up on everybody; children end when they notice."""
        for warm in self._warm.values():
            _hang_up(warm)

    async def _ask(
        self, warm: _Warm, account: Account, question: Question, bodies: Sequence[bytes], told: Told
    ) -> Answer:
        if warm.account != account or (warm.line is not None and _is_dead(warm.line)):
            _hang_up(warm)  # the account has another uid or home now, or the child has ended
            warm.account = account
        if warm.line is not None:
            try:
                return await self._ask_it(warm, account, question, bodies, told)
            except ChildGone as gone:
                if not gone.moved:
                    raise
        return await self._ask_it(warm, account, question, bodies, told)

    async def _ask_it(
        self, warm: _Warm, account: Account, question: Question, bodies: Sequence[bytes], told: Told
    ) -> Answer:
        """The child that there is, or a new one."""
        self._warm.move_to_end(account)
        if warm.line is None:
            self._make_room(account.uid)
            warm.line = await self._children.child(account.key)
        try:
            return await self._converse(warm.line, account, question, bodies, told)
        except BaseException:  # lost, or cancelled between question and answer: this line cannot be used again
            _hang_up(warm)
            raise

    async def _converse(
        self, line: socket.socket, account: Account, question: Question, bodies: Sequence[bytes], told: Told
    ) -> Answer:
        buffer = bytearray()
        try:
            patience_s = SILENT_S
            async with asyncio.timeout(patience_s):
                await self._send(line, batch.question_frame(question), bodies)
            while True:
                async with asyncio.timeout(patience_s):
                    payload = await self._receive(line, buffer)
                if payload == batch.MOVED:
                    raise ChildGone(account.name, silent=False, moved=True)
                said = batch.read_said(payload, question)
                if isinstance(said, Answer):
                    return said
                patience_s = self._heard(line, question, said, told)
        except (OSError, BadFrame) as error:  # TimeoutError is an OSError
            raise ChildGone(account.name, isinstance(error, TimeoutError)) from error

    def _heard(self, line: socket.socket, question: Question, note: Note, told: Told) -> float:
        """Passes a note on; returns for how many seconds the child may be silent now."""
        told(note)
        if note.begins:
            line.send(batch.GO)
        if note.program and question.limits:
            return self._clock.scaled(question.limits.wall_s) + _LATE_S
        return SILENT_S

    def _make_room(self, uid: int) -> None:
        """Hangs up on the least recently used child that has nothing to do, when there are as many as may be."""
        lines = [warm for warm in self._warm.values() if warm.line is not None]
        kin = [warm for warm in lines if warm.account.uid == uid]
        if len(kin) >= UID_WARM_MAX and uid != self._own_uid:
            lines = kin
        elif len(lines) < self._warm_max:
            return
        idle = next((warm for warm in lines if not warm.active), None)
        if idle is not None:
            _hang_up(idle)
            if not idle.wanted:
                del self._warm[idle.account]

    async def _send(self, line: socket.socket, frame: bytes, bodies: Sequence[bytes]) -> None:
        fd = _memory_file(bodies) if bodies else -1
        try:
            sent = socket.send_fds(line, [frame], [fd] if fd >= 0 else [])
        finally:
            if fd >= 0:
                os.close(fd)
        if sent < len(frame):
            await self._loop.sock_sendall(line, memoryview(frame)[sent:])

    async def _receive(self, line: socket.socket, buffer: bytearray) -> bytes:
        """The next frame; what came after it stays in the buffer."""
        size = batch.LENGTH.size
        while len(buffer) < size or len(buffer) < (end := size + batch.LENGTH.unpack_from(buffer)[0]):
            if len(buffer) >= size and end > batch.FRAME_MAX_OCTETS:
                raise BadFrame("the answer is too long")
            more = await self._loop.sock_recv(line, _RECEIVE_OCTETS)
            if not more:
                raise ConnectionResetError
            buffer += more
        payload = bytes(buffer[size:end])
        del buffer[:end]
        return payload


def _memory_file(bodies: Sequence[bytes]) -> int:
    """The bodies one after another, in memory that nobody can change any more."""
    fd = os.memfd_create("bodies", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for body in bodies:
            rest = memoryview(body)
            while rest:
                rest = rest[os.write(fd, rest) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_dead(line: socket.socket) -> bool:
    """Whether the child has hung up since it was last asked; one that speaks unasked counts as dead."""
    try:
        line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _hang_up(warm: _Warm) -> None:
    if warm.line is not None:
        warm.line.close()
        warm.line = None
