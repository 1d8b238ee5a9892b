"""The small process that makes users' children: forked before gRPC, uvloop and asyncio are imported, no network.

The front asks over a socketpair, in records of one fixed size, for "a child for account X". The spawner looks X up in
the account files itself, forks, and sends the front the other end of the child's socketpair. The child opens the home
while it may still pass closed parent directories, becomes the user for good, enters the home by that descriptor, says
how it went (GREETING) and serves. Knows nothing of what children do, and reads nothing a user controls.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import stat
import sys
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mail.accounts import Account, Shadow
from runtime import privilege
from runtime.accounts import Accounts, AccountsError, Places
from runtime.clock import SystemClock
from runtime.passwords import reference_of
from runtime.spawn import GREETING, REPLY, REQUEST, Purpose, Status

# Twice the warm children of a front: those that were told to end may still be ending.
CHILDREN_MAX = 128
ASKED_OCTETS = 200 * REQUEST.size  # on their way to here: the kernel doubles it, for its own records are as long
CROWD_MAX = 256  # requests that wait for one of them to end; the front gives up before they get old
ENDING_MAX = 8  # children of one account that were told to end and have not: its home hangs; others need the room
# Passwords being checked at once: each is a core's work for up to a quarter of a second; others wait in line.
CHECKS_MAX = 4
CHECKS_WAITING_MAX = 64
# A child whose front has hung up ends within this time, or is killed: its user may have stopped it.
GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Work:
    """What children do. `serve` runs as the user, in the home, until the socket ends; `authenticate` runs in a child
    without capabilities, gets None for an unknown account, and must take as long then: its third argument is a hash to
    spend that time on."""

    serve: Callable[[socket.socket, Account], None]
    authenticate: Callable[[Shadow | None, bytes, str], bool] | None = None


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
        front = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _run_to_the_end(lambda: _live(theirs, front, places, work))
        theirs.close()
        return cls(ours, pid, places)


@dataclass(slots=True, eq=False)
class _Process:
    """A process forked here. `line` is our copy of a child's socket end, which tells when the front hangs up; -1 when
    it has, and for a password check, whose `request` waits for the exit status."""

    pid: int
    pidfd: int
    account: Account | None
    line: int = -1
    ends_by: float | None = None
    request: tuple[int, str] | None = None


class _Loop:
    """One request after another; nothing in here waits for a child."""

    def __init__(self, control: socket.socket, accounts: Accounts, work: Work) -> None:
        self._control = control
        self._accounts = accounts
        self._work = work
        self._clock = SystemClock()
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._by_fd: dict[int, _Process] = {}  # by pidfd and by line
        self._waiting: list[tuple[int, str, bytes]] = []
        self._crowd: deque[tuple[int, str, Status]] = deque()  # who waits until a child has ended
        self._checking = 0

    def run(self) -> None:
        """Until the front hangs up."""
        while True:
            ready = [(fd, self._by_fd.get(fd)) for fd, _ in self._poll.poll(self._timeout_ms())]
            for fd, process in ready:
                if fd == self._control.fileno():
                    record = self._control.recv(REQUEST.size)
                    if not record:
                        return
                    self._take(record)
                elif process is None or self._by_fd.get(fd) is not process:
                    continue  # this turn has closed the descriptor, and perhaps given its number to another
                elif fd == process.pidfd:
                    self._ended(process)
                else:
                    self._hung_up(process)
            self._kill_overdue()

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
        living = [process for process in set(self._by_fd.values()) if process.account]
        if sum(1 for process in living if process.account == account and process.line < 0) >= ENDING_MAX:
            return self._reply(serial, Status.BUSY)
        if len(living) >= CHILDREN_MAX:
            self._crowd.append((serial, name, otherwise))
            return self._reply(self._crowd.popleft()[0], Status.BUSY) if len(self._crowd) > CROWD_MAX else None
        fronts, childs = socket.socketpair()
        with fronts, childs:
            made = self._fork(lambda: _become_child(childs, account, self._work), account)
            if made is None:
                return self._reply(serial, Status.BUSY)
            made.line = os.dup(childs.fileno())
            self._by_fd[made.line] = made
            self._poll.register(made.line, 0)  # POLLHUP is always told
            self._reply(serial, Status.OK, fronts)

    def _start_checks(self) -> None:
        while self._waiting and self._checking < CHECKS_MAX:
            serial, name, secret = self._waiting.pop(0)
            check = self._work.authenticate
            made = self._fork(lambda: _check(self._accounts, name, secret, check), None) if check else None  # noqa: B023
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
            _run_to_the_end(lambda: _follow(parent, child))
        process = _Process(pid, os.pidfd_open(pid), account)
        self._by_fd[process.pidfd] = process
        self._poll.register(process.pidfd, select.POLLIN)
        return process

    def _ended(self, process: _Process) -> None:
        self._forget(process.pidfd)
        if process.line >= 0:
            self._forget(process.line)
        _, status = os.waitpid(process.pid, 0)
        if process.request is not None:
            self._checking -= 1
            serial, name = process.request
            became = os.waitstatus_to_exitcode(status)
            if became == Status.OK:
                self._make_child(serial, name, Status.DENIED)
            else:
                known = became in (Status.DENIED, Status.UNREADABLE)
                self._reply(serial, Status(became) if known else Status.BUSY)
            self._start_checks()
        if process.account is not None and self._crowd:
            self._make_child(*self._crowd.popleft())

    def _hung_up(self, process: _Process) -> None:
        self._forget(process.line)
        process.line = -1
        process.ends_by = self._clock.monotonic() + GRACE_S

    def _forget(self, fd: int) -> None:
        self._poll.unregister(fd)
        del self._by_fd[fd]
        os.close(fd)

    def _timeout_ms(self) -> int | None:
        deadlines = [process.ends_by for process in self._by_fd.values() if process.ends_by is not None]
        return max(0, int((min(deadlines) - self._clock.monotonic()) * 1_000) + 1) if deadlines else None

    def _kill_overdue(self) -> None:
        now = self._clock.monotonic()
        for process in list(self._by_fd.values()):
            if process.ends_by is None or process.ends_by > now or process.account is None:
                continue
            process.ends_by = None
            account, pid = process.account, process.pid  # not reaped yet, so the number is still this process's
            try:
                os.kill(pid, signal.SIGKILL)
            except PermissionError:  # there is no CAP_KILL here: somebody with the user's own right does it
                self._fork(lambda: _kill_as(account, pid), None)  # noqa: B023

    def _reply(self, serial: int, status: Status, carried: socket.socket | None = None) -> None:
        socket.send_fds(self._control, [REPLY.pack(serial, status)], [carried.fileno()] if carried else [])


def _live(control: socket.socket, front: int, places: Places, work: Work) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the front gets them; we end when it does
    # SETUID and SETGID make children; no KILL, for a user's child is killed by a sibling of the same uid.
    privilege.seal((privilege.Capability.SETUID, privilege.Capability.SETGID))
    privilege.end_with_parent(front, signal.SIGKILL)
    gc.collect()
    gc.freeze()  # children share these pages instead of copying them at their first collection
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the front has gone
        _Loop(control, Accounts(places), work).run()


def _follow(parent: int, child: Callable[[], None]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    privilege.end_with_parent(parent, signal.SIGKILL)
    child()


def _become_child(sock: socket.socket, account: Account, work: Work) -> None:
    os.umask(0o077)
    line = socket.socket(fileno=_only_descriptor(sock.detach()))
    try:
        home = os.open(account.home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.fstat(home)
        if found.st_uid != account.uid or not stat.S_ISDIR(found.st_mode):
            return line.sendall(GREETING.pack(Status.NOT_OWNER, 0))
        privilege.become(account.uid, account.gid, account.groups)
        os.fchdir(home)
        os.close(home)
    except privilege.PrivilegeError as error:
        return line.sendall(GREETING.pack(Status.UNSAFE, error.errno or 0))
    except OSError as error:
        return line.sendall(GREETING.pack(Status.NO_HOME, error.errno or 0))
    line.sendall(GREETING.pack(Status.OK, 0))
    work.serve(line, account)


def _check(
    accounts: Accounts, name: str, secret: bytes, authenticate: Callable[[Shadow | None, bytes, str], bool]
) -> None:
    """Exits 0 when the password is right, otherwise with a Status. The hashes are in this process only."""
    try:
        found = accounts.shadow(name)  # read for unknown names too: the time must not tell who exists
        entry = found if accounts.find(name) is not None else None
        reference = reference_of(accounts.hashes())
    except AccountsError:
        os._exit(Status.UNREADABLE)
    privilege.seal(())
    os._exit(0 if authenticate(entry, secret, reference) and entry is not None else Status.DENIED)


def _kill_as(account: Account, pid: int) -> None:
    privilege.become(account.uid, account.gid, account.groups)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _only_descriptor(fd: int) -> int:
    """Moves the descriptor to 3 and closes every other but standard input, output and error."""
    os.dup2(fd, 3, inheritable=False) if fd != 3 else None
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    return 3


def _run_to_the_end(live: Callable[[], None]) -> None:
    """Runs in a fresh fork and never returns, whatever happens."""
    status = 1
    try:
        live()
        status = 0
    except BaseException:  # noqa: BLE001 - the top of a process
        traceback.print_exc()
    finally:
        os._exit(status)
