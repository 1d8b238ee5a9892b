"""Programs of bin/ without the start of a Python each: one process has them loaded and forks for every call.

What is called is what the launcher calls, with its words, environment, folder and descriptors; only the start is
missing. Run as a file it is that process: a line of JSON is a call, the answer is a line with the exit status.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LOADED = ("inject", "smtp", "sendmail", "receipt", "predate", "mailsubj", "forward", "dotforward", "queue")


class Warm:
    """Makes calls, one at a time; `folder` is for the octets that go in and come out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        words = [sys.executable, "-IS", str(Path(__file__))]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Warm":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=10)
        assert self._process.stdout
        self._process.stdout.close()

    def call(
        self, words: Sequence[str], environment: Mapping[str, str], at: Path, stdin: Path | bytes
    ) -> tuple[int, bytes, bytes]:
        """Calls a program of bin/ in the folder `at`; standard input is a file or, of octets, a pipe. The exit status
        and what came out on descriptors 1 and 2."""
        assert self._process.stdin
        assert self._process.stdout
        pipe = isinstance(stdin, bytes)
        source = self._folder / "in" if isinstance(stdin, bytes) else stdin
        if isinstance(stdin, bytes):
            source.write_bytes(stdin)
        call = (list(words), dict(environment), str(at), str(source), pipe, str(self._folder))
        self._process.stdin.write(json.dumps(call).encode() + b"\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        return status, (self._folder / "out").read_bytes(), (self._folder / "err").read_bytes()


def _serve() -> None:
    for line in sys.stdin.buffer:
        words, environment, at, source, pipe, folder = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                _attach(source, pipe, folder)
                os.chdir(at)
                os.environ.clear()
                os.environ.update(environment)
                time.tzset()
                _become(words)
            finally:
                os._exit(70)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _attach(source: str, pipe: bool, folder: str) -> None:
    fd = os.open(source, os.O_RDONLY)
    if pipe:
        octets = os.read(fd, 65_536)  # what a pipe holds
        fd, inlet = os.pipe()
        os.write(inlet, octets)
        os.close(inlet)
    os.dup2(fd, 0)
    os.close(fd)
    for number, name in ((1, "out"), (2, "err")):
        fd = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, number)
        os.close(fd)


def _become(words: Sequence[str]) -> None:
    from programs.__main__ import main

    main(words[0], words[1:])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    for _name in _LOADED:
        __import__(f"programs.{_name}")
    __import__("runtime.clock")
    __import__("programs.__main__")
    _serve()
