"""The real pop3 service in a process of its own, with accounts, homes and Maildirs in a temporary folder.

As root every account has a uid of its own and the front gives up root; otherwise everything is the invoking user.
"""

import ctypes
import itertools
import json
import os
import poplib
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cli import certs
from runtime.clock import SystemClock
from runtime.passwords import make_hash

ROOT = os.geteuid() == 0
CHECKOUT = Path(__file__).resolve().parents[2]
FRONT_UID = 7_795
TIMEOUT_S = 30.0
PASSWORD = "correct horse"
_uids = itertools.count(17_801)


@dataclass
class Account:
    name: str
    uid: int
    home: Path
    password: str = PASSWORD

    @property
    def maildir(self) -> Path:
        return self.home / "Maildir"

    def put(self, name: str, content: bytes, folder: str = "new", mtime: int | None = None) -> Path:
        """A message as a delivery leaves it."""
        for one in ("tmp", "new", "cur"):
            (self.maildir / one).mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.maildir / folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        if mtime is not None:
            os.utime(path, (mtime, mtime))
        self.own()
        return path

    def own(self) -> None:
        """Gives everything in the home to the account."""
        if ROOT:
            os.chown(self.home, self.uid, self.uid)
            for path in self.home.rglob("*"):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def files(self) -> set[str]:
        return {f"{folder}/{name}" for folder in ("new", "cur") for name in os.listdir(self.maildir / folder)}


class House:
    """One service and its accounts; `environment` adds to or replaces what it is told."""

    def __init__(self, **environment: str) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="seapost-pop3-"))
        self.state.chmod(0o755)
        for folder in ("control", "accounts", "homes"):
            (self.state / folder).mkdir(mode=0o755)
        (self.state / "control" / "me").write_text("mail.example.test\n")
        (self.state / "accounts" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
        (self.state / "accounts" / "group").write_text("")
        shadow = self.state / "accounts" / "shadow"
        shadow.write_text(f"root:{make_hash(PASSWORD)}:1:0:99999:7:::\n")
        shadow.chmod(0o600)
        certs.ensure(str(self.state / "tls"), SystemClock())
        self._environment = environment
        self._events: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log = self.state / "log"

    def start(self, **environment: str) -> "House":
        """Starts the service and returns when it is ready."""
        told = {
            "PATH": os.environ["PATH"],
            "INSTANCE": "pop3-0",
            "CONTROL_DIR": str(self.state / "control"),
            "TLS_DIR": str(self.state / "tls"),
            "ACCOUNTS_DIR": str(self.state / "accounts"),
            "HOMES_DIR": str(self.state / "homes"),
            "POP3_BIND": "127.0.0.1:0",
            "LOG_FORMAT": "json",
            "FRONT_UID": str(FRONT_UID) if ROOT else "",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self._environment,
            **environment,
        }
        with self.log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.pop3"], cwd=CHECKOUT, env=told, stdout=subprocess.PIPE, stderr=stderr
            )
        assert self._process.stdout is not None
        self._events = queue.SimpleQueue()
        self._reader = threading.Thread(target=_gather, args=(self._process.stdout, self._events))
        self._reader.start()
        started = self.next_event("started")
        self.port = int(str(started["pop3"]).rpartition(":")[2])
        return self

    def next_event(self, name: str, of: Account | None = None) -> dict[str, object]:
        """Waits for the next event of that name, of that account; others are passed over."""
        while (line := self._events.get(timeout=TIMEOUT_S)) is not None:
            event = json.loads(line)
            if event["event"] == name and (of is None or event["user"] == of.name):
                return dict(event)
        raise AssertionError(f"pop3 has ended: {self.log.read_text()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(TIMEOUT_S)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self._process is not None
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        status = self.wait()
        self._reader.join(TIMEOUT_S)
        return status

    def close(self) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.state)

    def account(self, name: str = "", hashed: str | None = None, expires: str = "", uid: int | None = None) -> Account:
        """A new account with a home and a password; `hashed` replaces what shadow(5) says of it."""
        number = next(_uids)
        name = name or f"user{number}"
        account = Account(name, number if uid is None else uid, self.state / "homes" / name)
        account.home.mkdir(mode=0o700)
        account.own()
        with (self.state / "accounts" / "shadow").open("a") as shadow:
            shadow.write(f"{name}:{make_hash(PASSWORD) if hashed is None else hashed}:1:0:99999:7::{expires}:\n")
        with (self.state / "accounts" / "passwd").open("a") as passwd:
            passwd.write(f"{name}:x:{account.uid}:{account.uid}::{account.home}:/bin/false\n")
        return account

    def connect(self) -> poplib.POP3:
        return poplib.POP3("127.0.0.1", self.port, timeout=TIMEOUT_S)

    def login(self, account: Account) -> poplib.POP3:
        client = self.connect()
        client.user(account.name)
        client.pass_(account.password)
        return client

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)


def _gather(stdout: IO[bytes], events: queue.SimpleQueue[bytes | None]) -> None:
    """Reads all the time, so that the service never waits for somebody to read its events."""
    with stdout:
        for line in stdout:
            events.put(line)
    events.put(None)


def hang_up(client: poplib.POP3) -> None:
    """Breaks the connection without QUIT."""
    client.close()


def crypt(password: str, setting: str) -> str:
    """crypt(3), asked without the code under test."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed: bytes = library.crypt(password.encode(), setting.encode())
    return hashed.decode()


def until_closed(line: socket.socket) -> bytes:
    """Everything that the server says."""
    said = b""
    while data := line.recv(65_536):
        said += data
    return said
