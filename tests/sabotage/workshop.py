"""Copies of the tree in which one thing at a time is taken away, and the tests that are asked whether they notice.

The first run of a copy is of the code as it is: every test must pass, and leaves its footprint, which says whom to ask
about a line. A sabotage is then written into the copy, the tests that run its lines are asked, the quickest first, and
the file is put back.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from runtime.clock import SystemClock
from tests.sabotage.census import ROOT, Kind, Sabotage
from tests.sabotage.oven import OPTIONS

# What a copy has: everything that tests read. Not `var`, not what was built.
_COPIED = ("mail", "runtime", "services", "proto", "cli", "bin", "control", "tests", "pyproject.toml", "requirements")

# Who may be asked, and what runs in processes of its own, where no footprint is seen.
POOL = (
    "tests/unit/queue",
    "tests/unit/runtime",
    "tests/contract/queue",
    "tests/contract/runtime/test_disk.py",
    "tests/contract/runtime/test_durable.py",
    "tests/contract/runtime/test_producer.py",
    "tests/contract/runtime/test_worker.py",
    "tests/contract/local/test_publish.py",
    "tests/contract/local/test_publish_order.py",
    "tests/contract/local/test_publish_troubles.py",
)
# These ask for a machine, or start processes in which no footprint is seen, and would take all the time there is.
_TOO_LONG = (
    "tests/contract/queue/test_scale.py",
    "tests/contract/queue/test_operator_orders.py",
    "tests/contract/queue/test_operator_view.py",
)
_ELSEWHERE = {
    "runtime/durable.py": ("tests/contract/runtime/test_durable.py",),
    "runtime/worker.py": ("tests/contract/runtime/test_worker.py",),
}

_FIRST_RUN_S = 600.0
# A sabotage that makes tests hang is noticed too: by this, beside five times what they took.
_PATIENCE_S = 20.0
# So many seconds of tests are asked about one sabotage; about a listed survivor only the quickest, each time again.
_ASKED_S = 25.0
_ASKED_OF_LISTED_S = 3.0

_FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)

# A sabotage that the module itself refuses, before any test of it is found.
_AT_IMPORT = re.compile(r"^ImportError while loading conftest .*^E   AssertionError: (.+?)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who noticed ("" when nobody did), after how many seconds, and how many tests were asked."""

    sabotage: Sabotage
    by: str
    seconds: float
    asked: int


@dataclass(slots=True)
class Footprints:
    """What each test runs, as (file, line), and how long it takes."""

    tests: dict[str, tuple[float, frozenset[tuple[str, int]]]] = field(default_factory=dict)

    def of(self, sabotage: Sabotage, is_listed: bool) -> list[str]:
        """The tests that run the sabotaged lines, as many as there is time for: first those that are quick and run
        little else, for they are about just this.

        A limit may also be named by a test. What runs when a module is imported has no footprint: there everybody is
        asked who runs anything of the file.
        """
        elsewhere = _ELSEWHERE.get(sabotage.path, ("?",))
        found = [
            test for test, (_, lines) in self.tests.items() if sabotage.lines & lines or test.startswith(elsewhere)
        ]
        if sabotage.kind is Kind.LIMIT:
            limit = sabotage.what.split()[0]
            found += [test for test in self.tests if test not in found and limit in _text_of(test)]
        if not found and sabotage.scope == "-":
            found = [test for test, (_, lines) in self.tests.items() if any(path == sabotage.path for path, _ in lines)]
        asked, left = [], _ASKED_OF_LISTED_S if is_listed else _ASKED_S
        for test in sorted(found, key=self._effort):
            left -= self.tests[test][0]
            if left > 0:
                asked.append(test)
        return asked

    def _effort(self, test: str) -> float:
        seconds, lines = self.tests[test]
        return seconds * (1 + len(lines))

    def seconds(self, tests: list[str]) -> float:
        return sum(self.tests[test][0] for test in tests)


@cache
def _text_of_file(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _text_of(test: str) -> str:
    """The file in which a test stands."""
    return _text_of_file(test.partition("::")[0])


class Workshop:
    """One copy of the tree, and the oven that stands in it."""

    def __init__(self, of: Path = ROOT) -> None:
        self._clock = SystemClock()
        self._place = Path(tempfile.mkdtemp(prefix="sabotage-"))
        self._tree = self._place / "tree"
        self._tree.mkdir()
        skipped = shutil.ignore_patterns(".pytest_cache", *(["__pycache__"] if of == ROOT else []))
        for name in _COPIED:
            source, target = of / name, self._tree / name
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True, ignore=skipped)
            else:
                shutil.copy2(source, target)
        (self._tree / ".venv").symlink_to(Path(sys.prefix))
        self._environment = {**os.environ, "PYTHONPATH": str(self._tree)}
        self._oven: subprocess.Popen[str] | None = None

    def another(self) -> "Workshop":
        """A second one, with everything that the first has compiled."""
        return Workshop(self._tree)

    def first_run(self) -> Footprints:
        """Runs every test on the code as it is. AssertionError when one fails: then nothing can be learned."""
        footprint = self._place / "footprint"
        pool = [name for name in POOL if (self._tree / name).exists()]
        command = [sys.executable, "-m", "pytest", *OPTIONS, "-p", "tests.sabotage.footprint"]
        command += [f"--ignore={name}" for name in _TOO_LONG]
        done = subprocess.run(
            [*command, f"--basetemp={self._place}/first", *pool],
            cwd=self._tree,
            env={**self._environment, "FOOTPRINT": str(footprint)},
            capture_output=True,
            text=True,
            timeout=_FIRST_RUN_S,
            check=False,
        )
        assert done.returncode == 0, f"without any sabotage:\n{done.stdout[-4_000:]}{done.stderr[-2_000:]}"
        found = json.loads(footprint.read_text())
        return Footprints(
            {
                test: (seconds, frozenset((path, line) for path, ran in lines.items() for line in ran))
                for test, (seconds, lines) in found.items()
            }
        )

    def try_out(self, sabotage: Sabotage, footprints: Footprints, is_listed: bool) -> Verdict:
        """Asks the tests about one sabotage."""
        began = self._clock.monotonic()
        asked = footprints.of(sabotage, is_listed)
        if not asked:
            return Verdict(sabotage, "", 0.0, 0)
        path = self._tree / sabotage.path
        source, times = path.read_bytes(), path.stat()
        path.write_bytes(sabotage.applied(source))
        os.utime(path, (1, 1))  # no compiled file has this time
        try:
            by = self._ask(asked, _PATIENCE_S + 5 * footprints.seconds(asked))
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return Verdict(sabotage, by, self._clock.monotonic() - began, len(asked))

    def _ask(self, tests: list[str], seconds: float) -> str:
        """The test that fails first; "" when none does."""
        oven = self._oven or self._light()
        said = self._place / "said"
        assert oven.stdin
        assert oven.stdout
        oven.stdin.write(json.dumps({"tests": tests, "seconds": seconds, "said": str(said)}) + "\n")
        oven.stdin.flush()
        status = json.loads(oven.stdout.readline())
        if status == 0:
            return ""
        text = said.read_text(errors="replace")
        failed = _FAILED.search(text)
        if failed:
            return failed[1]
        if status == "late":
            return "time is up"
        refused = _AT_IMPORT.search(text)
        if refused:
            return f"at import: {refused[1]}"
        raise AssertionError(f"the oven does not work (status {status}):\n{text[-4_000:]}")

    def _light(self) -> subprocess.Popen[str]:
        self._oven = subprocess.Popen(
            [sys.executable, "-m", "tests.sabotage.oven"],
            cwd=self._tree,
            env={**self._environment, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._oven

    def close(self) -> None:
        """Ends the oven and removes the copy."""
        if self._oven:
            assert self._oven.stdin
            assert self._oven.stdout
            self._oven.stdin.close()
            self._oven.wait()
            self._oven.stdout.close()
        shutil.rmtree(self._place, ignore_errors=True)
