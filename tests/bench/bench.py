"""The whole bench: starts the systems, runs them in turn within its time, prints the table, ends everything.

Knows which systems there are and in which order they run; how each is started is its own module's.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import machine, package, report
from tests.bench.load import CONNECTIONS, OCTETS, Circular, Load, Sink, Source
from tests.bench.mailhost import ROOT, Mailhost
from tests.bench.package import Missing, Package
from tests.bench.postfix import Postfix
from tests.bench.qmail import Qmail
from tests.bench.run import REMOTE, SCENARIOS, Sample, Scenario, Stalled, measure
from tests.bench.seapost import Seapost
from tests.bench.settings import Settings

# The two limits between which Postfix's local(8) is fastest, depending on the machine.
_POSTFIX_LIMITS = (2, 20)


def run(settings: Settings) -> int:
    """Measures and prints; returns the exit status: 0 when Seapost was measured, whatever came out."""
    with ExitStack() as stack:
        try:
            clients = package.find("postfix", "usr/sbin/smtp-source", settings.cache)
            folder = stack.enter_context(_workplace(settings.folder))
            sink = Sink(clients, folder)
            stack.callback(sink.stop)
            bench = Bench(settings, Load(Source(clients), Circular(), sink))
            for host in _start(folder, clients, sink.port):
                stack.callback(host.stop)
                bench.hosts.append(host)
        except Missing as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        print(_headline(settings, folder))
        bench.run()
        print("\n".join(report.lines(bench.results, SCENARIOS)))
        return 0


class Bench:
    """The systems that run, and what was measured so far."""

    def __init__(self, settings: Settings, load: Load) -> None:
        self.hosts: list[Mailhost] = []
        self.results = report.Results()
        self._settings = settings
        self._load = load

    def run(self) -> None:
        """A warm-up and then the rounds, as many as fit into the time."""
        begin = time.monotonic()
        self._round(self._settings.warm_up, lambda scenario, host, sample: None)
        for number in range(self._settings.rounds):
            started = time.monotonic()
            self._round(self._settings.messages, self._keep)
            took = time.monotonic() - started
            if number + 1 < self._settings.rounds and time.monotonic() - begin + took > self._settings.seconds:
                _say(f"the time is up after {number + 1} of {self._settings.rounds} rounds (BENCH_SECONDS)")
                return
            self.hosts = self.hosts[1:] + self.hosts[:1]  # another one goes first

    def _round(self, messages: int, keep: Callable[[Scenario, str, Sample], None]) -> None:
        for scenario in SCENARIOS:
            for host in tuple(self.hosts):
                if scenario is REMOTE and host.name == f"postfix, limit {_POSTFIX_LIMITS[1]}":
                    continue  # the limit is local(8)'s
                try:
                    keep(scenario, host.name, measure(host, scenario, self._load, messages))
                except Stalled as error:
                    _say(f"{host.name} is out: {scenario.name}: {error}")
                    self.hosts.remove(host)

    def _keep(self, scenario: Scenario, system: str, sample: Sample) -> None:
        self.results.add(scenario, system, sample)
        rates = f"accepted {sample.accepted:.0f}/s, delivered {sample.delivered:.0f}/s"
        _say(f"{scenario.name}: {system}: {rates}, {sample.whole:.2f} ms CPU a message")


def _start(folder: Path, clients: Package, sink_port: int) -> Iterator[Mailhost]:
    """The systems, running; one that cannot run here is said and left out, but for Seapost."""
    yield Seapost(folder, sink_port)
    others: list[tuple[str, Callable[[], Mailhost]]] = [
        (f"postfix, limit {limit}", lambda limit=limit: Postfix(folder, clients, sink_port, limit))  # type: ignore[misc]
        for limit in _POSTFIX_LIMITS
    ]
    others.append(("qmail", lambda: Qmail(folder, folder.parent / "packages", sink_port)))
    for name, make in others:
        try:
            yield make()
        except Missing as error:
            _say(f"without {name}: {error}")


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A fresh folder that every system's users may enter; removed at the end."""
    parent.mkdir(parents=True, exist_ok=True)
    closed = machine.unsearchable(parent)
    if closed is not None and os.geteuid() == 0:
        raise Missing(f"the users of the mail systems may not enter {closed}: set BENCH_DIR to a folder they may")
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _headline(settings: Settings, folder: Path) -> str:
    place = f"{os.path.relpath(folder, ROOT)} on {machine.filesystem(folder)}"
    busy = f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    return (
        f"{settings.messages} messages of {OCTETS} octets a run over {CONNECTIONS} connections, "
        f"median of up to {settings.rounds} rounds; everything synced, {place}; {busy}"
    )


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
