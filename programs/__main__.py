"""Runs a program of this room by its name (`programs/table.py`): imported when it is called, for every start counts."""

import os
import sys
from collections.abc import Sequence

from programs.table import TABLE

EXIT_PERMANENT = 100
EXIT_TEMPORARY = 111


def run(name: str, words: Sequence[str]) -> int:
    """Runs the program of that name with these words; its exit status. What it did not foresee is temporary (111)."""
    module = TABLE.get(name)
    if module is None:
        _say(f"program: fatal: there is no program {name!r}; there are {', '.join(sorted(TABLE))}")
        return EXIT_PERMANENT
    try:
        status = int(__import__(f"programs.{module}", fromlist=["main"]).main(words))
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - the top of a process: a traceback means nothing to a mail's sender
        _say(f"{name}: fatal: {type(error).__name__}: {error}")
        return EXIT_TEMPORARY
    return status


def _say(text: str) -> None:
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def main(called: str, words: Sequence[str]) -> None:
    """Ends the process. `called` is the path that it was called by; `program NAME ...` is `NAME ...`."""
    from signal import SIG_DFL, SIGINT, SIGPIPE, signal

    for number in (SIGINT, SIGPIPE):
        signal(number, SIG_DFL)  # as in any program of C, and as whoever it runs expects it
    name = os.path.basename(called)
    if name == "program" and words:
        name, words = words[0], words[1:]
    status = run(name, words)
    sys.stderr.flush()
    os._exit(status)  # nothing is left to do, and tearing Python down takes a tenth of the time


if __name__ == "__main__":
    main("program", sys.argv[1:])
