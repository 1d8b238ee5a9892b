"""The sabotages that syntax does not show: each rule of the queue, and how it is broken by hand (rules.txt).

There `# ` says how, then comes the file, then the lines that keep the rule (`-`) and what stands instead (`+`). The
lines must be found exactly once, so whoever changes the code meets the list, and says again what the rule is.
"""

from dataclasses import dataclass, field
from pathlib import Path

from tests.sabotage.census import ROOT, Kind, Sabotage

LISTED = Path(__file__).with_name("rules.txt")


@dataclass(slots=True)
class Rule:
    """How a rule is broken, the file that keeps it, the lines that do, and those instead."""

    broken: str
    path: str = ""
    kept_by: list[str] = field(default_factory=list)
    instead: list[str] = field(default_factory=list)

    def sabotage(self) -> Sabotage:
        """ValueError when the lines are not there, or not only there."""
        source = (ROOT / self.path).read_bytes()
        text = "".join(self.kept_by).encode()
        found = source.count(b"\n" + text)
        if found != 1:
            raise ValueError(f"{self.path} has this {found} times, so it cannot be tried: {self.broken}")
        start = source.index(b"\n" + text) + 1
        first = source[:start].count(b"\n") + 1
        lines = frozenset((self.path, first + further) for further in range(len(self.kept_by)))
        pieces = ((start, start + len(text), "".join(self.instead).encode()),)
        return Sabotage(Kind.RULE, self.path, first, "-", self.broken, pieces, lines)


def read(path: Path = LISTED) -> list[Rule]:
    rules: list[Rule] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match line[:1]:
            case "#":
                rules.append(Rule(line[1:].strip()))
            case "-":
                rules[-1].kept_by.append(line[1:] + "\n")
            case "+":
                rules[-1].instead.append(line[1:] + "\n")
            case "" | "=":
                pass
            case _:
                rules[-1].path = line
    return rules


def sabotages() -> tuple[list[Sabotage], list[str]]:
    """Those that can be tried, and what is wrong with the others."""
    found, wrong = [], []
    for rule in read():
        try:
            found.append(rule.sabotage())
        except ValueError as error:
            wrong.append(str(error))
    return found, wrong
