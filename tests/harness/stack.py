"""The stack as processes, through `bin/seapost up`, in a state directory of its own with ports of its own.

Knows how to start it, to kill, pause and name its processes by run/*.pid, and to wait for what it says. Nothing in here
sleeps: a wait ends with a line of output, a file or the exit of a process.
"""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock
from runtime.passwords import make_hash

ROOT = Path(__file__).resolve().parents[2]
SEAPOST = ROOT / "bin" / "seapost"
MAIL_NAME = "mail.example.test"
PASSWORD = "correct horse battery staple"
READY_S = 60.0
STOP_S = 90.0
ASK_S = 200.0
_TAIL_LINES = 120
_FIRST_UID = 7801
_PORT = re.compile(r"(\w+)=(\[?[\w.:]+\]?):(\d+)")


@dataclass(slots=True)
class Said:
    """What a process has said, line by line, and a way to wait for a line."""

    lines: list[str] = field(default_factory=list)
    more: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False

    def add(self, line: str) -> None:
        with self.more:
            self.lines.append(line)
            self.more.notify_all()

    def end(self) -> None:
        with self.more:
            self.over = True
            self.more.notify_all()

    def find(self, pattern: str, since: int = 0) -> list[str]:
        with self.more:
            return [line for line in self.lines[since:] if re.search(pattern, line)]

    def wait(self, pattern: str, since: int = 0, count: int = 1, within_s: float = READY_S) -> str:
        """The line that matches for the count-th time from line number `since` on; AssertionError if none comes."""

        def enough() -> bool:
            return self.over or len([line for line in self.lines[since:] if re.search(pattern, line)]) >= count

        with self.more:
            self.more.wait_for(enough, within_s)
            found = [line for line in self.lines[since:] if re.search(pattern, line)]
        if len(found) < count:
            raise AssertionError(f"{pattern!r} was said {len(found)} times, not {count}:\n{self.tail()}")
        return found[count - 1]

    def after(self, pattern: str, since: int = 0, within_s: float = READY_S) -> int:
        """The number of the line after the first one that matches, from line number `since` on."""
        self.wait(pattern, since, within_s=within_s)
        return next(number for number, line in enumerate(self.lines[since:], since + 1) if re.search(pattern, line))

    def tail(self) -> str:
        return "\n".join(self.lines[-_TAIL_LINES:])


@dataclass(slots=True)
class Stack:
    """One state directory and the `up` that runs on it. `accounts` all have PASSWORD; `demo` is always there."""

    directory: Path
    accounts: tuple[str, ...] = ("demo",)
    environment: Mapping[str, str] = field(default_factory=dict)
    replicas: str = ""
    controls: Mapping[str, str] = field(default_factory=dict)
    said: Said = field(default_factory=Said)
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    _reader: threading.Thread | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Account files, homes and control files, as an operator would write them before the first start."""
        accounts = self.directory / "accounts"
        accounts.mkdir(parents=True)
        self.directory.chmod(0o755)
        for path in self.directory.parents[:3]:  # pytest's folders are closed to the uids of the services
            if os.geteuid() == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o011)
        hashed = make_hash(PASSWORD)  # one for all: making one is a second's work
        lines: dict[str, list[str]] = {"passwd": [], "shadow": [], "group": []}
        for number, name in enumerate(self.accounts):
            uid, gid = (_FIRST_UID + number,) * 2 if os.geteuid() == 0 else (os.getuid(), os.getgid())
            home = self.home(name)
            home.mkdir(parents=True)
            home.chmod(0o700)
            os.chown(home, uid, gid)
            lines["passwd"].append(f"{name}:x:{uid}:{gid}::homes/{name}:/usr/sbin/nologin")
            lines["shadow"].append(f"{name}:{hashed}:::::::")
            lines["group"].append(f"{name}:x:{gid}:")
        for file, content in lines.items():
            (accounts / file).write_text("\n".join(content) + "\n")
            (accounts / file).chmod(0o600 if file == "shadow" else 0o644)
        (self.directory / "homes").chmod(0o755)
        for name, text in self.controls.items():
            self.control(name, text)

    def start(self) -> None:
        """Returns when `up` says that it is ready."""
        self.launch()
        for name, _, port in _PORT.findall(self.said.wait(r"^ready ")):
            self.ports[name] = int(port)

    def launch(self) -> None:
        """Starts `up` and reads what it says; does not wait."""
        (self.directory / "log").mkdir(exist_ok=True)
        self.said = Said()
        self.process = subprocess.Popen(
            self._command("up", *(("--replicas", self.replicas) if self.replicas else ())),
            cwd=ROOT,
            env=self.settings(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(self.process, self.said), daemon=True)
        self._reader.start()

    def stop(self) -> int:
        """SIGTERM to `up`; its exit status. AssertionError when it does not end."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_end()

    def wait_end(self, within_s: float = STOP_S) -> int:
        """The exit status of `up`, which is to end by itself."""
        assert self.process
        assert self._reader
        try:
            status = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"`up` does not end:\n{self.said.tail()}") from None
        self._reader.join(within_s)
        assert self.process.stdout
        self.process.stdout.close()
        return status

    def _read(self, process: subprocess.Popen[str], said: Said) -> None:
        assert process.stdout
        with contextlib.suppress(ValueError):  # closed under our hands
            for line in process.stdout:
                said.add(line.rstrip("\n"))
        said.end()

    def settings(self) -> dict[str, str]:
        """The environment of `up` and of every command."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        ports = {"SMTP_PORT": "0", "POP3_PORT": "0", "METRICS_PORT": "0"}
        kept = {f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()}
        return {**inherited, **ports, **kept, "MAIL_NAME": MAIL_NAME, **self.environment}

    def _command(self, *words: str) -> list[str]:
        verbs, options = (words[:2], words[2:]) if words[0] in ("queue", "user") else (words[:1], words[1:])
        return [str(SEAPOST), *verbs, "--state", str(self.directory), *options]

    # -- its files ----------------------------------------------------------------------------------------------------

    def home(self, name: str) -> Path:
        return self.directory / "homes" / name

    def control(self, name: str, text: str) -> None:
        """Writes a control file; one that is read at start wants a SIGHUP after it."""
        path = self.directory / "control" / name
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f".{name}")
        draft.write_text(text)
        draft.rename(path)

    def events(self, service: str = "") -> list[dict[str, Any]]:
        """Every event of the service, or of all, as it stands in the files that `trace` reads, in order of time."""
        found: list[dict[str, Any]] = []
        for path in sorted((self.directory / "log" / "events").glob(f"{service or '*'}/*.jsonl")):
            lines = path.read_text(errors="replace").splitlines()
            found.extend(json.loads(line) for line in lines if line.endswith("}"))
        return sorted(found, key=lambda event: str(event["time"]))

    # -- its processes ------------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """Of `queue-0` and the like; 0 while it is not running."""
        try:
            return int((self.directory / "run" / f"{name}.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def signal(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        assert pid, f"{name} is not running:\n{self.said.tail()}"
        os.kill(pid, number)

    def kill(self, name: str) -> None:
        """kill -9; returns when the process is gone. `up` starts it again."""
        pid = self.pid(name)
        assert pid, f"{name} is not running:\n{self.said.tail()}"
        fd = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGKILL)
            assert select.select([fd], [], [], STOP_S)[0], f"{name} does not die"
        finally:
            os.close(fd)

    def replace(self, name: str) -> None:
        """kill -9; returns when `up` has started it again."""
        since = self.mark()
        self.kill(name)
        ended = self.said.after(rf"^up: {name} was ended", since)
        self.wait_started(name, ended)

    def hangup(self, *names: str) -> None:
        """SIGHUP to `up`, which passes it on; returns when these have read their control files again."""
        assert self.process
        since = self.mark()
        self.process.send_signal(signal.SIGHUP)
        for name in names:
            self.said.wait(rf"^{name}: reread controls", since)

    def mark(self) -> int:
        """A place in what `up` says, for `wait_restarted` and `said.wait`."""
        return len(self.said.lines)

    def wait_started(self, name: str, since: int, count: int = 1) -> None:
        """Returns when the process has said `started` since the mark, `count` times."""
        self.said.wait(rf"^{name}: started ", since, count)

    # -- its operator -------------------------------------------------------------------------------------------------

    def seapost(self, *words: str, status: int = 0) -> str:
        """What a command of bin/seapost prints; AssertionError when it ends with another status."""
        done = self.run(*words)
        text = done.stdout + done.stderr
        assert done.returncode == status, f"seapost {' '.join(words)} ended with {done.returncode}: {text}"
        return done.stdout if not status else text

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(*words),
            cwd=ROOT,
            env=self.settings(),
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        )

    def queued(self) -> list[dict[str, Any]]:
        """`queue list --json`."""
        return [json.loads(line) for line in self.seapost("queue", "list", "--json").splitlines()]

    def wait_idle(self, within_s: float = 60.0) -> None:
        """Returns when nothing is queued; AssertionError with what is, and with the end of the logs."""
        done = self.run("queue", "wait-idle", "--timeout", f"{within_s:g}")
        if done.returncode:
            listing = self.run("queue", "list").stdout[-4000:]
            raise AssertionError(f"{done.stderr}\n{listing}\n{self.said.tail()}")


@contextlib.contextmanager
def running(stack: Stack) -> Iterator[Stack]:
    """Starts and at the end stops the stack; when something fails its last words go to standard error.

    A state directory that is not there is prepared; one that is there is gone on with.
    """
    if not stack.directory.exists():
        stack.prepare()
    try:
        stack.start()
        yield stack
    except BaseException:
        print(f"-- the stack in {stack.directory}:\n{stack.said.tail()}", file=sys.stderr)
        raise
    finally:
        if stack.process and stack.process.poll() is None:
            stack.stop()
        else:
            _end(stack.process)


def _end(process: subprocess.Popen[str] | None) -> None:
    if process and process.stdout:
        process.wait(STOP_S)
        process.stdout.close()


def patience(seconds: float) -> Iterable[float]:
    """Now, again and again, until that long has passed: for what nothing tells us of."""
    clock = SystemClock()
    end = clock.monotonic() + seconds
    pause = threading.Event()
    while (now := clock.monotonic()) < end:
        yield now
        pause.wait(0.02)
