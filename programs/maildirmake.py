"""maildirmake(1): makes a Maildir for the one who calls it, closed to everybody else."""

import os
from collections.abc import Sequence

from programs.complaint import PERMANENT, because, die, reported


def main(words: Sequence[str]) -> int:
    """0 when the Maildir is there with its three parts; 111 with a reason when a directory cannot be made."""
    if not words:
        return die(PERMANENT, "maildirmake: usage: maildirmake name")
    return reported("maildirmake", _make, words)


def _make(words: Sequence[str]) -> int:
    name = words[0]
    os.umask(0o077)
    _mkdir(name, name)
    try:
        os.chdir(name)
    except OSError as error:
        raise because(f"unable to chdir to {name}: ", error) from error
    for part in ("tmp", "new", "cur"):
        _mkdir(part, f"{name}/{part}")
    return 0


def _mkdir(path: str, shown: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except OSError as error:
        raise because(f"unable to mkdir {shown}: ", error) from error
