"""The whole bench: two replicas, one with an empty queue and one with a large one, and the same work for both in turn.

Knows the order of things; what each measurement is, its own module knows.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli import certs
from runtime.clock import SystemClock
from tests.bench import machine
from tests.bench.package import Missing
from tests.bench.queue import report
from tests.bench.queue.load import Sink, Source, Stalled, accept, drain, flow
from tests.bench.queue.replica import ROOT, Replica
from tests.bench.queue.report import Figures
from tests.bench.queue.restart import restart
from tests.bench.queue.settings import Settings
from tests.harness.backlog import Backlog, fill

# Into a replica before anything is measured: what it makes once, it has then.
_WARM_UP = 500


async def run(settings: Settings) -> int:
    """Measures and prints; returns the exit status: 0 when everything was measured, whatever came out."""
    try:
        with _workplace(settings.folder) as folder:
            print(_headline(settings, folder), flush=True)
            bench = Bench(settings, folder)
            try:
                await bench.run()
            finally:
                bench.stop()
            return 0
    except (Missing, Stalled) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


class Bench:
    """The replicas, and what was measured so far."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._tls = folder / "tls"
        certs.ensure(str(self._tls), SystemClock())
        self._none = Replica("none", folder, self._tls)
        self._full = Replica("full", folder, self._tls)
        self._deferred = Replica("deferred", folder, self._tls)
        self._figures = Figures(settings.queued)

    def stop(self) -> None:
        for replica in (self._none, self._full, self._deferred):
            replica.stop()

    async def run(self) -> None:
        """The measurements one after the other; each is printed when it is there."""
        await self._empty()
        await self._restart(self._full, deferred=False)
        await self._rounds()
        self._full.stop()
        shutil.rmtree(self._full.spool)
        await self._restart(self._deferred, deferred=True)
        for replica in (self._none, self._full, self._deferred):
            for alert in replica.alerts():
                _say(f"{replica.name}: alert: {alert}")

    async def _empty(self) -> None:
        """A replica with nothing in its queue: what it is large without."""
        self._none.start()
        async with Source(self._none, self._tls, self._settings.octets) as source:
            await source.first_s()
            await source.send(_WARM_UP)
        self._figures.base_octets = self._none.resident_octets()

    async def _restart(self, replica: Replica, deferred: bool) -> None:
        backlog = Backlog(self._settings.queued, self._settings.octets, deferred)
        began = time.monotonic()
        fill(str(replica.spool), backlog)
        os.sync()  # what is left to write is not the replica's
        _say(f"{backlog.messages} messages written in {time.monotonic() - began:.0f} s")
        found = await restart(replica, self._tls, backlog.messages, backlog.octets)
        _print(report.restart(self._figures, found, deferred))

    async def _rounds(self) -> None:
        """Accepting and delivering with and without a large backlog, in turns."""
        settings, figures = self._settings, self._figures
        tls, octets, messages = self._tls, settings.octets, settings.messages
        async with Source(self._none, tls, octets) as to_none, Source(self._full, tls, octets) as to_full:
            sources = [(self._none, to_none), (self._full, to_full)]
            for replica, source in sources:
                await accept(replica, source, _WARM_UP)
            for _ in range(settings.rounds):
                for replica, source in sources:
                    figures.add("accept", replica.name, await accept(replica, source, messages))
                sources.reverse()
            _print(report.accepting(figures))

            await drain(self._none, Sink(self._none, tls), _WARM_UP * 2 + settings.rounds * messages)
            await drain(self._full, Sink(self._full, tls), _WARM_UP)
            for _ in range(settings.rounds):
                figures.add("flow", "none", await flow(self._none, to_none, Sink(self._none, tls), messages))
                figures.add("drain", "full", await drain(self._full, Sink(self._full, tls), messages))
                figures.add("defer", "full", await drain(self._full, Sink(self._full, tls, defer=True), messages))
                figures.add("flow", "full", await flow(self._full, to_full, Sink(self._full, tls), messages))
            _print(report.draining(figures))


def _print(lines: list[str]) -> None:
    print("\n".join(lines), flush=True)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _headline(settings: Settings, folder: Path) -> str:
    place = f"{os.path.relpath(folder, ROOT)} on {machine.filesystem(folder)}"
    return (
        f"one queue replica, {settings.queued:,} messages of {settings.octets:,} octets, rounds of "
        f"{settings.messages:,}, median of {settings.rounds}; everything synced, {place}; "
        f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )


@contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A fresh folder, removed at the end."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="queue-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
