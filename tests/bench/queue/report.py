"""What the bench prints: each figure with what was promised beside it. Pure: samples in, lines out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.queue.load import Cost
from tests.bench.queue.restart import Restart

MIB = 1024 * 1024


@dataclass(slots=True)
class Figures:
    """The samples of each kind of work at each replica."""

    queued: int
    base_octets: int = 0  # resident, of a replica with an empty queue
    samples: dict[tuple[str, str], list[Cost]] = field(default_factory=dict)

    def add(self, work: str, replica: str, cost: Cost) -> None:
        self.samples.setdefault((work, replica), []).append(cost)

    def of(self, work: str, replica: str) -> Cost:
        """The medians."""
        found = self.samples[work, replica]
        return Cost(median(cost.rate for cost in found), median(cost.cpu_ms for cost in found))

    def spread(self, work: str, replica: str) -> tuple[float, float]:
        """The least and the most processor time."""
        found = [cost.cpu_ms for cost in self.samples[work, replica]]
        return min(found), max(found)


def restart(figures: Figures, found: Restart, deferred: bool) -> list[str]:
    """What a start on a large spool took, and the memory after it."""
    what = "deferred once, with a report" if deferred else "never tried"
    each = (found.octets - figures.base_octets) / figures.queued
    return [
        "",
        f"restart with {figures.queued:,} messages, {what}",
        _line("first 250 of new mail", f"{found.first_s:.2f} s", "<= 3 s"),
        _line("everything scanned", f"{found.scan_s:.1f} s", f"<= 60 s; {found.scan_processor_s:.1f} s of a processor"),
        _line(
            "everything planned, nothing left to do",
            f"{found.idle_s:.1f} s",
            f"{found.processor_s:.1f} s of a processor; others had it for {found.others_s:.1f} s",
        ),
        _line("a message meanwhile waited, median", f"{found.typical_ms:.0f} ms"),
        _line("  and at most", f"{found.slowest_ms:.0f} ms", f"it came {found.slowest_at_s:.0f} s after the start"),
        _line(
            "memory of each message",
            f"{each:.0f} octets",
            f"<= 300; resident {found.octets / MIB:.0f} MiB, at most {found.peak_octets / MIB:.0f}, "
            f"{figures.base_octets / MIB:.0f} without",
        ),
    ]


def accepting(figures: Figures) -> list[str]:
    """What taking a message costs with nothing queued and with a large backlog."""
    none, full = figures.of("accept", "none"), figures.of("accept", "full")
    return [
        "",
        "accepting, nothing delivered: processor time of the queue, and rate",
        _row("nothing queued", none, figures.spread("accept", "none")),
        _row(f"{figures.queued:,} queued", full, figures.spread("accept", "full")),
        _line("processor time, of that with nothing", _percent(full.cpu_ms, none.cpu_ms), "<= 110 %"),
        _line("time, of that with nothing", _percent(none.rate, full.rate), "<= 110 %"),
    ]


def draining(figures: Figures) -> list[str]:
    """What delivering a backlog costs beside mail that is delivered as it comes."""
    normal, drained = figures.of("flow", "none"), figures.of("drain", "full")
    rows: Sequence[tuple[str, str, str]] = (
        ("accepted and delivered, nothing queued", "flow", "none"),
        (f"the same, {figures.queued:,} queued", "flow", "full"),
        (f"out of {figures.queued:,}, delivered", "drain", "full"),
        (f"out of {figures.queued:,}, put off", "defer", "full"),
    )
    return [
        "",
        "delivering: processor time of the queue, and rate",
        *(_row(title, figures.of(work, replica), figures.spread(work, replica)) for title, work, replica in rows),
        _line("rate of draining, of normal flow", _percent(drained.rate, normal.rate), ">= 90 %"),
        _line("its processor time, of normal flow", _percent(drained.cpu_ms, normal.cpu_ms)),
        _line(
            "  without that of accepting",
            _percent(drained.cpu_ms, normal.cpu_ms - figures.of("accept", "none").cpu_ms),
        ),
    ]


def _line(title: str, figure: str, note: str = "") -> str:
    return f"  {title:<42}{figure:>14}{'  ' + note if note else ''}"


def _row(title: str, cost: Cost, spread: tuple[float, float]) -> str:
    least, most = spread
    return f"  {title:<42}{cost.cpu_ms:>11.3f} ms  {least:.3f} to {most:.3f}{cost.rate:>10.0f}/s"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole > 0 else "-"
