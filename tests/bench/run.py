"""One run: messages into one system in one scenario, watched from outside until the last has arrived.

What counts as accepted is smtp-source's word, what counts as delivered is a name in new/ or the sink's counter.
"""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench import machine
from tests.bench.load import Sink, Source
from tests.bench.mailhost import ELSEWHERE, Mailhost

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


LOCAL = Scenario("local", "into a Maildir, connections kept", ("-d",))
REMOTE = Scenario("remote", "to a host elsewhere (smtp-sink), connections kept", ("-d",), remote=True)
SINGLE = Scenario("single", "into a Maildir, one message per connection", ())
SCENARIOS = (LOCAL, REMOTE, SINGLE)


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


def measure(host: Mailhost, scenario: Scenario, load: tuple[Source, Sink], messages: int) -> Sample:
    """Runs once; raises Stalled when not everything is accepted and delivered in RUN_MAX_S."""
    source, sink = load
    _empty(host)
    os.sync()  # what earlier runs left to write is not this run's
    idle = _idle_rate()
    arrived = _arrivals(host, scenario, sink)
    parts, busy, begin = host.processor_s(), machine.busy_s(), time.monotonic()
    recipient = ELSEWHERE if scenario.remote else host.recipient
    with source.start(host.port, recipient, messages, scenario.options) as client:
        try:
            _, said = client.communicate(timeout=RUN_MAX_S)
        except subprocess.TimeoutExpired:
            client.kill()
            raise Stalled(f"not all of {messages} messages were accepted within {RUN_MAX_S:g} s") from None
    accepted = time.monotonic() - begin
    if client.returncode:
        raise Stalled(f"smtp-source gave up: {said.strip()[-200:]}")
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


def _idle_rate() -> float:
    """Seconds of processor time per second that the machine uses by itself."""
    begin, busy = time.monotonic(), machine.busy_s()
    time.sleep(IDLE_S)
    return (machine.busy_s() - busy) / (time.monotonic() - begin)


def _arrivals(host: Mailhost, scenario: Scenario, sink: Sink) -> Callable[[], int]:
    """A function that tells how many messages have arrived since now."""
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
    if host.new.is_dir():
        for entry in os.scandir(host.new):
            os.unlink(entry.path)
