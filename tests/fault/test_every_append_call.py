"""Appending to an mbox that dies at, or is refused, every call to the file system: one copy in the end, none torn.

One small process, call after call. FAULT_ALL=1 tries every error at every call.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from tests.harness import brood, strace
from tests.harness.brood import Brood, Journal
from tests.harness.scribe import SCRIBE, stands
from tests.harness.strace import Call, Injection

pytestmark = pytest.mark.timeout(600)

ALL = os.environ.get("FAULT_ALL") == "1"
ACT = f"{SCRIBE}:append"
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ESTALE", "ENOMEM", "EINTR")
OLD = b"From old x\n\nold\n\n"
BATCHES = (["one"], ["one", "two", "three"])


@dataclass(slots=True)
class Post:
    """Attempts, each at an mbox of its own: one that is not there yet, or one with something in it."""

    parent: Brood
    program: str
    folder: Path
    _numbers: "count[int]" = field(default_factory=count)

    def mbox(self, old: bytes) -> Path:
        home = self.folder / f"home-{next(self._numbers)}"
        home.mkdir()
        if old:
            (home / "mbox").write_bytes(old)
        return home / "mbox"

    def calls(self, names: list[str], old: bytes) -> list[Call]:
        mbox = self.mbox(old)
        status, _, seen = self.attempt(mbox, names, strace.LISTING)
        assert status == 0
        return strace.calls(seen, str(mbox.parent))

    def attempt(self, mbox: Path, names: list[str], words: tuple[str, ...]) -> tuple[int, dict[str, str], str]:
        """Exit status, the trouble of each message that was told, what strace saw."""
        journal, report = mbox.with_suffix(".said"), mbox.with_suffix(".calls")
        Journal.make(journal)
        child = self.parent.hatch(ACT, journal, "append", path=str(mbox), names=names)
        with strace.attached(self.program, child.pid, words, report, alone=True):
            status = child.go()
        return status, _told(journal), report.read_text(errors="replace")

    def again(self, mbox: Path, names: list[str]) -> dict[str, str]:
        """An attempt that nothing happens to."""
        journal = mbox.with_suffix(".again")
        assert self.parent.run(ACT, journal, path=str(mbox), names=names) == 0
        return _told(journal)

    def strike(self, names: list[str], call: Call, effect: str, old: bytes) -> list[str]:
        """What is wrong after an attempt with something happening to a call, and two more."""
        mbox = self.mbox(old)
        status, troubles, _ = self.attempt(mbox, names, Injection(call.name, effect, str(call.number)).words)
        faults = [] if status == (-9 if "KILL" in effect else 0) else [f"ended with {status}"]
        there = mbox.read_bytes() if mbox.exists() else b""
        told = [name for name, trouble in troubles.items() if not trouble]
        faults += [f"{name} is not there" for name in told if stands(name) not in there]
        for _ in range(2):
            faults += [f"{name}: {trouble}" for name, trouble in self.again(mbox, names).items() if trouble]
        if sorted(_split(mbox.read_bytes(), old)) != sorted(stands(name) for name in names):
            faults.append(f"there is {mbox.read_bytes()!r}")
        return faults


def _split(content: bytes, old: bytes) -> list[bytes]:
    assert content.startswith(old)
    first, *others = content[len(old) :].removesuffix(b"\n\n").split(b"\n\nFrom ")
    return [one + b"\n\n" for one in (first, *(b"From " + other for other in others))]


def _told(journal: Path) -> dict[str, str]:
    return {name: trouble for word, name, trouble in Journal(journal).lines() if word == "appended"}


@pytest.fixture
def post(tmp_path: Path, program: Callable[[str], str]) -> Iterator[Post]:
    with brood.running(SCRIBE) as parent:
        yield Post(parent, program("strace"), tmp_path)


@pytest.mark.parametrize("old", [b"", OLD], ids=["new", "old"])
@pytest.mark.parametrize("names", BATCHES, ids=len)
def test_a_kill_at_every_call_leaves_one_copy(post: Post, names: list[str], old: bytes) -> None:
    calls = [call for call in post.calls(names, old) if call.changes or ALL]
    faults = [f"{call}: {fault}" for call in calls for fault in post.strike(names, call, "signal=KILL", old)]
    assert len(calls) >= 4
    assert not faults, "\n".join(faults[:20])


@pytest.mark.parametrize("old", [b"", OLD], ids=["new", "old"])
def test_an_error_at_every_call_defers_or_is_no_matter(post: Post, old: bytes) -> None:
    """Who is told that it is there finds it; whoever is put off gets it, once, the next time."""
    names = BATCHES[1]
    faults = []
    for place, call in enumerate(post.calls(names, old)):
        for error in ERRORS if ALL else ERRORS[place % len(ERRORS) :][:1]:
            faults += [f"{call} {error}: {fault}" for fault in post.strike(names, call, f"error={error}", old)]
    assert not faults, "\n".join(faults[:20])
