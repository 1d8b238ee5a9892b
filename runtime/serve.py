"""The life of a service process: read the configuration, run, say when ready, end in order.

`run` is called by every services/*/__main__.py with its configuration class and its `main`. Exit status: 0 after a
signal, 74 when the disk failed, 78 when the configuration is wrong.
"""

import asyncio
import contextlib
import http.server
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import prometheus_client
import uvloop

from runtime.clock import SystemChance, SystemClock
from runtime.config import EXIT_CONFIG, EXIT_IO, Address, ConfigError, ServiceConfig, instance_of, load
from runtime.events import Events
from runtime.rpc import Identity, Server

# SIGTERM to the end of the process: what is at its final dot may finish within this time.
DRAIN_S = 25.0

C = TypeVar("C", bound=ServiceConfig)


class Process:
    """What a running service has from its surroundings: clock, chance, events, identity, RPC server, signals."""

    def __init__(self, role: str, config: ServiceConfig) -> None:
        instance = config.instance or instance_of(role, socket.gethostname())
        self.role = role
        self.instance = instance
        self.clock = SystemClock(config.time_scale)
        self.chance = SystemChance()
        self.events = Events(instance, self.clock, config.log_format, config.events_dir, config.events_keep_days)
        self.identity = Identity.load(config.tls_dir, role)
        self.rpc = Server(self.identity, config.rpc_bind)
        self.stopping = asyncio.Event()
        self.exit_status = 0
        self._page = _Page(config.http_bind)
        self._on_hangup: list[Callable[[], None]] = []
        self._on_alarm: list[Callable[[], None]] = []
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if os.getpid() == 1:  # of a container: orphans of others become ours, and the kernel is to bury them
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        loop.add_signal_handler(signal.SIGALRM, self._run_all, self._on_alarm)

    def on_hangup(self, call: Callable[[], None]) -> None:
        """Calls at each SIGHUP: read again what qmail reads again."""
        self._on_hangup.append(call)

    def on_alarm(self, call: Callable[[], None]) -> None:
        """Calls at each SIGALRM: try everything now."""
        self._on_alarm.append(call)

    def keep(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task that runs as long as the service: when it fails, the service ends with EX_IOERR."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._kept)
        return task

    def _kept(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            self.events.alert(f"the service cannot go on: {error!r}")
            self.stop(EXIT_IO)

    def stop(self, status: int = 0) -> None:
        """Asks the service to end; the first reason's exit status counts."""
        if not self.stopping.is_set():
            self.exit_status = status
            self.stopping.set()

    async def serve(self, **addresses: str) -> None:
        """Says that everything is ready and returns when the service has been asked to end."""
        await self.rpc.start()
        await self.set_ready(True)
        self.events.started(rpc=str(self.rpc.address), http=str(self._page.address), **addresses)
        await self.stopping.wait()
        self.events.stopping()
        await self.set_ready(False)

    async def set_ready(self, ready: bool) -> None:
        """What gRPC health and /readyz answer."""
        self._page.ready = ready
        await self.rpc.set_ready(ready)

    def _hang_up(self) -> None:
        self._run_all(self._on_hangup)
        self.events.reread()

    def _run_all(self, calls: list[Callable[[], None]]) -> None:
        for call in calls:
            call()

    async def close(self) -> None:
        await self.rpc.stop(1.0)
        self._page.close()
        self.events.flush()


def run(role: str, kind: type[C], main: Callable[[C, Process], Awaitable[None]]) -> None:
    """Reads the configuration, runs `main` until it returns, and ends the process with the right exit status."""
    try:
        config = load(kind, os.environ)
        status = uvloop.run(_live(role, config, main))
    except ConfigError as error:
        refuse(role, error)
    sys.exit(status)


def refuse(role: str, error: ConfigError) -> None:
    """Prints every mistake and ends the process with EX_CONFIG."""
    for mistake in error.mistakes:
        sys.stderr.write(f"{role}: {mistake}\n")
    sys.exit(EXIT_CONFIG)


async def _live(role: str, config: C, main: Callable[[C, Process], Awaitable[None]]) -> int:
    process = Process(role, config)
    try:
        await main(config, process)
    except OSError as error:  # of the disk, or of a limit: another start may find it mended
        process.events.alert(f"the service cannot go on: {error!r}")
        process.stop(EXIT_IO)
    finally:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.close(), DRAIN_S)
    return process.exit_status


class _Page:
    """/healthz, /readyz and /metrics over HTTP, from a thread of its own: it answers while the loop is busy."""

    def __init__(self, bind: Address) -> None:
        self.ready = False
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                status, kind, body = page.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        try:
            self._server = http.server.ThreadingHTTPServer((bind.host, bind.port), Handler)
        except OSError as error:
            raise ConfigError(
                [f"environment variable HTTP_BIND={bind}: cannot listen there: {error.strerror}"]
            ) from error
        self._server.daemon_threads = True
        self.address = Address(bind.host, self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/metrics":
            return 200, prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest()
        if path == "/healthz":
            return 200, "text/plain", b"alive\n"
        if path == "/readyz":
            return (200, "text/plain", b"ready\n") if self.ready else (503, "text/plain", b"not ready\n")
        return 404, "text/plain", b"try /healthz, /readyz or /metrics\n"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
