"""Many histories on every processor, for as long as was asked, and what they showed.

Each job is a process of its own with a fixed hash seed, pinned to one processor, because handing the baton from thread
to thread is five times as quick there. Says how many histories a second it told, which crash points were passed by
whom, what struck there, and which seeds went wrong.
"""

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runtime.faults import Point
from tests.sim.run import Tale, tell, write_controls

# What a history must be, to be worth its time.
EVENTS_MIN = 300
REPLICAS_MIN = 3

_FAILURES_SHOWN = 10
# Points that only processes pass that are not on this stage.
_ELSEWHERE = ("publish.after_write", "publish.after_link", "publish.after_rename", "pop3.")


@dataclass(slots=True)
class Order:
    """Which seeds to tell: from `first`, every `jobs`-th to each job, `seeds` of them or for `seconds`."""

    first: int = 1
    seeds: int = 0
    seconds: float = 0.0
    jobs: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    stop_at: int = 0  # failures after which it is enough; 0 for never


@dataclass(slots=True)
class Summary:
    """What a campaign showed."""

    histories: int = 0
    events: int = 0
    messages: int = 0
    takeovers: int = 0
    crashes: int = 0
    seconds: float = 0.0
    wrong: dict[int, list[str]] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    first_failure_after: int = 0

    def add(self, said: dict[str, Any]) -> None:
        self.histories += 1
        for name in ("events", "messages", "takeovers", "crashes"):
            setattr(self, name, getattr(self, name) + said[name])
        self.passed.update(said["passed"])
        self.struck.update(said["struck"])
        if said["wrong"]:
            self.first_failure_after = self.first_failure_after or self.histories
            self.wrong[said["seed"]] = said["wrong"]


def run_job(first: int, step: int, seeds: int, seconds: float) -> None:
    """The work of one job: a line of JSON for each history, on standard output."""
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as controls:
        write_controls(controls)
        seed, told = first, 0
        while (told < seeds) if seeds else (time.monotonic() < until):
            print(json.dumps(_said(tell(seed, controls))), flush=True)
            seed += step
            told += 1


def _said(tale: Tale) -> dict[str, Any]:
    wrong = list(tale.wrong)
    if not wrong and (
        tale.events < EVENTS_MIN or tale.replicas < REPLICAS_MIN or not tale.takeovers or not tale.crashes
    ):
        wrong = [f"a poor history: {tale.events} events, {tale.takeovers} takeovers, {tale.crashes} crashes"]
    return {
        "seed": tale.seed,
        "events": tale.events,
        "messages": tale.messages,
        "takeovers": tale.takeovers,
        "crashes": tale.crashes,
        "wrong": [one[:600] for one in wrong[:5]],
        "passed": {f"{role} {point}": count for (point, role), count in tale.passed.items()},
        "struck": {f"{role} {point} {what}": count for (point, role, what), count in tale.struck.items()},
    }


def run(order: Order) -> Summary:
    """Tells the histories of an order."""
    processors = sorted(os.sched_getaffinity(0))
    started = time.monotonic()
    jobs = [_start(order, number, processors[number % len(processors)]) for number in range(order.jobs)]
    summary = Summary()
    try:
        for line in _lines(jobs):
            summary.add(json.loads(line))
            if order.stop_at and len(summary.wrong) >= order.stop_at:
                break
    finally:
        for job in jobs:
            job.terminate()
            job.wait()
            assert job.stdout is not None
            job.stdout.close()
    summary.seconds = time.monotonic() - started
    return summary


def _start(order: Order, number: int, processor: int) -> "subprocess.Popen[str]":
    seeds = -(-order.seeds // order.jobs) if order.seeds else 0
    words = [str(order.first + number), str(order.jobs), str(seeds), str(order.seconds)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sim", "job", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        preexec_fn=lambda: os.sched_setaffinity(0, {processor}),
    )


def _lines(jobs: "list[subprocess.Popen[str]]") -> Iterator[str]:
    """What the jobs say, as it comes; RuntimeError when one ends badly."""
    with selectors.DefaultSelector() as selector:
        for job in jobs:
            assert job.stdout is not None
            selector.register(job.stdout, selectors.EVENT_READ, job)
        while selector.get_map():
            for key, _ in selector.select():
                line = key.fileobj.readline()  # type: ignore[union-attr]
                if line:
                    yield line
                    continue
                selector.unregister(key.fileobj)
                if status := key.data.wait():
                    raise RuntimeError(f"a job of the simulation ended with {status}")


def report(summary: Summary) -> str:
    """The summary, for people."""
    rate = summary.histories / summary.seconds
    lines = [
        f"{summary.histories} histories in {summary.seconds:.0f} s: {rate:.2f} a second",
        f"{summary.events} events, {summary.messages} messages, "
        f"{summary.takeovers} takeovers, {summary.crashes} crashes",
    ]
    lines += _coverage(summary)
    for seed, wrong in list(summary.wrong.items())[:_FAILURES_SHOWN]:
        lines.append(f"seed {seed}: {wrong[0]}")
        lines += [f"    {one}" for one in wrong[1:]]
    if summary.wrong:
        lines.append(f"{len(summary.wrong)} seeds went wrong; a seed again, with its trace: make sim REPLAY=<seed>")
    return "\n".join(lines)


def _coverage(summary: Summary) -> list[str]:
    """For each crash point and role: how often it was passed, and how often what struck there."""
    lines = [f"{'crash point':<28}{'role':<9}{'passed':>9}  struck"]
    seen = set()
    for key, count in sorted(summary.passed.items(), key=lambda one: one[0].split()[::-1]):
        role, point = key.split()
        seen.add(point)
        struck = Counter[str]()
        for what, times in summary.struck.items():
            if what.startswith(f"{role} {point} "):
                struck[what.removeprefix(f"{role} {point} ")] += times
        shown = ", ".join(f"{what} {times}" for what, times in sorted(struck.items()))
        lines.append(f"{point:<28}{role:<9}{count:>9}  {shown}")
    calls = Counter[str]()
    for what, times in summary.struck.items():
        role, name, _ = what.split(maxsplit=2)
        if "." not in name:
            calls[f"{role} {name}"] += times
    lines.append("struck at system calls: " + ", ".join(f"{name} {times}" for name, times in sorted(calls.items())))
    missing = [one.value for one in Point if one.value not in seen and not one.value.startswith(_ELSEWHERE)]
    if missing:
        lines.append(f"crash points never passed: {', '.join(missing)}")
    return lines
