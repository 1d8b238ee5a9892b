"""Runs one program of a .qmail file, as qmail-command(8) says, and ends everything that it started.

Runs in a child that was made for one delivery, as the user and in the home, and that sees the front hang up. The
program has a session, limits and an environment of its own, the message from its first octet on descriptor 0, a pipe on
1 and 2, and no other descriptor; what of its family is alive when it ends, ends with it (runtime/family.py).
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Mapping

from runtime import family, privilege
from runtime.clock import Clock
from services.local import texts
from services.local.delivery import Ending
from services.local.limits import ProgramLimits

SHELL = "/bin/sh"
# Users' programs give way to the services when both want the processor.
NICE = 5
_CANNOT_RUN = 111
_READ_OCTETS = 64 * 1024


class HungUp(Exception):
    """The front is gone: nobody wants to know any more. Nothing of the program is left."""


class Runner:
    """Runs programs, one after another. `line` leads to the front; `own_uid`: the uid is the user's alone."""

    def __init__(self, line: socket.socket, clock: Clock, limits: ProgramLimits, own_uid: bool) -> None:
        self._line = line
        self._clock = clock
        self._limits = limits
        self._own_uid = own_uid
        self._room = limits.output  # octets of output that are still kept
        privilege.adopt_orphans()

    def run(self, command: str, environment: Mapping[bytes, bytes], message: int) -> Ending:
        """Runs the command to its end, or to the limit of time; `message` is a descriptor of what it reads."""
        try:
            stdin = os.open(f"/proc/self/fd/{message}", os.O_RDONLY | os.O_CLOEXEC)  # a position of its own
        except OSError as error:
            return Ending(trouble=texts.cannot_rewind(error.errno or 0))
        try:
            output, theirs = os.pipe2(os.O_CLOEXEC)
            try:
                pid = self._fork(command, environment, stdin, theirs)
            except OSError as error:
                os.close(output)
                return Ending(trouble=texts.cannot_fork(error.errno or 0))
            finally:
                os.close(theirs)
        finally:
            os.close(stdin)
        with open(output, "rb", buffering=0) as pipe:
            return self._follow(pid, pipe.fileno())

    def _fork(self, command: str, environment: Mapping[bytes, bytes], stdin: int, output: int) -> int:
        parent = os.getpid()
        words = (SHELL.encode(), b"-c", command.encode("utf-8", "surrogateescape"))
        pid = os.fork()
        if pid:
            return pid
        try:
            privilege.end_with_parent(parent, signal.SIGKILL)
            os.setsid()
            for fd, number in ((stdin, 0), (output, 1), (output, 2)):
                os.dup2(fd, number)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            _forget_signals()
            os.nice(NICE)
            self._limits.apply(self._own_uid)
            os.execve(SHELL, words, environment)
        except OSError as error:
            os.write(2, texts.cannot_run_shell(error.errno or 0).encode())
        finally:
            os._exit(_CANNOT_RUN)

    def _follow(self, pid: int, pipe: int) -> Ending:
        os.set_blocking(pipe, False)
        ends_by = self._clock.monotonic() + self._clock.scaled(self._limits.wall_s)
        said: list[bytes] = []
        pidfd = os.pidfd_open(pid)
        try:
            in_time = self._wait(pidfd, pipe, ends_by, said)
            status = os.waitpid(pid, 0)[1] if in_time else 0
        finally:
            os.close(pidfd)
            family.end(family.below_this_process, self._clock)
        while self._read(pipe, said):
            continue
        output = b"".join(said)
        if not in_time:
            return Ending(output=output, trouble=texts.program_timeout(self._limits.wall_s))
        code = os.waitstatus_to_exitcode(status)
        return Ending(max(0, code), max(0, -code), output)

    def _wait(self, pidfd: int, pipe: int, ends_by: float, said: list[bytes]) -> bool:
        """Until the program has ended: True; or until its time is over: False. Reads what it says meanwhile."""
        poll = select.poll()
        for fd in (pidfd, pipe, self._line.fileno()):
            poll.register(fd, select.POLLIN)
        while (left_s := ends_by - self._clock.monotonic()) > 0:
            ready = {fd for fd, _ in poll.poll(int(left_s * 1_000) + 1)}
            if pidfd in ready:
                return True
            if self._line.fileno() in ready:  # the front says nothing while a program runs
                raise HungUp
            if pipe in ready and not self._read(pipe, said):
                poll.unregister(pipe)  # it has closed its output, and may go on
        return False

    def _read(self, pipe: int, said: list[bytes]) -> bool:
        """Reads once; False when there is nothing to read. What is too much is read and forgotten: a program that is
        not listened to would hang or be killed, and qmail reads it all too."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(pipe, _READ_OCTETS)
            if self._room > 0 and data:
                said.append(data[: self._room])
                self._room -= len(said[-1])
            return bool(data)
        return False


def _forget_signals() -> None:
    """All signals do what they did at boot: whoever started us may have ignored some, and Python ignores two."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
