"""The supervisor with real processes, the lock with real files, Redis with its real server."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli import embedded, lock
from cli.console import Console, LineLog
from cli.page import Page, fetch
from cli.places import Places, find
from cli.ports import Ports
from cli.refusal import Refusal
from cli.supervisor import Supervisor
from cli.topology import BY_NAME, STOP_GROUPS
from cli.wiring import Launch
from runtime.clock import SystemChance, SystemClock
from runtime.config import Address
from tests.conftest import missing

ONCE = Retry(NoBackoff(), 0)

# A process that says what happens to it, as a service would.
TALKER = """
import os, signal, sys
def say(text): os.write(1, f"{text}\\n".encode())
def end(number, frame):
    say("exiting"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda number, frame: say("hangup"))
say(f"born crash={os.environ.get('CRASH_AT', '')}")
while True:
    signal.pause()
"""


def launch(name: str, code: str, **environ: str) -> Launch:
    environment = {**os.environ, **environ}
    return Launch(BY_NAME[name], 0, (sys.executable, "-c", code), environment, None, None, None)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = find(str(tmp_path), {})
    for path in (places.run, places.log):
        os.makedirs(path)
    return places


class Stand:
    """A supervisor whose console is a pipe that the test reads."""

    def __init__(self, places: Places, launches: list[Launch]) -> None:
        self._read_end, self._write_end = os.pipe()
        self.console = Console(self._write_end)
        self.supervisor = Supervisor(launches, places.run, places.log, self.console, SystemClock())
        self.lines: asyncio.StreamReader = asyncio.StreamReader()

    async def open(self) -> None:
        pipe = os.fdopen(self._read_end, "rb")
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.lines), pipe
        )
        self.supervisor.start()

    async def until(self, text: str) -> list[str]:
        """The lines up to the one that has the text."""
        seen: list[str] = []
        async with asyncio.timeout(20):
            while not seen or text not in seen[-1]:
                seen.append((await self.lines.readline()).decode())
                assert seen[-1], f"the console ended without {text!r}: {seen}"
        return seen

    async def close(self) -> bytes:
        """Ends everything; returns what the console said that nobody has read yet."""
        await self.supervisor.stop(STOP_GROUPS)
        self.console.close(5)
        os.close(self._write_end)
        rest = await self.lines.read()
        self._transport.close()
        return rest


Opener = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def stand(places: Places) -> AsyncIterator[Opener]:
    opened: list[Stand] = []

    async def make(*launches: Launch) -> Stand:
        opened.append(Stand(places, list(launches)))
        await opened[-1].open()
        return opened[-1]

    yield make
    for one in opened:
        await one.close()


async def test_a_dead_service_is_started_again_at_once(stand: Opener, places: Places) -> None:
    one = await stand(launch("remote", TALKER))
    await one.until("remote-0: born")
    pid = int(Path(places.run, "remote-0.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    seen = await one.until("remote-0: born")
    assert any("was ended by SIGKILL: starting it again now" in line for line in seen)
    assert int(Path(places.run, "remote-0.pid").read_text()) != pid
    facts = json.loads(Path(places.run, "remote-0.json").read_text())
    assert facts["pid"] == one.supervisor.instances[0].pid


async def test_a_crash_on_purpose_happens_once(stand: Opener) -> None:
    one = await stand(launch("remote", TALKER, CRASH_AT="log.after_write"))
    await one.until("born crash=log.after_write")
    os.kill(one.supervisor.instances[0].pid, signal.SIGKILL)
    assert (await one.until("born"))[-1] == "remote-0: born crash=\n"


async def test_services_end_in_order_and_leave_no_files(places: Places) -> None:
    one = Stand(places, [launch(name, TALKER) for name in ("queue", "remote", "smtpd")])
    await one.open()
    for _ in range(3):
        await one.until("born")
    said = await one.close()
    ends = [line.split(b":")[0] for line in said.splitlines() if b"exiting" in line]
    assert ends == [b"smtpd-0", b"remote-0", b"queue-0"]
    assert os.listdir(places.run) == []


async def test_a_hangup_is_passed_on(stand: Opener, places: Places) -> None:
    one = await stand(launch("remote", TALKER))
    await one.until("born")
    one.supervisor.pass_on(signal.SIGHUP)
    await one.until("remote-0: hangup")
    assert "hangup" in Path(places.log, "remote-0.log").read_text()


async def test_a_refused_configuration_is_not_tried_again(stand: Opener) -> None:
    code = "import sys; sys.stderr.write('smtpd: control/me: missing\\n'); sys.exit(78)"
    one = await stand(launch("smtpd", code))
    await asyncio.wait_for(one.supervisor.refused.wait(), 20)
    instance = one.supervisor.instances[0]
    assert instance.refused
    assert instance.reasons == ["smtpd: control/me: missing"]
    assert instance.deaths == 0


async def test_a_services_family_ends_with_it(stand: Opener) -> None:
    code = "import os, signal\nif os.fork() == 0: os.write(1, f'child {os.getpid()}\\n'.encode())\nsignal.pause()"
    one = await stand(launch("local", code))
    child = int((await one.until("child"))[-1].split()[-1])
    watched = os.pidfd_open(child)
    os.kill(one.supervisor.instances[0].pid, signal.SIGKILL)
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()
    loop.add_reader(watched, gone.set)
    await asyncio.wait_for(gone.wait(), 20)
    loop.remove_reader(watched)
    os.close(watched)


async def test_a_service_ends_when_up_is_killed(places: Places) -> None:
    code = (
        "import asyncio, sys\nfrom cli.privileges import launcher\n"
        "async def main():\n"
        " await asyncio.create_subprocess_exec(*launcher(None), sys.executable, '-c', sys.argv[1])\n"
        " await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    up = await asyncio.create_subprocess_exec(sys.executable, "-c", code, TALKER, stdout=asyncio.subprocess.PIPE)
    assert up.stdout
    assert (await asyncio.wait_for(up.stdout.readline(), 20)).startswith(b"born")
    up.kill()
    await up.wait()
    assert await asyncio.wait_for(up.stdout.readline(), 20) == b"exiting\n"
    up._transport.close()  # type: ignore[attr-defined]


def test_a_reader_who_stops_reading_stops_nobody(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    console = Console(write_end)
    log = LineLog("queue-0", str(tmp_path / "queue-0.log"), console)
    line = b"x" * 1_023 + b"\n"
    for _ in range(8_000):
        log.feed(line)
    assert (tmp_path / "queue-0.log").stat().st_size == 8_000 * 1_024
    os.close(read_end)
    console.close(20)
    os.close(write_end)


def test_a_line_in_pieces_is_shown_whole_and_one_without_end_in_pieces(tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    fd = os.open(shown, os.O_WRONLY | os.O_CREAT)
    console = Console(fd)
    log = LineLog("a-0", str(tmp_path / "log"), console)
    assert log.feed(b"one\ntw") == [b"one"]
    assert log.feed(b"o\n") == [b"two"]
    assert log.feed(b"y" * 70_000) == [b"y" * 70_000]
    assert log.feed(b"last") == []
    assert log.end() == [b"last"]
    console.close(20)
    os.close(fd)
    assert shown.read_bytes().splitlines() == [b"a-0: one", b"a-0: two", b"a-0: " + b"y" * 70_000, b"a-0: last"]


def test_a_second_up_is_refused_and_told_who_is_first(places: Places) -> None:
    code = "import sys; from cli import lock, places; lock.hold(places.find(sys.argv[1], {})).__enter__()"
    with lock.hold(places):
        second = subprocess.run(
            (sys.executable, "-c", code, places.state), capture_output=True, text=True, check=False, timeout=60
        )
        assert f"pid {os.getpid()} runs there already" in second.stderr
    with lock.hold(places):
        pass


async def test_what_a_killed_up_left_is_found_and_ended(places: Places) -> None:
    left = await asyncio.create_subprocess_exec(sys.executable, "-c", TALKER, start_new_session=True)
    from cli.supervisor import start_ticks

    facts = {"pid": left.pid, "started": start_ticks(left.pid), "rpc": "127.0.0.1:1", "http": ""}
    Path(places.run, "queue-0.json").write_text(json.dumps(facts))
    Path(places.run, "local-0.json").write_text(json.dumps({**facts, "started": 1}))
    alive = [one for one in lock.noted(places) if one.runs]
    assert [one.name for one in alive] == ["queue-0"]
    waiting = asyncio.create_task(left.wait())
    await asyncio.to_thread(lock.end, alive, 10.0)
    assert await waiting in (0, -signal.SIGTERM)
    lock.forget(places)
    assert lock.noted(places) == []


@pytest.fixture
async def redis_port(tmp_path: Path) -> AsyncIterator[int]:
    server = embedded.find_server()
    if server is None:
        missing("a Redis server", "run make setup")
    tls = tmp_path / "tls"
    embedded.ensure_users(str(tls), os.geteuid())
    port = Ports(SystemChance()).choose().port
    path = tmp_path / "redis.conf"
    path.write_text(embedded.configuration(str(tls), str(tmp_path), port) + "loglevel notice\n")
    process = await asyncio.create_subprocess_exec(server, str(path), stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    while b"Ready to accept connections" not in (line := await asyncio.wait_for(process.stdout.readline(), 20)):
        assert line, "the server ended"
    yield port
    process.terminate()
    await process.communicate()


def client(tls: Path, role: str, user: str, port: int) -> redis.Redis:
    password = (tls / role / "redis-password").read_text().strip()
    return redis.Redis(port=port, username=user, password=password, retry=ONCE)


def test_each_redis_user_reaches_its_own_keys_only(redis_port: int, tmp_path: Path) -> None:
    tls = tmp_path / "tls"
    script = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', 1000, 'NX')"
    with client(tls, "queue", "fence", redis_port) as fence, client(tls, "pop3", "limits", redis_port) as limits:
        assert fence.eval(script, 1, "fence:log", "17")
        assert fence.get("fence:log") == b"17"
        assert limits.incr("limits:192.0.2.1") == 1
        for refused in (
            lambda: fence.get("limits:192.0.2.1"),
            lambda: fence.eval(script, 1, "limits:x", "1"),
            lambda: limits.set("fence:log", "1"),
            fence.flushall,
            limits.keys,
            lambda: fence.config_get("*"),
            lambda: fence.execute_command("CLIENT", "KILL", "TYPE", "normal"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()
    with client(tls, "cli", "cli", redis_port) as operator:
        assert operator.flushall()
    with redis.Redis(port=redis_port, retry=ONCE) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.ping()


def test_redis_passwords_are_made_once(tmp_path: Path) -> None:
    embedded.ensure_users(str(tmp_path), os.geteuid())
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before[tmp_path / "smtpd" / "redis-password"] == before[tmp_path / "pop3" / "redis-password"]
    embedded.ensure_users(str(tmp_path), os.geteuid())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


async def test_one_page_has_the_metrics_of_all_and_says_who_is_not_ready() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n# TYPE up gauge\nup 1.0\n")
        writer.close()

    service = await asyncio.start_server(answer, "127.0.0.1", 0)
    ports = Ports(SystemChance())
    there = Address("127.0.0.1", service.sockets[0].getsockname()[1])
    services = {"queue-0": there, "local-0": ports.choose()}
    page = Page(lambda: services, lambda: "# own\n")
    bind = ports.choose()
    await page.start(bind)
    assert await fetch(bind, "/metrics") == (200, '# own\n# TYPE up gauge\nup{service="queue-0"} 1.0\n')
    assert await fetch(bind, "/readyz") == (503, "not ready: local-0\n")
    services.pop("local-0")
    assert await fetch(bind, "/readyz") == (200, "ready\n")
    assert (await fetch(bind, "/elsewhere"))[0] == 404
    await page.close()
    service.close()


def test_a_port_in_use_is_not_chosen_and_is_refused() -> None:
    with pytest.raises(Refusal, match="no port"):
        Ports(SystemChance()).choose("192.0.2.1")
