"""Letters on a command line as qmail's programs take them (getopt of old): `-nf sender`, `-nfsender`, `--` ends them.

Says what is wrong in qmail's words and stops; what a letter means is the program's affair.
"""

from collections.abc import Iterator, Sequence

from programs.complaint import octets, say

WRONG = "?"


class Options:
    """Iterates over (letter, its word or ""); after that `rest` has the other words. A mistake is told to standard
    error and is (WRONG, "") as the last of them."""

    def __init__(self, program: str, words: Sequence[str], letters: str) -> None:
        """`letters` as for getopt(3): a colon behind those that take a word."""
        self._program = program
        self._letters = letters
        self._cluster = ""
        self.rest = list(words)

    def skip(self) -> None:
        """The letters that stand in the same word as the last one are none."""
        self._cluster = ""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        while self.rest and self.rest[0].startswith("-") and self.rest[0] != "-":
            self._cluster = self.rest.pop(0)[1:]
            if self._cluster.startswith("-"):
                return
            while self._cluster:
                letter, self._cluster = self._cluster[0], self._cluster[1:]
                place = self._letters.find(letter) if letter != ":" else -1
                if place < 0:
                    yield self._wrong("illegal option", letter)
                    return
                if self._letters[place + 1 : place + 2] != ":":
                    yield letter, ""
                    continue
                word, self._cluster = self._cluster, ""
                if not word and not self.rest:
                    yield self._wrong("option requires an argument", letter)
                    return
                yield letter, word or self.rest.pop(0)

    def _wrong(self, what: str, letter: str) -> tuple[str, str]:
        say(octets(f"{self._program}: {what} -- {letter}"))
        return WRONG, ""
