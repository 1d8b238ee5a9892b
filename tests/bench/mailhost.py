"""What a mail system is to the bench, and how one that consists of processes is started, watched and ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.bench import machine
from tests.bench.package import Missing

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = "bench.example.test"
SENDER = f"sender@{DOMAIN}"
CROWD = 1_000  # readers besides the one of the other scenarios
PER_MESSAGE = 100  # recipients of a message to the crowd
ELSEWHERE = "someone@remote.example.test"  # every system sends it to the sink, whatever the DNS says

STARTS_WITHIN_S = 40
ENDS_WITHIN_S = 40


class Mailhost(Protocol):
    """A mail system under test, running."""

    name: str
    port: int  # of its SMTP server on 127.0.0.1
    recipient: str  # a local address
    new: Path  # where that recipient's mail arrives
    homes: Path  # of the crowd

    def processor_s(self) -> dict[str, float]:
        """Seconds of processor time so far, by the parts that the system consists of."""

    def stop(self) -> None:
        """Ends all its processes."""


@dataclass(slots=True)
class Family:
    """A program that was started for the bench, with all it starts; what they say goes to a file."""

    name: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None = None) -> None:
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid if self.process else 0

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def processor_s(self) -> dict[str, float]:
        return machine.family_s({self.name: self.pid})

    def check(self) -> None:
        """Raises Missing when the program has ended."""
        if self.process is None or self.process.poll() is not None:
            raise Missing(f"{self.name} did not start: {' / '.join(self.said().strip().splitlines()[-3:])}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to the session, as far as it is still there."""
        if self.process is None:
            return
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDS_WITHIN_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(ENDS_WITHIN_S)


def reader_name(number: int) -> str:
    """The account of one of the crowd; numbers go round."""
    return f"reader{number % CROWD}"


def reader(number: int) -> str:
    """Its address."""
    return f"{reader_name(number)}@{DOMAIN}"


def crowd_new(homes: Path) -> list[Path]:
    """Where the crowd's mail arrives."""
    return [homes / reader_name(number) / "Maildir/new" for number in range(CROWD)]


def wait_greeting(family: Family, port: int) -> None:
    """Returns when an SMTP server greets at the port; raises Missing when the program ends or nothing greets."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        family.check()
        try:
            with closing(socket.create_connection(("127.0.0.1", port), timeout=STARTS_WITHIN_S)) as peer:
                if peer.recv(4) == b"220 ":
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise Missing(f"{family.name} does not greet within {STARTS_WITHIN_S} s")


def free_port() -> int:
    """A loopback port that nobody listens at now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
