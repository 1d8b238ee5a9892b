"""Whether the simulation bites: each protection of the queue taken out in a copy of the tree, one at a time.

`python -m tests.sim.bite [WORD…]` runs those whose names contain a word, all by default, and prints after how many
histories each was noticed, and as what. A protection that another one covers says so; then both are taken out together.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_COPIED = ("mail", "proto", "runtime", "services", "tests/sim")


@dataclass(frozen=True, slots=True)
class Cut:
    """A protection: in which file stands what, and what stands there without it. `covered_by` names what remains."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    covered_by: str = ""


_LOG, _SPOOL, _STORE = "services/queue/log.py", "services/queue/spool.py", "services/queue/store.py"
_TAKEOVER, _SCAN, _INDEX = "services/queue/takeover.py", "services/queue/scan.py", "services/queue/index.py"
_RECLAIM, _LEDGER = "services/queue/reclaim.py", "services/queue/ledger.py"

_NO_SYNC = (_TAKEOVER, "                self._disk.sync_data(fd)\n", "                pass\n")
_NO_COPY = (
    _SCAN,
    "        scan.lengths[segment] = last.start\n",
    "        scan.clean = last.records[-1].kind == records.RELEASED\n"
    "        _teach(learn, segment, last)\n        return\n",
)
_RENAMED = "        self._disk.rename({0}, path)\n        self._disk.sync_directory(self._logs)\n"

_FORMER = (
    ("services/queue/dispatch.py", "if not self._store.ledgers[log].is_ours():", "if False:"),
    ("runtime/worker.py", "if self._is_former(stream, said.log):", "if False:"),
)

CUTS = (
    Cut("a former owner gives nothing out", _FORMER),
    Cut("the re-check", ((_LOG, "if found != self._identity:", "if False:"),)),
    Cut(
        "the inode comparison",
        ((_LOG, "if found != self._identity:", "if found is None:"),),
        covered_by="the floor of the tokens: no path is ever used twice",
    ),
    Cut(
        "UNKNOWN, not refused",
        (
            (
                _STORE,
                "            answer(UNKNOWN)\n            return",
                "            answer(NOT_HERE)\n            return",
            ),
        ),
    ),
    Cut(
        "Resolve by the owner only",
        (
            (
                _STORE,
                "        if ledger is None:\n            return None\n",
                "        if ledger is None:\n            return False\n",
            ),
        ),
    ),
    Cut(
        "the tombstone is committed before it is told",
        ((_STORE, "return False if await future else None", "return False"),),
    ),
    Cut("sync before trusting", (_NO_SYNC,), covered_by="the last frame is copied forward"),
    Cut("the last frame is copied forward", (_NO_COPY,), covered_by="sync before trusting, while no sync fails"),
    Cut("sync before trusting, and the last frame is copied forward", (_NO_SYNC, _NO_COPY)),
    Cut(
        "seal before acting",
        (
            (
                _TAKEOVER,
                "positions = log.append([records.Seal(lengths), *copied])",
                "positions = [NOWHERE, *log.append([records.Remembered((), ()), *copied])[1:]]",
            ),
            (
                _TAKEOVER,
                "from services.queue.names import LogName,",
                "from services.queue.names import NOWHERE, LogName,",
            ),
        ),
    ),
    Cut(
        "never beyond a seal in force",
        ((_SCAN, "limit = seal.get(str(segment), 0) if segment.token < seal_token else None", "limit = None"),),
    ),
    Cut(
        "oldest first",
        (
            (
                _RECLAIM,
                "    oldest = next(iter(ledger.log.segments))\n    if not _is_worth_it",
                "    oldest = [*ledger.log.segments][-2:][0]\n    if not _is_worth_it",
            ),
            (_LOG, 'assert name == next(iter(self.segments)), "from the oldest upwards"', "pass"),
        ),
    ),
    Cut(
        "id memory",
        (
            (
                _INDEX,
                "        mark = (standing, position.segment)\n",
                "        return\n        mark = (standing, position.segment)\n",
            ),
        ),
    ),
    Cut(
        "id memory through reclaiming",
        ((_RECLAIM, "records.Remembered(tuple(told.finished), tuple(told.refused))", "records.Remembered((), ())"),),
    ),
    Cut(
        "snapshots before the unlink",
        (
            (
                _RECLAIM,
                "if not all(await asyncio.gather(*(_move(ledger, message, events) for message in living))):",
                "if False:",
            ),
        ),
    ),
    Cut(
        "sync of frames",
        (
            (
                _LOG,
                "        self._disk.sync_data(self._fd)\n        point(Point.LOG_AFTER_SYNC)",
                "        point(Point.LOG_AFTER_SYNC)",
            ),
        ),
    ),
    Cut(
        "sync of a new segment's name",
        (
            (
                _LOG,
                "                self._disk.sync_file(fd)\n            self._disk.sync_directory(self.path)\n"
                "        except FileNotFoundError",
                "                self._disk.sync_file(fd)\n        except FileNotFoundError",
            ),
        ),
    ),
    Cut(
        "sync of logs/ after a new log's rename",
        ((_SPOOL, _RENAMED.format("draft"), "        self._disk.rename(draft, path)\n"),),
    ),
    Cut(
        "sync of logs/ after a takeover's rename",
        ((_SPOOL, _RENAMED.format("self.log_path(old)"), "        self._disk.rename(self.log_path(old), path)\n"),),
        covered_by="the seal and the token live in the directory, whatever its name",
    ),
    Cut(
        "sync of a large body",
        (
            (
                "runtime/durable.py",
                "                os.fsync(fd)\n            finally:\n                os.close(fd)\n"
                "            os.rename(",
                "                pass\n            finally:\n                os.close(fd)\n            os.rename(",
            ),
        ),
    ),
    Cut(
        "the outcome is acknowledged after its commit",
        (
            (
                _LEDGER,
                "        if positions is None:\n            then(None)\n            return\n        for one",
                "        if positions is None:\n            then(settlement)\n            return\n        for one",
            ),
        ),
    ),
)


def apply(cut: Cut, tree: Path) -> None:
    """Takes the protection out of a copy of the tree; ValueError when it is not there as it is written here."""
    for name, old, new in cut.edits:
        path = tree / name
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{cut.name}: {name} has {text.count(old)} times {old!r}: write it again")
        path.write_text(text.replace(old, new))


def notice(cut: Cut, seconds: float) -> str:
    """What the simulation says of a tree without it, within the time; "" when it notices nothing."""
    with tempfile.TemporaryDirectory(prefix="seapost-bite-") as directory:
        tree = Path(directory)
        for name in _COPIED:
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            apply(cut, tree)
        except ValueError as error:
            return str(error)
        words = ["--seconds", str(seconds), "--stop-at", "1"]
        told = subprocess.run(
            [sys.executable, "-m", "tests.sim", *words],
            cwd=tree,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
    lines = told.stdout.splitlines()
    if told.returncode not in (0, 1) or not lines:
        return f"the simulation ended with {told.returncode}: {told.stderr[-600:]}"
    after = lines[0].split(" histories")[0]
    found = next((line for line in lines if line.startswith("seed ")), "")
    return f"after {after} histories: {found[:160]}" if found else f"SURVIVED {after} histories"


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--seconds", type=float, default=300.0)
    words.add_argument("only", nargs="*")
    asked = words.parse_args()
    survived = 0
    for cut in CUTS:
        if asked.only and not any(word in cut.name for word in asked.only):
            continue
        said = notice(cut, asked.seconds)
        covered = f" (covered by {cut.covered_by})" if cut.covered_by else ""
        survived += said.startswith("SURVIVED") and not cut.covered_by
        print(f"without {cut.name}{covered}: {said}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
