"""Services of a stack that a test runs by itself, beside `up`, so that it can put something between them and others.

They are wired as `up` would wire them (cli/wiring.py), but for what the test changes. Nobody starts them again.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from cli import places, wiring
from cli.places import CHECKOUT
from cli.ports import Ports
from cli.privileges import launcher
from cli.topology import BY_NAME
from cli.wiring import Launch, Wish
from runtime.clock import SystemChance
from tests.harness.stack import Said, Stack

_END_S = 60.0


@dataclass(slots=True)
class Hand:
    """One service of the crew."""

    launch: Launch
    said: Said = field(default_factory=Said)
    process: "subprocess.Popen[str] | None" = None

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self) -> None:
        """Returns when it says that it has started."""
        self.process = subprocess.Popen(
            [*launcher(self.launch.uid), *self.launch.command],
            cwd=CHECKOUT,
            env=dict(self.launch.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        self.said.wait(r"^started ")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_END_S)

    def kill(self) -> None:
        """kill -9, with all that it has started."""
        assert self.process
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(_END_S)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.said.add(line.rstrip("\n"))
        self.said.end()


@dataclass(slots=True)
class Crew:
    """The services by name, such as smtpd-0, and where smtpd takes mail."""

    hands: dict[str, Hand]
    smtp_port: int


@contextmanager
def running(stack: Stack, replicas: Mapping[str, int], changes: Mapping[str, Mapping[str, str]]) -> Iterator[Crew]:
    """So many of each service beside a stack that runs; `changes` are of environments, by the service's name."""
    free = Ports(SystemChance())
    listen = {port.name: free.choose() for service in BY_NAME.values() for port in service.ports}
    # As `up` decided: where it dropped root, its queue is of another uid.
    drops = os.stat(f"/proc/{stack.pid('queue-0')}").st_uid == BY_NAME["queue"].uid
    counts = {name: replicas.get(name, 0) for name in BY_NAME}
    wish = Wish(places.find(str(stack.directory), {}), stack.settings(), counts, listen, drops, "")
    crew = Crew({}, listen["smtp"].port)
    try:
        for launch in wiring.wire(wish, free.choose):
            environment = {**launch.environment, **changes.get(launch.service.name, {})}
            hand = Hand(
                Launch(launch.service, launch.number, launch.command, environment, launch.uid, launch.rpc, launch.http)
            )
            crew.hands[launch.name] = hand
            hand.start()
        yield crew
    except BaseException:
        for name, hand in crew.hands.items():
            print(f"-- {name}:\n{hand.said.tail()}")
        raise
    finally:
        for hand in crew.hands.values():
            if hand.process and hand.process.poll() is None:
                hand.kill()
