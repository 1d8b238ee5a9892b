"""except(1): turns a program's answer round. Named with the underscore of PEP 8, for `except` is a word of Python's."""

from collections.abc import Sequence

from programs import question
from programs.complaint import PERMANENT, die, reported


def main(words: Sequence[str]) -> int:
    """100 when the program exits 0, 111 when it exits 111 or crashes, otherwise 0."""
    if not words:
        return die(PERMANENT, "except: usage: except program [ arg ... ]")
    return reported("except", _reverse, words)


def _reverse(words: Sequence[str]) -> int:
    return PERMANENT if question.agrees(words) else 0
