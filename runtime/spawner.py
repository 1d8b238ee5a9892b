"""The small process that makes users' children: forked before gRPC, uvloop and asyncio are imported, no network.

The front asks over a socketpair, in records of one fixed size, for "a child for account X". The spawner looks X up in
the account files itself, forks, and sends the front the other end of the child's socketpair; the child goes on in
runtime/offspring.py. Programs that a dead child leaves behind become the spawner's (child subreaper), which has them
ended by somebody of their own uid. Knows nothing of what children do, and reads nothing a user controls.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mail.accounts import Account
from runtime import offspring, privilege
from runtime.accounts import Accounts, AccountsError, Places
from runtime.clock import SystemClock
from runtime.offspring import Work
from runtime.spawn import REPLY, REQUEST, Purpose, Status

ASKED_OCTETS = 200 * REQUEST.size  # on their way to here: the kernel doubles it, for its own records are as long
CROWD_MAX = 256  # requests that wait for one of them to end; the front gives up before they get old
ENDING_MAX = 8  # children of one account that were told to end and have not: its home hangs; others need the room
# Passwords being checked at once: each is a core's work for up to a quarter of a second; others wait in line.
CHECKS_MAX = 4
CHECKS_WAITING_MAX = 64
# A child whose front has hung up ends within this time, or is killed: its user may have stopped it.
GRACE_S = 10.0
# How often somebody goes after the programs that a dead child left behind; each time for up to 3 s.
HUNTS_MAX = 5


@dataclass(frozen=True, slots=True)
class Spawner:
    """The front's handle: the socket to the spawner, its pid, and where it finds accounts (asked before root was given
    up, so the front reads the files in the same way)."""

    socket: socket.socket
    pid: int
    places: Places

    @classmethod
    def fork(cls, places: Places, work: Work) -> "Spawner":
        """Forks the spawner. Call it first of all: nothing with threads may be imported yet."""
        assert "grpc" not in sys.modules, "the spawner must be forked before gRPC is imported"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ASKED_OCTETS)
        pid = os.fork()
        if pid == 0:
            ours.close()
            offspring.run_to_the_end(lambda: _live(theirs, places, work))
        theirs.close()
        return cls(ours, pid, places)


@dataclass(slots=True, eq=False)
class _Process:
    """A process forked here. `line` is our copy of a child's socket end, which tells when the front hangs up; -1 when
    it has, and for others than children: a password check, whose `request` waits for the exit status, and who goes for
    the `hunt`-th time after what a child of `hunted` left behind."""

    pid: int
    pidfd: int
    account: Account | None
    line: int = -1
    ends_by: float | None = None
    request: tuple[int, str] | None = None
    hunted: Account | None = None
    hunt: int = 0


class _Loop:
    """One request after another; nothing in here waits for a child."""

    def __init__(self, control: socket.socket, accounts: Accounts, work: Work) -> None:
        self._control = control
        self._accounts = accounts
        self._work = work
        self._clock = SystemClock()
        self._poll = select.epoll()  # there may be a thousand children
        self._poll.register(control, select.EPOLLIN)
        self._by_fd: dict[int, _Process] = {}  # by pidfd and by line
        self._by_pid: dict[int, _Process] = {}
        self._living = 0  # children
        self._ending: set[_Process] = set()  # children whose front has hung up
        self._waiting: list[tuple[int, str, bytes]] = []
        self._crowd: deque[tuple[int, str, Status]] = deque()  # who waits until a child has ended
        self._checking = 0
        self._front_is_here = True

    def run(self) -> None:
        """Until the front has hung up and the children have ended: a program's family ends with them, not before."""
        while self._front_is_here or self._by_fd:
            ready = [(fd, self._by_fd.get(fd)) for fd, _ in self._poll.poll(self._timeout_s())]
            for fd, process in ready:
                if fd == self._control.fileno():
                    self._hear()
                elif process is None or self._by_fd.get(fd) is not process:
                    continue  # this turn has closed the descriptor, and perhaps given its number to another
                elif fd == process.pidfd:
                    self._reap()
                else:
                    self._hung_up(process)
            self._kill_overdue()

    def _hear(self) -> None:
        try:
            record = self._control.recv(REQUEST.size)
        except ConnectionResetError:
            record = b""
        if record:
            return self._take(record)
        self._front_is_here = False
        self._poll.unregister(self._control)
        self._waiting.clear()
        self._crowd.clear()

    def _take(self, record: bytes) -> None:
        if len(record) != REQUEST.size:
            return
        serial, purpose, name_size, secret_size, raw_name, raw_secret = REQUEST.unpack(record)
        name = raw_name[:name_size].decode("utf-8", "surrogateescape")
        if purpose == Purpose.CHILD:
            self._make_child(serial, name, Status.NO_ACCOUNT)
        elif purpose == Purpose.CHILD_IF_PASSWORD and len(self._waiting) < CHECKS_WAITING_MAX:
            self._waiting.append((serial, name, raw_secret[:secret_size]))
            self._start_checks()
        else:
            self._reply(serial, Status.BUSY)

    def _make_child(self, serial: int, name: str, otherwise: Status) -> None:
        try:
            account = self._accounts.find(name)
        except AccountsError:
            return self._reply(serial, Status.UNREADABLE)
        if account is None:
            return self._reply(serial, otherwise)
        if sum(1 for process in self._ending if process.account == account) >= ENDING_MAX:
            return self._reply(serial, Status.BUSY)
        if self._living >= self._work.children_max:
            self._crowd.append((serial, name, otherwise))
            return self._reply(self._crowd.popleft()[0], Status.BUSY) if len(self._crowd) > CROWD_MAX else None
        fronts, childs = socket.socketpair()
        with fronts, childs:
            made = self._fork(lambda: offspring.serve_as_user(childs, account, self._work), account)
            if made is None:
                return self._reply(serial, Status.BUSY)
            self._living += 1
            made.line = os.dup(childs.fileno())
            self._by_fd[made.line] = made
            self._poll.register(made.line, 0)  # EPOLLHUP is always told
            self._reply(serial, Status.OK, fronts)

    def _start_checks(self) -> None:
        while self._waiting and self._checking < CHECKS_MAX:
            serial, name, secret = self._waiting.pop(0)
            check = self._work.authenticate
            made = None
            if check:
                made = self._fork(lambda: offspring.check_password(self._accounts, name, secret, check), None)  # noqa: B023
            if made is None:
                self._reply(serial, Status.BUSY)
            else:
                made.request = (serial, name)
                self._checking += 1

    def _fork(self, child: Callable[[], None], account: Account | None) -> _Process | None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:
            return None
        if pid == 0:
            offspring.run_to_the_end(lambda: offspring.follow(parent, child))
        process = _Process(pid, os.pidfd_open(pid), account)
        self._by_fd[process.pidfd] = self._by_pid[pid] = process
        self._poll.register(process.pidfd, select.EPOLLIN)
        return process

    def _reap(self) -> None:
        """Takes all the dead away: ours, and of what we inherited those that nobody knows."""
        while self._by_pid:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            process = self._by_pid.pop(pid, None)
            if process is not None:
                self._ended(process, os.waitstatus_to_exitcode(status))

    def _ended(self, process: _Process, became: int) -> None:
        self._forget(process.pidfd)
        if process.line >= 0:
            self._forget(process.line)
        self._ending.discard(process)
        self._living -= process.account is not None
        if process.request is not None:
            self._checking -= 1
            serial, name = process.request
            if became == Status.OK:
                self._make_child(serial, name, Status.DENIED)
            else:
                known = became in (Status.DENIED, Status.UNREADABLE)
                self._reply(serial, Status(became) if known else Status.BUSY)
            self._start_checks()
        hunted = process.account or process.hunted
        if hunted is not None and became and process.hunt < HUNTS_MAX:
            self._hunt(hunted, process.hunt + 1)
        if process.account is not None and self._crowd:
            self._make_child(*self._crowd.popleft())

    def _hunt(self, account: Account, number: int) -> None:
        """A child that ends well has left nobody behind; this one was killed, perhaps by the program that it ran."""
        spawner = os.getpid()
        made = self._fork(lambda: offspring.end_lost(account, spawner), None)
        if made is not None:
            made.hunted, made.hunt = account, number

    def _hung_up(self, process: _Process) -> None:
        self._forget(process.line)
        process.line = -1
        process.ends_by = self._clock.monotonic() + GRACE_S
        self._ending.add(process)

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._by_fd[fd]
        os.close(fd)

    def _timeout_s(self) -> float | None:
        deadlines = [process.ends_by for process in self._ending if process.ends_by is not None]
        return max(0.0, min(deadlines) - self._clock.monotonic()) if deadlines else None

    def _kill_overdue(self) -> None:
        now = self._clock.monotonic()
        for process in list(self._ending):
            if process.ends_by is None or process.ends_by > now or process.account is None:
                continue
            process.ends_by = None
            account, pid = process.account, process.pid  # not reaped yet, so the number is still this process's
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:  # there is no CAP_KILL here: somebody with the user's own right does it
                self._fork(lambda: offspring.kill_as(account, pid), None)  # noqa: B023

    def _reply(self, serial: int, status: Status, carried: socket.socket | None = None) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the front has gone: we hear of it next
            socket.send_fds(self._control, [REPLY.pack(serial, status)], [carried.fileno()] if carried else [])


def _live(control: socket.socket, places: Places, work: Work) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the front gets them; we end when it does
    # SETUID and SETGID make children; no KILL, for a user's child is killed by a sibling of the same uid.
    privilege.seal((privilege.Capability.SETUID, privilege.Capability.SETGID))
    privilege.adopt_orphans()
    accounts = Accounts(places)
    accounts.prime()
    gc.collect()
    gc.freeze()  # children share these pages instead of copying them at their first collection
    _Loop(control, accounts, work).run()
