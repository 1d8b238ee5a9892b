"""mailq: what `sendmail -bp` shows, whatever else the words say."""

from collections.abc import Sequence

from programs import sendmail


def main(words: Sequence[str]) -> int:
    """The exit status of qmail-qread."""
    return sendmail.main(["-bp", *words])
