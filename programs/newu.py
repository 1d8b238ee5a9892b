"""qmail-newu(8): compiles users/assign into users/cdb, or says that it cannot and leaves the old one.

Seapost obeys the text itself (`runtime/accounts.py`); what this is good for is to check it, and the file for a qmail.
"""

import os
from collections.abc import Sequence

from mail import assign
from programs import place
from programs.complaint import TEMPORARY, Fatal, reported
from programs.replacement import WORLD_READABLE, replace


def main(words: Sequence[str]) -> int:
    """0 when users/cdb is made anew; otherwise 111 with a reason in qmail's words. Words are passed over, as there."""
    return reported("qmail-newu", _make, words)


def _make(words: Sequence[str]) -> int:
    parent, name = os.path.split(place.users())
    try:
        os.chdir(parent)
    except OSError as error:
        raise Fatal(TEMPORARY, "unable to chdir") from error
    try:
        made = assign.compiled(_text(f"{name}/assign"))
    except assign.BadAssign as error:
        raise Fatal(TEMPORARY, f"bad format in {name}/assign") from error
    try:
        replace(f"{name}/cdb", f"{name}/cdb.tmp", [made], WORLD_READABLE, create="open")
    except Fatal as fatal:  # qmail-newu gives no reasons
        text = fatal.text.partition(b": ")[0].replace(b"unable to write to ", b"unable to write ")
        raise Fatal(TEMPORARY, text) from fatal
    return 0


def _text(path: str) -> bytes:
    try:
        file = open(path, "rb")  # noqa: SIM115 - that it cannot be opened and that it cannot be read are told apart
    except OSError as error:
        raise Fatal(TEMPORARY, f"unable to open {path}") from error
    with file:
        try:
            return file.read()
        except OSError as error:
            raise Fatal(TEMPORARY, f"unable to read {path}") from error
