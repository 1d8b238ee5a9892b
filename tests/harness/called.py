"""Recorded calls of programs: what one was given, and what a compiled qmail's program did with it.

Reads and writes the files of tests/cases/programs (its README.md says what they look like) and makes such a call, with
a qmail-queue that keeps what it gets. `python -m tests.harness.called QMAIL FILE…` writes down what the programs of an
installed qmail do; run by hand and by root, in a mount namespace of its own, because dot-forward's paths are built in.
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mail import cdb, forwardtable
from programs.table import TABLE
from tests.harness.recorded import Line, Recording, decoded, read_as, written
from tests.harness.warm import Warm

CASES = Path(__file__).resolve().parents[1] / "cases" / "programs"
MESSAGE = b"Subject: case\n\nhello\n"
CONTROLS = {"me": "me.test", "defaulthost": "host", "defaultdomain": "domain.test", "plusdomain": "plus.test"}
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "USER": "ann",
    "HOST": "d.test",
    "LOCAL": "ann-x",
    "SENDER": "joe@far.example",
    "NEWSENDER": "ann-owner@d.test",
    "UFLINE": "From joe@far.example Thu Jan  1 00:00:00 1970\n",
    "RPLINE": "Return-Path: <joe@far.example>\n",
    "DTLINE": "Delivered-To: ann@d.test\n",
}
_GIVEN = ("call", "env", "unset", "file", "script", "database", "directory", "message", "pipe", "queue")
_FOUND = ("exit", "out", "err", "envelope", "queued", "file", "gone")
# Keeps the message and the envelope, and ends as it is told.
_QUEUE = """#!/bin/sh
cat > "$KEPT/message"
cat <&1 > "$KEPT/envelope"
exit "$KEPT_EXIT"
"""


@dataclass(slots=True)
class Call(Recording):
    """One call of a program."""

    def all(self, word: str) -> list[Line]:
        return [line for line in self.given if line.word == word]

    @property
    def words(self) -> list[str]:
        return [os.fsdecode(decoded(word)) for word in shlex.split(self.all("call")[0].rest)]

    @property
    def message(self) -> bytes:
        return next((line.octets or b"" for line in self.all("message")), MESSAGE)


def read(path: Path) -> list[Call]:
    """The calls of a file; BadCase says which line is none."""
    return read_as(Call, path, _GIVEN, _FOUND)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where calls are made: the folder of the programs, one to work in, and what else the environment says. `warm` has
    the programs of that folder loaded."""

    programs: Path
    work: Path
    environment: dict[str, str]
    warm: Warm | None = None

    def make(self, call: Call) -> list[Line]:
        """What came of a call."""
        shutil.rmtree(self.work, ignore_errors=True)
        home, kept = self.work / "home", self.work / "kept"
        home.mkdir(parents=True)
        kept.mkdir()
        (kept / "message.in").write_bytes(call.message)
        _furnish(call, home)
        queue = self.work / "queue"
        queue.write_text(_QUEUE)
        queue.chmod(0o755)
        environment = {**self._environment(call), "QMAILQUEUE": str(queue), "KEPT": str(kept)}
        before = _look(home)
        environment["KEPT_EXIT"] = next((line.rest for line in call.all("queue")), "0")
        status, out, err = self._called(call, home, environment, kept / "message.in")
        found = [Line("exit", str(status)), Line("out", "", _normal(out)), Line("err", "", _normal(err))]
        found += [*_queued(kept), *_changes(before, _look(home))]
        return [line for line in found if line.rest or line.octets]

    def _called(self, call: Call, home: Path, environment: dict[str, str], message: Path) -> tuple[int, bytes, bytes]:
        if self.warm is not None and call.words[0] in TABLE:
            return self.warm.call(call.words, environment, home, call.message if call.all("pipe") else message)
        name, *words = call.words
        with message.open("rb") as source:
            ran = subprocess.run(
                [self.programs / name, *words],
                cwd=home,
                env=environment,
                stdin=None if call.all("pipe") else source,
                input=call.message if call.all("pipe") else None,
                capture_output=True,
                timeout=60,
                check=False,
            )
        return ran.returncode, ran.stdout, ran.stderr

    def _environment(self, call: Call) -> dict[str, str]:
        environment = ENVIRONMENT | {"PATH": f"{self.programs}:{ENVIRONMENT['PATH']}"} | self.environment
        for line in call.all("env"):
            name, _, value = line.rest.partition(" ")
            environment[name] = os.fsdecode(decoded(value))
        for line in call.all("unset"):
            del environment[line.rest]
        return environment


def _furnish(call: Call, home: Path) -> None:
    for line in call.given:
        name, _, mode = line.rest.partition(" ")
        if line.word == "directory":
            (home / name).mkdir()
        elif line.word == "database":
            (home / name).write_bytes(cdb.make(forwardtable.records(line.octets or b"")))
        elif line.word in ("file", "script"):
            (home / name).write_bytes(line.octets or b"")
            (home / name).chmod(int(mode or ("0755" if line.word == "script" else "0600"), 8))


def _look(home: Path) -> dict[str, Line]:
    """Every file in the folder."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file()]
    return {
        path.name: Line("file", f"{path.relative_to(home)} {stat.S_IMODE(path.stat().st_mode):04o}", path.read_bytes())
        for path in files
    }


def _changes(before: dict[str, Line], after: dict[str, Line]) -> Iterator[Line]:
    yield from (line for name, line in after.items() if before.get(name) != line)
    yield from (Line("gone", name) for name in before if name not in after)


def _queued(kept: Path) -> Iterator[Line]:
    envelope = kept / "envelope"
    if envelope.exists() and envelope.read_bytes().endswith(b"\0\0"):
        sender, *recipients = envelope.read_bytes()[:-2].split(b"\0")
        yield Line("envelope", "", _normal(b"".join(one[1:] + b"\n" for one in (sender, *recipients))))
        yield Line("queued", "", _normal((kept / "message").read_bytes()))


_VARYING = (
    (rb"\b\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d(?= [-+]\d{4}\b)", b"{date}"),
    (rb"\b\d{14}\.\d+(?=\.qmail@)", b"{id}"),
    (rb"-1\d{9}\.\d+\b", b"-{time}.{pid}"),
    (rb"\bok \d+ (?=qp )", b"ok {time} "),
    (rb"\bqp \S+", b"qp {qp}"),
)


def _normal(octets: bytes) -> bytes:
    """Without what no two calls have alike: the time, the number of a process and of a message."""
    for pattern, instead in _VARYING:
        octets = re.sub(pattern, instead, octets)
    return octets


def furnish_controls(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in CONTROLS.items():
        (folder / name).write_text(text + "\n")


def main(folder: Path, files: list[Path]) -> None:
    """Records. Programs with built-in paths get control files and a qmail-queue in `folder`, seen by this run alone."""
    if os.environ.get("RECORDING") != "1":
        script = 'mount --make-rprivate / && mount -t tmpfs none "$0" && exec "$@"'
        with tempfile.TemporaryDirectory(prefix="called-") as copy:
            shutil.copytree(folder / "bin", Path(copy, "bin"))
            words = [sys.executable, "-m", "tests.harness.called", str(folder), *map(str, files)]
            environment = {**os.environ, "RECORDING": "1", "RECORDED": copy}
            subprocess.run(["unshare", "-m", "sh", "-c", script, folder, *words], env=environment, check=True)
        return
    furnish_controls(folder / "control")
    shutil.copytree(Path(os.environ["RECORDED"], "bin"), folder / "bin")
    (folder / "bin" / "qmail-queue").write_text(_QUEUE)
    (folder / "bin" / "qmail-queue").chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="called-") as work:
        bench = Bench(Path(os.environ["RECORDED"], "bin"), Path(work, "work"), {})
        for path in files:
            head = path.read_text().partition("\n== ")[0]
            calls = read(path)
            for call in calls:
                call.qmail = bench.make(call)
            path.write_text(head.rstrip("\n") + "\n\n" + "\n".join(map(written, calls)))
            print(f"{path.name}: {len(calls)} calls")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
