"""One queue replica as a process of its own, on a spool of its own: started, asked for what it costs, ended.

Its log goes to a file as JSON, which tells when it did what. Knows the events' names and nothing of their cause.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from runtime.config import Address
from tests.bench import machine
from tests.bench.mailhost import Family, free_port
from tests.harness.backlog import HOST, OWNER

ROOT = Path(__file__).resolve().parents[3]


class Replica:
    """`python -m services.queue` with everything as shipped, but for Redis: nobody else is there."""

    def __init__(self, name: str, folder: Path, tls: Path) -> None:
        self.name = name
        self.spool = folder / name
        self.spool.mkdir()
        self.control = folder / "control"
        self.control.mkdir(exist_ok=True)
        (self.control / "me").write_text(f"{HOST}\n")
        self.address = Address("127.0.0.1", free_port())
        self._began = 0.0  # unix seconds, as events have them
        self._tls = tls
        self._family = Family(name, folder / f"{name}.log")

    def start(self) -> None:
        """Starts the process; does not wait for it."""
        told = {
            "PATH": os.environ.get("PATH", ""),
            "INSTANCE": OWNER,
            "SPOOL_DIR": str(self.spool),
            "CONTROL_DIR": str(self.control),
            "TLS_DIR": str(self._tls),
            "RPC_BIND": str(self.address),
            "LOG_FORMAT": "json",
            "SPOOL_UNSAFE_FS": os.environ.get("SPOOL_UNSAFE_FS", "0"),
        }
        self._began = time.time()
        self._family.start([sys.executable, "-m", "services.queue"], told, ROOT)

    @property
    def pid(self) -> int:
        return self._family.pid

    def processor_s(self) -> float:
        """Seconds of processor time so far."""
        return sum(self._family.processor_s().values())

    def wanting_s(self) -> float:
        """Seconds for which it used a processor, or wanted one that others had."""
        return machine.wanting_s(self.pid)

    def resident_octets(self) -> int:
        return machine.resident_octets(self.pid)

    def stop(self) -> None:
        self._family.stop()

    def check(self) -> None:
        """Raises Missing when the process has ended."""
        self._family.check()

    @property
    def age_s(self) -> float:
        """Seconds since the start."""
        return time.time() - self._began

    def took(self, messages: int) -> float | None:
        """Seconds from the start to the event that says that a log with so many messages is ours; None before it."""
        for event in self._named("took log"):
            if event["messages"] >= messages:
                return datetime.fromisoformat(event["time"]).timestamp() - self._began
        return None

    def alerts(self) -> list[str]:
        """What the replica wanted somebody to look at."""
        return [event["text"] for event in self._named("alert")]

    def _named(self, name: str) -> Iterator[dict[str, Any]]:
        for line in self._family.said().splitlines():
            if f'"event":"{name}"' in line:
                yield json.loads(line)
