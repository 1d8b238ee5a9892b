"""Services of a stack that a test runs by itself, beside `up`, so that it can put something between them and others.

They are wired as `up` would wire them (cli/wiring.py), but for what the test changes. Nobody starts them again.
"""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cli import places, wiring
from cli.places import CHECKOUT
from cli.ports import Ports
from cli.privileges import launcher
from cli.topology import BY_NAME
from cli.wiring import Launch, Wish
from runtime.clock import SystemChance
from tests.harness.stack import Said, Stack

_END_S = 60.0
# Their names begin here, so that none has the name of a process of `up`.
_FIRST = 10
# Their names begin here, so that none has the name of a process of `up`.
_FIRST = 10


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
        self.said = Said()
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
        threading.Thread(target=self._read, args=(self.process, self.said), daemon=True).start()
        self.said.wait(r"^started ")

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_END_S)

    def signal(self, number: signal.Signals) -> None:
        """To it, and to all that it has started."""
        os.killpg(self.pid, number)

    def wait(self) -> int:
        """The exit status of one that is to end by itself."""
        assert self.process
        return self.process.wait(_END_S)

    def kill(self) -> None:
        """kill -9, with all that it has started."""
        assert self.process
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(_END_S)

    def _read(self, process: "subprocess.Popen[str]", said: Said) -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                said.add(line.rstrip("\n"))
        said.end()


@dataclass(slots=True)
class Crew:
    """The services by name, such as smtpd-10, and where smtpd takes mail."""

    hands: dict[str, Hand]
    smtp_port: int


def _rpc(stack: Stack, name: str) -> str:
    """Where a process of `up` answers."""
    return str(json.loads((stack.directory / "run" / f"{name}.json").read_text())["rpc"])


@contextmanager
def running(stack: Stack, replicas: Mapping[str, int], changes: Mapping[str, Mapping[str, str]]) -> Iterator[Crew]:
    """So many of each service beside a stack that runs; `changes` are of environments, by the service's name."""
    free = Ports(SystemChance())
    listen = {port.name: free.choose() for service in BY_NAME.values() for port in service.ports}
    # As `up` decided: where it dropped root, its queue is of another uid.
    drops = os.stat(f"/proc/{stack.pid('queue-0')}").st_uid == BY_NAME["queue"].uid
    counts = {name: replicas.get(name, 0) for name in BY_NAME}
    redis_url = f"redis://{_rpc(stack, 'redis-0')}/0"
    wish = Wish(places.find(str(stack.directory), {}), stack.settings(), counts, listen, drops, redis_url)
    crew = Crew({}, listen["smtp"].port)
    try:
        for wired in wiring.wire(wish, free.choose):
            name = f"{wired.service.name}-{_FIRST + wired.number}"
            environment = {**wired.environment, "INSTANCE": name}
            if "QUEUE_ADDRS" in environment:
                environment["QUEUE_ADDRS"] = f"{environment['QUEUE_ADDRS']},{_rpc(stack, 'queue-0')}".strip(",")
            environment |= changes.get(wired.service.name, {})
            hand = Hand(replace(wired, number=_FIRST + wired.number, environment=environment))
            crew.hands[name] = hand
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
