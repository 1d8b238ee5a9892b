"""A pytest plugin that writes down, for each test, how long it took and which lines of the subjects it ran.

Loaded by the workshop's first run, of the code as it is: `-p tests.sabotage.footprint`, with FOOTPRINT naming the file
to write. Sees threads and not other processes; the workshop knows the tests that start some.
"""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from runtime.clock import SystemClock

ROOT = str(Path(__file__).resolve().parents[2]) + os.sep


# A function that a test has called so often is not looked at again: its next call will not run another line.
_CALLS_MAX = 200


class Footprint:
    """Lines run between `begin` and `end`, of some files."""

    def __init__(self, subjects: frozenset[str]) -> None:
        self._files = {ROOT + subject: subject for subject in subjects}
        self._ran: set[tuple[str, int]] = set()
        self._calls: Counter[CodeType] = Counter()

    def begin(self) -> None:
        self._ran = set()
        self._calls.clear()
        threading.settrace(self._enter)
        sys.settrace(self._enter)

    def end(self) -> dict[str, list[int]]:
        sys.settrace(None)
        threading.settrace(None)
        lines: dict[str, list[int]] = {}
        for path, line in sorted(self._ran):
            lines.setdefault(path, []).append(line)
        return lines

    def _enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        path = self._files.get(frame.f_code.co_filename)
        if path is None:
            return None
        self._calls[frame.f_code] += 1
        if self._calls[frame.f_code] > _CALLS_MAX:
            return None
        ran = self._ran

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            ran.add((path, frame.f_lineno))
            return line

        return line(frame, event, argument)


class Plugin:
    """Writes {test: [seconds, {file: lines}]} at the end."""

    def __init__(self, path: str, subjects: frozenset[str]) -> None:
        self._path = path
        self._footprint = Footprint(subjects)
        self._clock = SystemClock()
        self._tests: dict[str, tuple[float, dict[str, list[int]]]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = self._clock.monotonic()
        self._footprint.begin()
        try:
            return (yield)
        finally:
            self._tests[item.nodeid] = (self._clock.monotonic() - began, self._footprint.end())

    def pytest_sessionfinish(self) -> None:
        Path(self._path).write_text(json.dumps(self._tests))


def pytest_configure(config: pytest.Config) -> None:
    from tests.sabotage.census import SUBJECTS

    config.pluginmanager.register(Plugin(os.environ["FOOTPRINT"], frozenset(SUBJECTS)))
