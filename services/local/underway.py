"""Which instructions are under way that cannot be done exactly once: programs and mboxes (window W2).

Noted in a file before they begin, struck out when the queue has recorded what became of them. Whoever starts after a
death finds in it what may have happened without anybody knowing, and says so when it is done again. The file is not
synced: it outlives every process, not a power cut, after which W2 is entered in silence.
"""

import os
from collections import OrderedDict
from collections.abc import Iterable

from runtime.clock import Clock
from runtime.durable import Disk

# What was never tried again: the message is too old by then (queuelifetime is a week).
_FORGOTTEN_AFTER_S = 8 * 86_400
_ENTRIES_MAX = 10_000
_FILE_MAX_OCTETS = 4 * 1024 * 1024
_REWRITE_AFTER_LINES = 10_000

# A message and recipient (sweep.called) and the number of the instruction.
Step = tuple[str, int]


class Underway:
    """The notes of one local. `path` "" keeps them in memory only."""

    def __init__(self, path: str, disk: Disk, clock: Clock) -> None:
        self._path = path
        self._disk = disk
        self._clock = clock
        self._begun: OrderedDict[str, dict[int, int]] = OrderedDict()  # instructions, and when in unix seconds
        self._lost: set[Step] = set()
        self._fd = -1
        self._lines = 0
        if path:
            self._read()
            self._rewrite()

    def begin(self, steps: Iterable[Step]) -> list[Step]:
        """These begin now. Returns those that a lost attempt began before: they may happen for the second time."""
        steps = list(steps)
        now_s = self._clock.wall_ms() // 1_000
        again = [step for step in steps if step in self._lost]
        self._lost.difference_update(again)
        for what, index in steps:
            self._begun.setdefault(what, {})[index] = now_s
        while len(self._begun) > _ENTRIES_MAX:
            what, indexes = self._begun.popitem(last=False)
            self._lost.difference_update((what, index) for index in indexes)
        self._write(f"+ {now_s} {what} {index}\n" for what, index in steps)
        return again

    def lose(self, steps: Iterable[Step]) -> None:
        """Nobody knows what became of these, which have begun."""
        self._lost.update(steps)

    def finish(self, what: str) -> None:
        """The queue has recorded what became of this delivery. What was lost stays noted."""
        indexes = self._begun.get(what)
        if indexes is None:
            return
        over = [index for index in indexes if (what, index) not in self._lost]
        for index in over:
            del indexes[index]
        if not indexes:
            del self._begun[what]
        self._write(f"- 0 {what} {index}\n" for index in over)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, lines: Iterable[str]) -> None:
        lines = list(lines)
        if self._fd < 0 or not lines:
            return
        try:
            self._disk.write_all(self._fd, ["".join(lines).encode()])
        except OSError:  # a full disk: the mail goes on, W2 may go unnoticed
            return
        self._lines += len(lines)
        if self._lines > _REWRITE_AFTER_LINES:
            self._rewrite()

    def _read(self) -> None:
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                content = file.read(_FILE_MAX_OCTETS)
        except OSError:
            return
        since_s = self._clock.wall_ms() // 1_000 - _FORGOTTEN_AFTER_S
        for line in content.split("\n"):
            fields = line.split(" ")
            if len(fields) != 4 or not (fields[1].isdecimal() and fields[3].isdecimal()):
                continue  # the last line of who died while writing
            sign, when, what, index = fields
            if sign == "+" and int(when) >= since_s:
                self._begun.setdefault(what, {})[int(index)] = int(when)
            else:
                self._begun.get(what, {}).pop(int(index), None)
        self._lost = {(what, index) for what, indexes in self._begun.items() for index in indexes}

    def _rewrite(self) -> None:
        self.close()
        noted = [(when, what, index) for what, indexes in self._begun.items() for index, when in indexes.items()]
        content = "".join(f"+ {when} {what} {index}\n" for when, what, index in noted)
        try:
            self._disk.replace_file(self._path, content.encode())
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            self._fd = -1
        self._lines = len(noted)
