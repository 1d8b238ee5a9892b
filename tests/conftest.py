"""What every test may ask for: a real Redis server, a Docker engine.

A missing one skips the test on a laptop and fails it when CI=true.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from cli import embedded

# How long an example takes says how busy the machine is, and nothing about what is tested.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

STARTS_WITHIN_S = 20
ENDS_WITHIN_S = 10


_OF_THIS_RUN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """A temporary folder of this run's own: every pytest closes the one that a user's runs share to other uids.

    The services of a stack that root runs are other uids. After a failure the folder stays, to be looked at.
    """
    if not config.option.basetemp and not hasattr(config, "workerinput"):
        config.stash[_OF_THIS_RUN] = tempfile.mkdtemp(prefix="seapost-tests-")
        config.option.basetemp = config.stash[_OF_THIS_RUN]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    folder = session.config.stash.get(_OF_THIS_RUN, "")
    if folder and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)


def missing(what: str, remedy: str) -> NoReturn:
    """Skips the test on a laptop; fails it where everything must be tested."""
    text = f"{what} is missing: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture
def program() -> Callable[[str], str]:
    """Finds a program of Debian's package of the same name."""

    def find(name: str) -> str:
        return shutil.which(name) or missing(name, f"apt-get install {name}")

    return find


def free_port() -> int:
    """A loopback port that nobody listens at now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class RedisServer:
    """A running server of its own; `kill` it as often as the test wants, `start` brings it back empty."""

    program: str
    directory: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when the server says that it is ready."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "daemonize": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.process = subprocess.Popen(
            [self.program, *words, "--dir", str(self.directory)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        pytest.fail(f"{self.program} ended at once:\n{''.join(said[-20:])}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(ENDS_WITHIN_S)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis-compatible server on a free loopback port, without users or passwords."""
    program = embedded.find_server()
    if program is None:
        missing("a Redis server", "sudo apt-get install redis-server")
    directory = tmp_path / "redis"
    directory.mkdir()
    server = RedisServer(program, directory, free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def engine() -> str:
    """The docker command, when an engine answers and Compose is version 2."""
    docker = shutil.which("docker")
    if docker is None:
        missing("a Docker engine", "sudo apt-get install docker.io docker-compose-plugin")
    for question in (["info"], ["compose", "version"]):
        answer = subprocess.run([docker, *question], capture_output=True, text=True, timeout=60, check=False)
        if answer.returncode:
            missing(f"`docker {' '.join(question)}`", answer.stderr.strip()[-400:] or "start the engine")
    return docker
