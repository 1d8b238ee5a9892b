"""Processes that begin with everything imported: a parent that forks a child for each thing to be done.

A child waits at the gate that it was given, so that a test may attach to it there; what it has to tell it writes into
shared pages, because that is no system call and is there whatever the child dies of.
"""

import importlib
import json
import mmap
import os
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
_JOURNAL_OCTETS = 256 * 1024
_FAILED = 70  # EX_SOFTWARE: an exception that the child did not expect


class Journal:
    """What a child tells, line by line; a line that was said stays said."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), _JOURNAL_OCTETS)
        self._end = self._page.find(b"\0")

    @classmethod
    def make(cls, path: Path) -> "Journal":
        path.write_bytes(bytes(_JOURNAL_OCTETS))
        return cls(path)

    def say(self, *words: Any) -> None:
        """One line: a JSON list."""
        line = json.dumps(words).encode() + b"\n"
        assert self._end + len(line) < _JOURNAL_OCTETS
        # The first octet last: a line counts whole or not at all.
        self._page[self._end + 1 : self._end + len(line)] = line[1:]
        self._page[self._end : self._end + 1] = line[:1]
        self._end += len(line)

    def lines(self) -> list[list[Any]]:
        text = self._page[: self._page.find(b"\0")]
        return [json.loads(line) for line in text.splitlines()]


# What an act calls, with a name: there it waits when this is the gate that it was given.
Gate = Callable[[str], None]


@dataclass(slots=True)
class Child:
    """A forked child that waits at its gate."""

    brood: "Brood"
    pid: int

    def go(self) -> int:
        """Lets it go on and waits for its end: the exit status, or minus the signal."""
        return int(self.brood.ask("go"))


class Brood:
    """The parent process. One child at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def hatch(self, act: str, journal: Path, hold: str, **facts: Any) -> Child:
        """A child that has run `module:function` up to the gate of that name, or has ended before it."""
        return Child(self, int(self.ask("hatch", act, str(journal), hold, facts)))

    def run(self, act: str, journal: Path, **facts: Any) -> int:
        """Makes the journal and runs the act to its end; its exit status."""
        Journal.make(journal)
        return self.hatch(act, journal, "", **facts).go()

    def ask(self, *words: Any) -> str:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], WAIT_S)[0], f"no answer to {words}"
        return self._process.stdout.readline()


@contextmanager
def running(*modules: str) -> Iterator[Brood]:
    """A parent that has imported these modules."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.harness.brood", *modules],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        brood = Brood(process)
        brood.ask("ready")
        yield brood
        assert process.stdin
        process.stdin.close()


# -- the parent's side ------------------------------------------------------------------------------------------------


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    pid, release = 0, -1
    for line in sys.stdin:
        words = json.loads(line)
        answer = 0
        if words[0] == "hatch":
            pid, release = _fork(*words[1:])
            answer = pid
        elif words[0] == "go":
            os.close(release)
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def _fork(act: str, journal: str, hold: str, facts: dict[str, Any]) -> tuple[int, int]:
    arrival, arrived = os.pipe()
    gate, release = os.pipe()
    pid = os.fork()
    if pid:
        os.close(arrived)
        os.close(gate)
        os.read(arrival, 1)
        os.close(arrival)
        return pid, release
    os.close(arrival)
    os.close(release)
    for number in (0, 1):  # what it says as events is nobody's
        os.dup2(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), number)

    def wait(name: str) -> None:
        if name == hold:
            os.close(arrived)
            _pass(gate)

    status = _FAILED
    try:
        module, _, name = act.partition(":")
        function = getattr(importlib.import_module(module), name)
        pages = Journal(Path(journal))
        wait("")
        status = function(pages, wait, **facts)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _pass(gate: int) -> None:
    """Waits until the other end is closed."""
    poll = select.poll()
    poll.register(gate, select.POLLHUP)
    poll.poll()
    os.close(gate)


if __name__ == "__main__":
    main()
