"""Writes into a file of cases what a compiled qmail makes of them: `python -m tests.harness.oracle QMAIL FILE…`.

QMAIL is the folder of an installed qmail of whatever make; its qmail-lspawn gets each case as qmail-send would hand it
over. Run by hand and by root, with a mount namespace of its own, so that the installation stays as it was. No test
runs it.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import recorded
from tests.harness.recorded import Case, Line, Places

UID = 7_899
_WORDS = {b"K": "delivered", b"Z": "deferred", b"D": "failed"}
_PATH = "/usr/local/bin:/usr/bin:/bin"
# A qmail-queue that keeps what it is given.
_QUEUE = """#!/bin/sh
cat > {folder}/message
cat <&1 > {folder}/envelope
"""
_ASSIGN = """=ann:ann:{uid}:{uid}:{home}:::
+ann-:ann:{uid}:{uid}:{home}:-::
+:alias:{uid}:{uid}:{alias}:-::
.
"""


@dataclass(frozen=True, slots=True)
class Qmail:
    """An installed qmail, and a folder to work in."""

    folder: Path
    work: Path

    def deliver(self, case: Case) -> list[Line]:
        """What becomes of a case."""
        places = Places(self.work / "ann", self.work / "alias")
        for home in (places.ann, places.alias, self.work / "queued", self.work / "mess" / "0", self.work / "users"):
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True, mode=0o755)
            os.chown(home, UID, UID)
        recorded.furnish(case, places)
        before = recorded.look(places)
        self._prepare(case, places)
        with holding(case, places):
            said = self._ask(case)
        report = places.normal(said[1:])
        found = [Line(_WORDS[said[:1]], "", report or None)]
        found += self._queued(places)
        return found + recorded.changes(before, recorded.look(places))

    def _prepare(self, case: Case, places: Places) -> None:
        message = self.work / "mess" / "0" / "1"
        message.write_bytes(case.message)
        shutil.chown(message, "qmailq")
        assign = _ASSIGN.format(uid=UID, home=places.ann, alias=places.alias)
        (self.work / "users" / "assign").write_text(assign)
        queue = self.work / "queue"
        queue.write_text(_QUEUE.format(folder=self.work / "queued"))
        queue.chmod(0o755)

    def _ask(self, case: Case) -> bytes:
        """qmail-lspawn's answer: a letter and the report."""
        question = b"\0".join((b"\x000/1", *(os.fsencode(one) for one in (case.sender, case.recipient)), b""))
        script = """
            mount --bind "$1/users" "$0/users" && mount --bind "$1/mess" "$0/queue/mess" || exit 9
            "$0/bin/qmail-newu" && exec "$0/bin/qmail-lspawn" "$2"
        """
        words = ["unshare", "--mount", "/bin/sh", "-c", script, str(self.folder), str(self.work), case.default]
        environment = {"PATH": _PATH, "QMAILQUEUE": str(self.work / "queue")}
        ran = subprocess.run(words, input=question, stdout=subprocess.PIPE, env=environment, timeout=60, check=True)
        assert ran.stdout[1:2] == b"\0", f"qmail-lspawn said {ran.stdout!r}"
        assert ran.stdout.endswith(b"\0"), f"qmail-lspawn said {ran.stdout!r}"
        return ran.stdout[2:-1]

    def _queued(self, places: Places) -> list[Line]:
        envelope = self.work / "queued" / "envelope"
        if not envelope.exists() or not envelope.read_bytes():
            return []
        sender, *recipients = envelope.read_bytes().rstrip(b"\0").split(b"\0")
        lines = b"".join(line + b"\n" for line in (sender[1:], *(one[1:] for one in recipients)))
        message = (self.work / "queued" / "message").read_bytes()
        return [Line("envelope", "", lines), Line("forwarded", "", places.normal(message))]


@contextmanager
def holding(case: Case, places: Places) -> Iterator[None]:
    """Somebody else has the lock of the files that the case calls locked."""
    with ExitStack() as stack:
        for line in case.given:
            if line.word == "locked":
                file = stack.enter_context(places.path(line.rest).open("ab"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main(folder: Path, files: list[Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="oracle-") as work:
        Path(work).chmod(0o755)
        qmail = Qmail(folder, Path(work))
        for path in files:
            head = path.read_text().partition("\n== ")[0]
            cases = recorded.read(path)
            for case in cases:
                case.qmail = qmail.deliver(case)
            path.write_text(head.rstrip("\n") + "\n\n" + "\n".join(map(recorded.written, cases)))
            print(f"{path.name}: {len(cases)} cases")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
