"""Reading the control directory. Formats are mail/control.py; each value and its default is as in qmail-control(5).

Every method raises ConfigError naming the file and the fix; a missing file is its default.
"""

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from mail import control
from mail.routing import RoutingTable
from runtime.config import ConfigError

_FILE_MAX_OCTETS = 16 * 1024 * 1024  # a control file is read whole; a list of a million domains fits

T = TypeVar("T")


class Controls:
    """The control files of one directory, read when asked for."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def path(self, name: str) -> str:
        """Where a control file is, for a mistake's text."""
        return os.path.join(self._directory, name)

    def text(self, name: str) -> str | None:
        """The whole file; None when there is none."""
        path = self.path(name)
        try:
            with open(path, encoding="utf-8", opener=_at_once) as file:
                content = file.read(_FILE_MAX_OCTETS + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror}: let uid {os.geteuid()} read it"]) from error
        except UnicodeDecodeError as error:
            raise ConfigError([f"{path}: octet {error.start} is not UTF-8: write the file in UTF-8"]) from error
        if len(content) > _FILE_MAX_OCTETS:
            raise ConfigError([f"{path}: longer than {_FILE_MAX_OCTETS} characters: shorten it"])
        return content

    def line(self, name: str, default: str) -> str:
        """A line file. An empty one counts as missing."""
        return self._parsed(name, control.line, "") or default

    def integer(self, name: str, default: int) -> int:
        """A number file. An empty one counts as missing; qmail takes the default for words too, we say so."""
        content = self.text(name)
        if content is None or not control.line(content):
            return default
        found = control.integer(content)
        if found is None:
            path = self.path(name)
            raise ConfigError([f"{path}: {control.line(content)[:60]!r} is not a number: write one, such as {default}"])
        return found

    def listing(self, name: str) -> tuple[str, ...] | None:
        """A list file; None when there is none, which some programs tell from an empty one."""
        content = self.text(name)
        return None if content is None else control.listing(content)

    def mapping(self, name: str) -> dict[str, str]:
        return self._parsed(name, control.mapping, {})

    def me(self) -> str:
        """control/me, without which nothing starts."""
        name = self.line("me", "")
        if not name:
            path = self.path("me")
            raise ConfigError(
                [f"{path}: missing or empty: write this host's full name into it (bin/seapost config-fast NAME)"]
            )
        return name

    def routing(self) -> RoutingTable:
        """locals, virtualdomains, percenthack and envnoathost as one table."""
        me = self.me()
        here = self.listing("locals")
        return RoutingTable(
            locals=frozenset(name.lower() for name in ((me,) if here is None else here)),
            virtualdomains=self.mapping("virtualdomains"),
            percenthack=frozenset(name.lower() for name in self.listing("percenthack") or ()),
            envnoathost=self.line("envnoathost", me),
        )

    def _parsed(self, name: str, parse: Callable[[str], T], default: T) -> T:
        content = self.text(name)
        return default if content is None else parse(content)


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting for the writer of a FIFO, and nothing but a file."""
    fd = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is a FIFO, which cannot be read twice", path)
    return fd


def read_all(*reads: Callable[[], object]) -> None:
    """Runs every read and raises one ConfigError with the mistakes of all of them."""
    mistakes: list[str] = []
    for read in reads:
        try:
            read()
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
