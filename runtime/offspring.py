"""What a process that the spawner forked does before and instead of serving: become the user, check a password, kill.

Each function runs in a fresh fork. Every step towards less power is checked (runtime/privilege.py); the home is opened
while closed parent directories may still be passed, and entered by that descriptor. Knows nothing of what children do.
"""

import contextlib
import os
import signal
import socket
import stat
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from mail.accounts import Account, Shadow
from runtime import family, privilege
from runtime.accounts import Accounts, AccountsError
from runtime.clock import SystemClock
from runtime.passwords import reference_of
from runtime.spawn import GREETING, Status


@dataclass(frozen=True, slots=True)
class Work:
    """What children do. `serve` runs as the user, in the home, until the socket ends; `authenticate` runs in a child
    without capabilities, gets None for an unknown account, and must take as long then: its third argument is a hash to
    spend that time on. At most `children_max` serve at once, those that were told to end included."""

    serve: Callable[[socket.socket, Account], None]
    children_max: int
    authenticate: Callable[[Shadow | None, bytes, str], bool] | None = None


def run_to_the_end(live: Callable[[], None]) -> None:
    """Runs in a fresh fork and never returns, whatever happens."""
    status = 1
    try:
        live()
        status = 0
    except BaseException:  # noqa: BLE001 - the top of a process
        traceback.print_exc()
    finally:
        os._exit(status)


def follow(parent: int, child: Callable[[], None]) -> None:
    """Runs `child`, and ends when `parent` does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    privilege.end_with_parent(parent, signal.SIGKILL)
    child()


def serve_as_user(sock: socket.socket, account: Account, work: Work) -> None:
    """Becomes the user, in the home, says how that went (GREETING), and does the work."""
    os.umask(0o077)
    line = socket.socket(fileno=_only_descriptor(sock.detach()))
    try:
        home = os.open(account.home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        found = os.fstat(home)
        if found.st_uid != account.uid or not stat.S_ISDIR(found.st_mode):
            return line.sendall(GREETING.pack(Status.NOT_OWNER, 0))
        _become(account)
        os.fchdir(home)
        os.close(home)
    except privilege.PrivilegeError as error:
        return line.sendall(GREETING.pack(Status.UNSAFE, error.errno or 0))
    except OSError as error:
        return line.sendall(GREETING.pack(Status.NO_HOME, error.errno or 0))
    line.sendall(GREETING.pack(Status.OK, 0))
    work.serve(line, account)


def check_password(
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


def kill_as(account: Account, pid: int) -> None:
    """Kills a process of that user: the spawner has no right to (CAP_KILL)."""
    _become(account)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def end_lost(account: Account, spawner: int) -> None:
    """Ends what a child of that user left behind when it died, all of which the spawner has inherited; exits 1 when
    somebody is left."""
    session = os.getsid(0)
    _become(account)
    os._exit(0 if family.end(lambda: family.lost_below(spawner, session), SystemClock()) else 1)


def _become(account: Account) -> None:
    privilege.become(account.uid, account.gid, account.groups)


def _only_descriptor(fd: int) -> int:
    """Moves the descriptor to 3 and closes every other but standard input, output and error."""
    os.dup2(fd, 3, inheritable=False) if fd != 3 else None
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    return 3
