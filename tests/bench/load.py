"""The clients: smtp-source sends, smtp-sink is the host elsewhere that takes everything. Both are Postfix's, in C.

They cost every system the same, so that the differences are the systems'.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.mailhost import ROOT, SENDER, Family, free_port, wait_greeting
from tests.bench.package import Package

OCTETS = 4_096  # of a message's body
CONNECTIONS = 20

_BACKLOG = 200
_TAIL_OCTETS = 100  # more than one line of counters


class Source:
    """Sends messages as fast as they are taken."""

    def __init__(self, package: Package) -> None:
        self._program = package.program("usr/sbin/smtp-source")
        self._environment = package.environment()

    def start(self, port: int, recipient: str, messages: int, options: tuple[str, ...]) -> subprocess.Popen[str]:
        """Starts one run; exit status 0 says that every message was accepted."""
        size = ["-s", str(CONNECTIONS), "-m", str(messages), "-l", str(OCTETS)]
        command = [self._program, *size, *options, "-f", SENDER, "-t", recipient, f"127.0.0.1:{port}"]
        return subprocess.Popen(command, env=self._environment, stderr=subprocess.PIPE, text=True)


class Circular:
    """Sends messages with many recipients each to the crowd, every time to those who had the last one longest ago."""

    def __init__(self) -> None:
        self._next = 0

    def start(self, port: int, recipients: int) -> subprocess.Popen[str]:
        """Starts one run; exit status 0 says that every message was accepted for all its recipients."""
        command = [sys.executable, "-m", "tests.bench.circular", str(port), str(self._next), str(recipients)]
        self._next += recipients
        return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


class Sink:
    """A running smtp-sink, which throws mail away and counts it."""

    def __init__(self, package: Package, folder: Path) -> None:
        self.port = free_port()
        self._family = Family("smtp-sink", folder / "smtp-sink.log")
        command = [package.program("usr/sbin/smtp-sink"), "-c", f"127.0.0.1:{self.port}", str(_BACKLOG)]
        if os.geteuid() == 0:
            command[1:1] = ["-u", "nobody"]
        self._family.start(command, package.environment())
        wait_greeting(self._family, self.port)

    def count(self) -> int:
        """How many messages it has taken so far."""
        with open(self._family.log, "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_OCTETS))
            counters = log.read().replace(b"\r", b"\n").split(b"\n")
        whole = [line for line in counters if b"mesg=" in line and line.rpartition(b"mesg=")[2].strip().isdigit()]
        return int(whole[-1].rpartition(b"mesg=")[2]) if whole else 0

    def stop(self) -> None:
        self._family.stop()


@dataclass(frozen=True, slots=True)
class Load:
    """The clients and the host elsewhere."""

    source: Source
    circular: Circular
    sink: Sink
