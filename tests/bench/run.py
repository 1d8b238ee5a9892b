"""One run: messages into one system in one scenario, watched from outside until the last has arrived.

What counts as accepted is smtp-source's word, what counts as delivered is a name in new/ or the sink's counter.
"""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import machine
from tests.bench.load import Load, Sink
from tests.bench.mailhost import ELSEWHERE, Mailhost, crowd_new

RUN_MAX_S = 60.0
# The machine is watched this long before and after each run for what it does by itself.
IDLE_S = 0.5
# Between two looks at new/ or at the sink; with a thousand names in new/ a look costs 1 ms.
_LOOK_S = 0.02


class Stalled(Exception):
    """A run did not end: the text says how far it came."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is sent where. `options` are smtp-source's."""

    name: str
    title: str
    options: tuple[str, ...]
    remote: bool = False
    crowd: bool = False  # counts are deliveries then, not messages


LOCAL = Scenario("local", "into a Maildir, connections kept", ("-d",))
REMOTE = Scenario("remote", "to a host elsewhere (smtp-sink), connections kept", ("-d",), remote=True)
SINGLE = Scenario("single", "into a Maildir, one message per connection", ())
MANY = Scenario("many", "into 1,000 Maildirs, 100 recipients a message: figures are for a delivery", (), crowd=True)
SCENARIOS = (LOCAL, REMOTE, SINGLE, MANY)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run came to; processor times are milliseconds per message."""

    accepted: float  # messages a second, from the first connection to the last 250
    delivered: float  # messages a second, from the first connection to the last arrival
    whole: float  # all processors, clients and kernel included, less what the machine does when idle
    parts: dict[str, float]  # each part of the system
    idle: float  # processors that the machine kept busy by itself just before and after

    @property
    def own(self) -> float:
        """All parts of the system together."""
        return sum(self.parts.values())


def measure(host: Mailhost, scenario: Scenario, load: Load, messages: int) -> Sample:
    """Runs once; raises Stalled when not everything is accepted and delivered in RUN_MAX_S."""
    _empty(host)
    os.sync()  # what earlier runs left to write is not this run's
    idle = _idle_rate()
    arrived = _arrivals(host, scenario, load.sink)
    parts, busy, begin = host.processor_s(), machine.busy_s(), time.monotonic()
    with _start(host, scenario, load, messages) as client:
        try:
            _, said = client.communicate(timeout=RUN_MAX_S)
        except subprocess.TimeoutExpired:
            client.kill()
            raise Stalled(f"not all of {messages} messages were accepted within {RUN_MAX_S:g} s") from None
    accepted = time.monotonic() - begin
    if client.returncode:
        raise Stalled(f"the client gave up: {said.strip()[-200:]}")
    _wait(arrived, messages, begin + RUN_MAX_S)
    delivered = time.monotonic() - begin
    os.sync()  # what this run left to write is
    used = machine.busy_s() - busy
    duration = time.monotonic() - begin
    after = host.processor_s()
    idle = (idle + _idle_rate()) / 2
    return Sample(
        accepted=messages / accepted,
        delivered=messages / delivered,
        whole=(used - idle * duration) * 1_000 / messages,
        parts={name: (after[name] - parts.get(name, 0.0)) * 1_000 / messages for name in after},
        idle=idle,
    )


def _start(host: Mailhost, scenario: Scenario, load: Load, messages: int) -> "subprocess.Popen[str]":
    if scenario.crowd:
        return load.circular.start(host.port, messages)
    recipient = ELSEWHERE if scenario.remote else host.recipient
    return load.source.start(host.port, recipient, messages, scenario.options)


def _idle_rate() -> float:
    """Seconds of processor time per second that the machine uses by itself."""
    begin, busy = time.monotonic(), machine.busy_s()
    time.sleep(IDLE_S)
    return (machine.busy_s() - busy) / (time.monotonic() - begin)


def _arrivals(host: Mailhost, scenario: Scenario, sink: Sink) -> Callable[[], int]:
    """A function that tells how many messages have arrived since now."""
    if scenario.crowd:
        folders = crowd_new(host.homes)
        return lambda: sum(len(os.listdir(folder)) for folder in folders if folder.exists())
    if not scenario.remote:
        return lambda: len(os.listdir(host.new))
    before = sink.count()
    return lambda: sink.count() - before


def _wait(arrived: Callable[[], int], messages: int, deadline: float) -> None:
    while (count := arrived()) < messages:
        if time.monotonic() > deadline:
            raise Stalled(f"{count} of {messages} messages arrived within {RUN_MAX_S:g} s")
        time.sleep(_LOOK_S)


def _empty(host: Mailhost) -> None:
    for folder in (host.new, *crowd_new(host.homes)):
        if folder.is_dir():
            for entry in os.scandir(folder):
                os.unlink(entry.path)
