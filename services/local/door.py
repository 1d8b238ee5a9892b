"""The socket over which programs hand in mail: a name of its own in a directory that users can only look into.

It is made while the process is still root, if it is, so that the directory stays root's: who could write there could
put a socket of his own in the place of ours and read everybody's mail. Beside it stand copies of the control files that
programs read, for the host of a container, which does not see ours. Knows nothing of what is said over the socket.
"""

import contextlib
import errno
import os
import socket
import stat

from runtime.config import ConfigError
from runtime.durable import Disk
from services.local.config import LocalConfig

# Who finds no place waits in connect(2).
_BACKLOG = 128
_CONTROL_MAX_OCTETS = 1024 * 1024
# A name that clients pass over, and what programs/ reads.
CONTROL = ".control"
_READ_BY_PROGRAMS = (
    "me defaultdomain defaulthost plusdomain idhost badmailfrom localiphost databytes smtpgreeting timeoutsmtpd".split()  # noqa: SIM905
)


class Door:
    """The listening socket; `sock` is None while there is none, and for good when SUBMIT_DIR is empty."""

    def __init__(self) -> None:
        self.sock: socket.socket | None = None

    def open(self, config: LocalConfig) -> None:
        """Listens at SUBMIT_DIR/<instance>, and removes the names of instances that are gone. ConfigError when it
        cannot, or when others than its owner could replace what is there."""
        directory = config.submit_dir
        if not directory:
            return
        try:
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError([_mistake(directory, f"{error.strerror}: make the directory")]) from error
        try:
            _close_to_others(fd, directory)
            _sweep(fd)
            _copy_controls(fd, config.control_dir)
            self.sock = _listen(fd, config.instance or "local")
        except OSError as error:
            raise ConfigError(
                [_mistake(directory, f"no socket can be made there: {error.strerror or error}")]
            ) from error
        finally:
            os.close(fd)


def _mistake(directory: str, text: str) -> str:
    return f"environment variable SUBMIT_DIR={directory}: {text}"


def _close_to_others(fd: int, directory: str) -> None:
    found = os.fstat(fd)
    if found.st_uid == os.geteuid():
        os.fchmod(fd, 0o755)
    elif found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError([_mistake(directory, f"it must belong to uid {os.geteuid()} and to nobody else: chown it")])


def _copy_controls(fd: int, control_dir: str) -> None:
    """For everybody to read, whatever the umask is."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(CONTROL, dir_fd=fd)
    os.chmod(CONTROL, 0o755, dir_fd=fd)
    place = f"/proc/self/fd/{fd}/{CONTROL}"
    for name in _READ_BY_PROGRAMS:
        try:
            with open(os.path.join(control_dir, name), "rb") as file:
                Disk().replace_file(os.path.join(place, name), file.read(_CONTROL_MAX_OCTETS))
            os.chmod(os.path.join(place, name), 0o644)
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):
                Disk().unlink(os.path.join(place, name))


def _listen(fd: int, name: str) -> socket.socket:
    """Under a name that clients pass over until it listens, so that a neighbour's sweep finds nobody who is deaf."""
    draft = f".{name}"
    disk = Disk()
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(draft, dir_fd=fd)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{draft}")  # the path of a state directory may be longer than a socket's may be
        os.chmod(draft, 0o666, dir_fd=fd)
        sock.listen(_BACKLOG)
        disk.rename(draft, name, dir_fd=fd)
    except OSError:
        sock.close()
        raise
    return sock


def _sweep(fd: int) -> None:
    """Removes the sockets at which nobody listens."""
    for name in os.listdir(fd):
        with contextlib.suppress(FileNotFoundError):
            if not name.startswith(".") and stat.S_ISSOCK(os.lstat(name, dir_fd=fd).st_mode) and _is_deaf(fd, name):
                Disk().unlink(name, dir_fd=fd)


def _is_deaf(fd: int, name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        return sock.connect_ex(f"/proc/self/fd/{fd}/{name}") == errno.ECONNREFUSED
