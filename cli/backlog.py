"""`queue wait-idle` and `queue stats`: how much is queued, on every replica of the stack."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cli import admin, escape, replicas
from cli.admin import Counts, Replica, Stats, Unanswered, Worker
from cli.listing import refuse_silent
from cli.places import Places
from cli.queued import ago
from cli.refusal import EXIT_FAILED, Refusal
from cli.selection import Selection
from runtime.clock import Clock

_POLL_S = 0.05
# A log may change hands between two answers: idle is what every replica says twice in a row.
_IDLE_PASSES = 2


def wait_idle(places: Places, timeout_s: float, as_json: bool, clock: Clock) -> int:
    """0 once no replica holds a message; Refusal (1) at the timeout, saying who does or does not answer."""
    busy = asyncio.run(_wait_idle(places, clock.monotonic() + timeout_s, clock))
    if as_json:
        print(escape.json_line({"idle": not busy, "busy": busy}))
    if busy:
        raise Refusal("; ".join(busy), EXIT_FAILED)
    return 0


async def _wait_idle(places: Places, deadline: float, clock: Clock) -> list[str]:
    """Who was not idle at the deadline; nobody when all were before it."""
    passes = 0
    async with admin.replicas(await replicas.find(places, os.environ), replicas.identity(places)) as them:
        while passes < _IDLE_PASSES:
            answers = await asyncio.gather(*(replica.stats() for replica in them), return_exceptions=True)
            busy = [
                problem for replica, answer in zip(them, answers, strict=True) if (problem := _busy(replica, answer))
            ]
            busy += map(str, replicas.unserved([answer for answer in answers if isinstance(answer, Stats)]))
            passes = 0 if busy else passes + 1
            if busy and clock.monotonic() >= deadline:
                return busy
            await asyncio.sleep(_POLL_S)
    return []


def _busy(replica: Replica, answer: Stats | BaseException) -> str:
    match answer:
        case Stats(messages=0):
            return ""
        case Stats():
            return f"the queue at {replica.address} still holds {answer.messages} messages"
        case Unanswered():
            return str(answer)
    raise answer


@dataclass(frozen=True, slots=True)
class Shape:
    """How `queue stats` is shown."""

    as_json: bool
    top: int


def stats(places: Places, selection: Selection, shape: Shape, clock: Clock) -> int:
    """Prints the figures of every replica and their sum; Refusal (75) names replicas that are silent."""
    return asyncio.run(_stats(places, selection, shape, clock))


async def _stats(places: Places, selection: Selection, shape: Shape, clock: Clock) -> int:
    silent: list[Unanswered] = []
    found: list[Stats] = []
    async with admin.replicas(await replicas.find(places, os.environ), replicas.identity(places)) as them:
        answers = await asyncio.gather(*(replica.counted(selection) for replica in them), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Stats):
                found.append(answer)
            elif isinstance(answer, Unanswered):
                silent.append(answer)
            else:
                raise answer
        silent += await replicas.gaps(them)
    everything = total(found)
    for one in [*found, everything] if len(found) != 1 else found:
        if shape.as_json:
            sys.stdout.write(escape.json_line(as_json(one, shape.top)) + "\n")
        else:
            sys.stdout.write("\n".join(lines(one, shape.top, clock.wall_ms() / 1_000)) + "\n")
    sys.stdout.flush()
    refuse_silent(silent)
    return 0


def total(found: list[Stats]) -> Stats:
    """All replicas as one, called `sum`."""
    counts = [one.counts for one in found if one.counts]
    oldest = min(
        ((one.oldest_arrived, one.oldest) for one in counts if one.oldest_arrived is not None), default=(None, "")
    )
    return Stats(
        replica="sum",
        messages=sum(one.messages for one in found),
        delivering=sum(one.delivering for one in found),
        logs=tuple(log for one in found for log in one.logs),
        volume=tuple({log: None for one in found for log in one.volume}),
        workers=tuple(worker for one in found for worker in one.workers),
        counts=Counts(
            messages=sum(one.messages for one in counts),
            octets=sum(one.octets for one in counts),
            oldest=oldest[1],
            oldest_arrived=oldest[0],
            channels=_sum(one.channels for one in counts),
            states=_sum(one.states for one in counts),
            reasons=_sum(one.reasons for one in counts),
            destinations=_sum(one.destinations for one in counts),
        ),
    )


def as_json(one: Stats, top: int) -> dict[str, Any]:
    """The figures as `queue stats --json` writes them."""
    counts = one.counts
    assert counts, "asked for"
    return {
        "replica": one.replica,
        "messages": one.messages,
        "delivering": one.delivering,
        "logs": one.logs,
        "workers": [
            {
                "worker": worker.name,
                "channel": worker.channel,
                "slots": worker.slots,
                "busy": worker.busy,
                "draining": worker.draining,
            }
            for worker in one.workers
        ],
        "matching": counts.messages,
        "octets": counts.octets,
        "oldest": counts.oldest or None,
        "oldest_arrived": counts.oldest_arrived,
        "channels": counts.channels,
        "states": counts.states,
        "reasons": counts.reasons,
        "destinations": [{"destination": name, "recipients": count} for name, count in _top(counts.destinations, top)],
    }


def lines(one: Stats, top: int, now_s: float) -> list[str]:
    """The figures for people."""
    counts = one.counts
    assert counts, "asked for"
    matching = f", {counts.messages} of them match" if counts.messages != one.messages else ""
    shown = [f"{escape.plain(one.replica)}: {one.messages} messages{matching}, {counts.octets} octets"]
    if counts.oldest_arrived is not None:
        shown.append(f"  oldest      {counts.oldest}, {ago(now_s - counts.oldest_arrived)} old")
    shown.append(f"  logs        {' '.join(one.logs) or 'none'}")
    shown.append(f"  workers     {', '.join(map(_worker, one.workers)) or 'none'}")
    for name, figures in (("by channel", counts.channels), ("by state", counts.states), ("waits for", counts.reasons)):
        if figures:
            shown.append(f"  {name:<11} {', '.join(f'{key} {count}' for key, count in _top(figures, len(figures)))}")
    largest = _top(counts.destinations, top)
    rest = sum(counts.destinations.values()) - sum(count for _, count in largest)
    for number, (name, count) in enumerate([*largest, ("elsewhere", rest)] if rest else largest):
        shown.append(f"  {'' if number else 'to':<11} {count:>7} {escape.plain(name)}")
    return shown


def _worker(worker: Worker) -> str:
    draining = " draining" if worker.draining else ""
    return f"{escape.plain(worker.name or '?')} {worker.channel} {worker.busy}/{worker.slots}{draining}"


def _top(figures: Mapping[str, int], count: int) -> list[tuple[str, int]]:
    """The largest first; of the same size in the order of the alphabet; what has no name is no place of its own."""
    named = [(name, figure) for name, figure in figures.items() if name]
    return sorted(named, key=lambda pair: (-pair[1], pair[0]))[:count]


def _sum(many: Any) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for one in many:
        summed.update(one)
    return dict(summed)
