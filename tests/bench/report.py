"""The table: medians of the runs, and what Seapost comes to as a multiple of each other system.

Pure: samples in, lines out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.bench.run import Sample, Scenario

OURS = "seapost"
# A machine that does more than this by itself measures itself.
BUSY_PROCESSORS = 0.2
_HEAD = f"  {'':<22}{'accepted/s':>11}{'delivered/s':>13}{'CPU ms/message':>16}{'own processes':>15}{'runs':>6}"


@dataclass(slots=True)
class Results:
    """The samples of every system in every scenario, in the order in which they came."""

    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)

    def add(self, scenario: Scenario, system: str, sample: Sample) -> None:
        self.samples.setdefault((scenario.name, system), []).append(sample)

    def of(self, scenario: Scenario) -> dict[str, Sample]:
        """The median of each figure for each system."""
        return {system: _median(found) for (name, system), found in self.samples.items() if name == scenario.name}

    def runs(self, scenario: Scenario, system: str) -> int:
        return len(self.samples[scenario.name, system])


def _median(samples: Sequence[Sample]) -> Sample:
    parts = {name for sample in samples for name in sample.parts}
    return Sample(
        accepted=median(sample.accepted for sample in samples),
        delivered=median(sample.delivered for sample in samples),
        whole=median(sample.whole for sample in samples),
        parts={part: median(sample.parts.get(part, 0.0) for sample in samples) for part in sorted(parts)},
        idle=median(sample.idle for sample in samples),
    )


def lines(results: Results, scenarios: Sequence[Scenario]) -> list[str]:
    """The whole table."""
    said = []
    for scenario in scenarios:
        found = results.of(scenario)
        if found:
            said += ["", f"{scenario.name}: {scenario.title}", _HEAD]
            said += [_row(system, sample, results.runs(scenario, system)) for system, sample in found.items()]
            said += _ratios(found)
    busy = max((sample.idle for scenario in scenarios for sample in results.of(scenario).values()), default=0.0)
    if busy > BUSY_PROCESSORS:
        said += [
            "",
            f"The machine kept {busy:.1f} processors busy with other things: the rates are too low and the CPU of",
        ]
        said += ["the whole machine means nothing; compare the CPU of the systems' own processes, and run again."]
    return said


def _row(system: str, sample: Sample, runs: int) -> str:
    rates = f"{sample.accepted:>11.0f}{sample.delivered:>13.0f}"
    return f"  {system:<22}{rates}{sample.whole:>16.2f}{sample.own:>15.2f}{runs:>6}"


def _ratios(found: Mapping[str, Sample]) -> list[str]:
    ours = found.get(OURS)
    if ours is None:
        return []
    said = []
    for system, other in found.items():
        if system != OURS:
            rates = f"{_times(ours.accepted, other.accepted):>11}{_times(ours.delivered, other.delivered):>13}"
            costs = f"{_times(ours.whole, other.whole):>16}{_times(ours.own, other.own):>15}"
            said.append(f"  {f'/ {system}':<22}{rates}{costs}")
    parts = sorted(ours.parts.items(), key=lambda part: -part[1])
    shares = ", ".join(f"{name} {cost:.2f}" for name, cost in parts if cost >= 0.005)
    said.append(f"  {OURS}'s parts, ms/message: {shares}")
    return said


def _times(ours: float, other: float) -> str:
    return f"{ours / other:.2f}x" if other > 0 else "-"
