"""The sabotages that syntax does not show: each rule of the queue broken by hand, as a text and what stands instead.

The text must be found exactly once, so whoever changes the code meets this list, and says again what the rule is.
"""

from dataclasses import dataclass

from tests.sabotage.census import ROOT, Kind, Sabotage


@dataclass(frozen=True, slots=True)
class Patch:
    """A rule, the file that keeps it, and the text that does."""

    rule: str
    path: str
    text: str
    instead: str

    def sabotage(self) -> Sabotage:
        source = (ROOT / self.path).read_bytes()
        found = source.count(self.text.encode())
        assert found == 1, f"{self.path} has this {found} times, so it is not clear what breaks: {self.rule}"
        start = source.index(self.text.encode())
        first = source[:start].count(b"\n") + 1
        lines = frozenset((self.path, first + further) for further in range(self.text.count("\n") + 1))
        pieces = ((start, start + len(self.text.encode()), self.instead.encode()),)
        return Sabotage(Kind.RULE, self.path, first, "-", self.rule, pieces, lines)


PATCHES: tuple[Patch, ...] = ()


def all() -> list[Sabotage]:
    return [patch.sabotage() for patch in PATCHES]
