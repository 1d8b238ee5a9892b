"""bouncesaying(1): sends the message back with a text, always or if a program says so."""

from collections.abc import Sequence

from programs import question
from programs.complaint import PERMANENT, die, reported


def main(words: Sequence[str]) -> int:
    """100 with the text when the message is to bounce, 0 when it is not; 111 when the program wants it tried later."""
    if not words:
        return die(PERMANENT, "bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]")
    return reported("bouncesaying", _bounce, words)


def _bounce(words: Sequence[str]) -> int:
    if len(words) > 1 and not question.agrees(words[1:]):
        return 0
    return die(PERMANENT, words[0])
