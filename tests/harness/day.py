"""The calls of a clerk's day (tests/harness/clerk.py), one by one, and what becomes of the spool when one is struck.

A phase is what one thread does from one gate on; its calls are listed by a run that nothing happens to.
"""

import shutil
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from runtime.clock import SystemClock
from tests.harness import promises, strace
from tests.harness.brood import Brood, Journal
from tests.harness.promises import Lines
from tests.harness.strace import Call, Injection

CLERK = "tests.harness.clerk"
MAIN, LOG = "main", "log"


@dataclass(frozen=True, slots=True)
class Phase:
    """From which gate on which thread is looked at."""

    gate: str
    thread: str
    act: str = "work"

    def __str__(self) -> str:
        return f"{self.gate}-{self.thread}"


PHASES = (
    Phase("make", MAIN, "found"),
    Phase("take", MAIN),
    Phase("shift", LOG),
    Phase("shift", MAIN),
    Phase("leave", MAIN),
    Phase("leave", LOG),
)
# The next phase of the same thread: its calls are not counted twice.
_NEXT = {
    Phase("take", MAIN): Phase("shift", MAIN),
    Phase("shift", MAIN): Phase("leave", MAIN),
    Phase("shift", LOG): Phase("leave", LOG),
}


@dataclass(frozen=True, slots=True)
class Step:
    """A call of a phase."""

    phase: Phase
    call: Call

    def __str__(self) -> str:
        return f"{self.phase}: {self.call.name} {self.call.number}"


@dataclass(slots=True)
class Days:
    """Days that begin alike, each on a spool of its own."""

    brood: Brood
    program: str
    folder: Path
    born_ms: int = field(default_factory=lambda: SystemClock().wall_ms())
    before: Lines = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)

    @classmethod
    def begin(cls, parent: Brood, program: str, folder: Path) -> "Days":
        """The spool as dead owners left it."""
        days = cls(parent, program, folder)
        (folder / "first").mkdir()
        assert parent.run(f"{CLERK}:found", folder / "found", spool=str(folder / "first"), born_ms=days.born_ms) == 0
        days.before = Journal(folder / "found").lines()
        return days

    def morning(self, phase: Phase) -> Path:
        """A spool of one's own: as dead owners left it, or nothing yet."""
        spool = self.folder / f"spool-{next(self._numbers)}"
        if phase.act != "found":
            shutil.copytree(self.folder / "first", spool)
        else:
            spool.mkdir()
        return spool

    def work(self, spool: Path, phase: Phase, words: tuple[str, ...]) -> tuple[int, Lines, str]:
        """The day with strace at a phase: exit status, what was said, what strace saw."""
        journal, report = spool.with_suffix(".said"), spool.with_suffix(".calls")
        Journal.make(journal)
        child = self.brood.hatch(f"{CLERK}:{phase.act}", journal, phase.gate, spool=str(spool), born_ms=self.born_ms)
        thread = child.pid
        if phase.thread == LOG:
            thread = next(line[1] for line in Journal(journal).lines() if line[0] == "thread")
        with strace.attached(self.program, thread, words, report, alone=True):
            status = child.go()
        return status, Journal(journal).lines(), report.read_text(errors="replace")

    def steps(self, phase: Phase) -> list[Step]:
        """Every call of the phase on the spool's files, in order."""
        steps = self._steps(phase)
        return steps[: len(steps) - len(self._steps(_NEXT[phase]))] if phase in _NEXT else steps

    def _steps(self, phase: Phase) -> list[Step]:
        """Every call of the phase's thread from its gate to the end."""
        spool = self.morning(phase)
        status, _, seen = self.work(spool, phase, strace.LISTING)
        assert status == 0
        self.forget(spool)
        return [Step(phase, call) for call in strace.calls(seen, str(spool))]

    def strike(self, step: Step, effect: str, onwards: bool = False) -> tuple[Path, int, Lines]:
        """The day with something happening to one call, or to all of its kind from it on: the spool that is left, the
        exit status, what was said."""
        spool = self.morning(step.phase)
        when = f"{step.call.number}{'+' * onwards}"
        status, said, _ = self.work(spool, step.phase, Injection(step.call.name, effect, when).words)
        return spool, status, said

    def reckon(self, spool: Path, phase: Phase, said: Lines) -> list[str]:
        """What the next owners find wrong with it; the spool is removed when that is nothing."""
        said = self.before * (phase.act != "found") + said
        known = sorted(promises.told(said))
        facts = {"spool": str(spool), "born_ms": self.born_ms}
        survey, clear = spool.with_suffix(".survey"), spool.with_suffix(".clear")
        faults = []
        if self.brood.run(f"{CLERK}:survey", survey, numbers=known, **facts):
            faults.append(f"the next owner cannot take it: {Journal(survey).lines()}")
        faults += promises.broken(said, Journal(survey).lines())
        if self.brood.run(f"{CLERK}:clear", clear, **facts):
            faults.append("the one after it cannot deliver")
        left = [line[1:] for line in Journal(clear).lines() if line[0] == "left"]
        faults += [f"left behind: {one}" for one in left if one != [0, []]]
        if not faults:
            self.forget(spool)
        return faults

    def forget(self, spool: Path) -> None:
        shutil.rmtree(spool)
        for path in spool.parent.glob(f"{spool.name}.*"):
            path.unlink()
