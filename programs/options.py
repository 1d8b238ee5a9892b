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
        self.rest = list(words)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        while self.rest and self.rest[0].startswith("-") and self.rest[0] != "-":
            cluster = self.rest.pop(0)[1:]
            if cluster.startswith("-"):
                return
            while cluster:
                letter, cluster = cluster[0], cluster[1:]
                place = self._letters.find(letter) if letter != ":" else -1
                if place < 0:
                    yield self._wrong("illegal option", letter)
                    return
                if self._letters[place + 1 : place + 2] != ":":
                    yield letter, ""
                    continue
                if not cluster and not self.rest:
                    yield self._wrong("option requires an argument", letter)
                    return
                word, cluster = cluster or self.rest.pop(0), ""
                yield letter, word

    def _wrong(self, what: str, letter: str) -> tuple[str, str]:
        say(octets(f"{self._program}: {what} -- {letter}"))
        return WRONG, ""
