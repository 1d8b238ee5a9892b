"""Publishing that dies at, or is refused, every call to the file system: one copy in the end, whatever the reader does.

One small process, call after call. FAULT_ALL=1 tries every error at every call for every reader.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, product
from pathlib import Path

import pytest

from services.local.publish import SYNC_TOGETHER_MIN
from tests.harness import brood, strace
from tests.harness.brood import Brood, Journal
from tests.harness.carrier import BODY, CARRIER, HEAD
from tests.harness.strace import Call, Injection

pytestmark = pytest.mark.timeout(900)

ALL = os.environ.get("FAULT_ALL") == "1"
ACT = f"{CARRIER}:publish"
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ESTALE", "ENOMEM", "EINTR")
BATCHES = (1, SYNC_TOGETHER_MIN)


def leave(maildir: Path) -> list[Path]:
    return []


def move(maildir: Path) -> list[Path]:
    for path in (maildir / "new").glob("*"):
        path.rename(maildir / "cur" / f"{path.name}:2,S")
    return []


def fetch(maildir: Path) -> list[Path]:
    """Out of the Maildir, as POP3 does it."""
    found = list((maildir / "new").glob("*"))
    for path in found:
        path.rename(maildir.parent / f"{path.name}.fetched")
    return [maildir.parent / f"{path.name}.fetched" for path in found]


READERS = (leave, move, fetch)


@dataclass(slots=True)
class Post:
    """Attempts, each at a Maildir of its own that is not there yet."""

    parent: Brood
    program: str
    folder: Path
    _numbers: "count[int]" = field(default_factory=count)

    def calls(self, names: list[str]) -> list[Call]:
        maildir = self.home() / "Maildir"
        status, _, seen = self.attempt(maildir, names, strace.LISTING)
        assert status == 0
        return strace.calls(seen, str(maildir))

    def home(self) -> Path:
        home = self.folder / f"home-{next(self._numbers)}"
        home.mkdir()
        return home

    def attempt(self, maildir: Path, names: list[str], words: tuple[str, ...]) -> tuple[int, dict[str, str], str]:
        """Exit status, the trouble of each message that was told, what strace saw."""
        journal, report = maildir.with_suffix(".said"), maildir.with_suffix(".calls")
        Journal.make(journal)
        child = self.parent.hatch(ACT, journal, "publish", maildir=str(maildir), names=names)
        with strace.attached(self.program, child.pid, words, report, alone=True):
            status = child.go()
        return status, _told(journal), report.read_text(errors="replace")

    def again(self, maildir: Path, names: list[str]) -> dict[str, str]:
        """An attempt that nothing happens to."""
        journal = maildir.with_suffix(".again")
        assert self.parent.run(ACT, journal, maildir=str(maildir), names=names) == 0
        return _told(journal)

    def strike(self, names: list[str], call: Call, effect: str, reader: Callable[[Path], list[Path]]) -> list[str]:
        """What is wrong after an attempt with something happening to a call, a reader's glance, and two more."""
        maildir = self.home() / "Maildir"
        status, troubles, _ = self.attempt(maildir, names, Injection(call.name, effect, str(call.number)).words)
        faults = [] if status == (-9 if "KILL" in effect else 0) else [f"ended with {status}"]
        still_open = _still_open(maildir.with_suffix(".said"))
        faults += [f"{still_open} descriptors stay open"] * (still_open > (call.name == "close"))
        seen = {path.name for path in maildir.glob("new/*")}
        faults += [f"{name} is not there" for name, trouble in troubles.items() if not trouble and name not in seen]
        fetched = reader(maildir)
        for _ in range(2):
            faults += [f"{name}: {trouble}" for name, trouble in self.again(maildir, names).items() if trouble]
        there = [*maildir.glob("new/*"), *maildir.glob("cur/*"), *fetched]
        copies = sorted(path.name.partition(":")[0].removesuffix(".fetched") for path in there)
        faults += [f"there are {copies}, not {names}"] if copies != names else []
        faults += [f"{path} is altered" for path in there if path.read_bytes() != HEAD + BODY]
        if not faults:
            shutil.rmtree(maildir.parent)
        return faults


def _told(journal: Path) -> dict[str, str]:
    return {name: trouble for word, name, trouble in Journal(journal).lines() if word == "published"}


def _still_open(journal: Path) -> int:
    return sum(int(count) for word, _, count in Journal(journal).lines() if word == "descriptors")


@pytest.fixture
def post(tmp_path: Path, program: Callable[[str], str]) -> Iterator[Post]:
    with brood.running(CARRIER) as parent:
        yield Post(parent, program("strace"), tmp_path)


@pytest.mark.parametrize("number", BATCHES)
def test_a_kill_at_every_call_leaves_one_copy(post: Post, number: int) -> None:
    names = [f"{one:02}" for one in range(number)]
    calls = [call for call in post.calls(names) if call.changes or ALL]
    faults = [
        f"{call} {reader.__name__}: {fault}"
        for call, reader in product(calls, READERS)
        for fault in post.strike(names, call, "signal=KILL", reader)
    ]
    assert len(calls) > 10
    assert not faults, "\n".join(faults[:20])


@pytest.mark.parametrize("number", BATCHES)
def test_an_error_at_every_call_defers_or_is_no_matter(post: Post, number: int) -> None:
    """Who is told that it is there finds it; whoever is put off gets it, once, the next time."""
    names = [f"{one:02}" for one in range(number)]
    faults = []
    for place, call in enumerate(post.calls(names)):
        some = [(ERRORS[place % len(ERRORS)], READERS[place % len(READERS)])]
        for error, reader in product(ERRORS, READERS) if ALL else some:
            found = post.strike(names, call, f"error={error}", reader)
            faults += [f"{call} {error} {reader.__name__}: {fault}" for fault in found]
    assert not faults, "\n".join(faults[:20])
