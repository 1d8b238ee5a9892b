"""Keeps processes running: starts them, restarts what dies, passes signals on, stops all in order.

Knows processes, their files in run/ and their output; does not know what a service is for. A process that refuses its
configuration (exit status 78) is not started again: that is for somebody to mend.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cli.console import Console, LineLog
from cli.places import CHECKOUT
from cli.privileges import launcher
from cli.wiring import Launch
from runtime.clock import Clock
from runtime.config import EXIT_CONFIG
from runtime.durable import Disk

# A process that lived this long had a good start; its next death counts as the first.
STABLE_S = 3.0
# The first death is answered at once, the next ones after a pause that doubles up to the last: shorter than senders'
# patience, long enough that a service that cannot live does not take the machine.
BACK_OFF_FIRST_S = 0.5
BACK_OFF_LAST_S = 8.0
# From SIGTERM to SIGKILL; longer than a service's own time to drain (runtime/serve.py DRAIN_S).
STOP_WAIT_S = 30.0
# What a dead process's family may still hold of its output is not waited for longer.
OUTPUT_WAIT_S = 1.0
# A service waits for nobody to read its lines until this much is unread: the most an ordinary user may ask for.
_PIPE_OCTETS = 1024 * 1024
# Lines gather this long before they are read together; read one by one they would cost more than the mail.
_GATHER_S = 0.05
_REASONS_MAX = 20  # lines of a refused configuration that are repeated at the end

# Where processes shall die, for tests: POINT is for the first process of every instance, NAME=POINT[,NAME=POINT…] for
# the first of that name, the next of that name for its second process, and so on. What is left lives.
_CRASHES = "CRASH_AT"


@dataclass(slots=True)
class Instance:
    """One process of the table and what became of it."""

    launch: Launch
    pid: int = 0
    deaths: int = 0
    ready: bool = False  # was healthy once
    refused: bool = False  # its configuration
    reasons: list[str] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class Supervisor:
    """The processes of one `up`."""

    def __init__(self, launches: Iterable[Launch], run: str, log: str, console: Console, clock: Clock) -> None:
        self.instances = [Instance(launch) for launch in launches]
        self.refused = asyncio.Event()  # some process will not run with this configuration
        self.decided = asyncio.Event()  # every process was healthy once, or refused
        self._run = run
        self._log = log
        self._console = console
        self._clock = clock
        self._stopping: set[str] = set()
        self._stop_asked = asyncio.Event()

    def start(self) -> None:
        """Starts every process; each is looked after until `stop`."""
        for instance in self.instances:
            instance.task = asyncio.create_task(self._look_after(instance))

    def is_ready(self, instance: Instance) -> None:
        """Told by who asks for its health."""
        instance.ready = True
        self._decide()

    def _decide(self) -> None:
        if all(instance.ready or instance.refused for instance in self.instances):
            self.decided.set()

    def pass_on(self, number: signal.Signals) -> None:
        """Sends the signal to every service that runs."""
        for instance in self.instances:
            if instance.pid and instance.launch.service.answers_grpc:
                _signal(instance.pid, number)

    def hurry(self) -> None:
        """Ends the wait for processes that drain: they are killed."""
        for instance in self.instances:
            if instance.pid:
                _kill_group(instance.pid)

    async def stop(self, order: Sequence[Sequence[str]]) -> None:
        """Ends the processes, one group of services after the other, each with time to drain."""
        self._stop_asked.set()
        for group in order:
            self._stopping.update(group)
            members = [one for one in self.instances if one.launch.service.name in group and one.task]
            for instance in members:
                if instance.pid:
                    _signal(instance.pid, signal.SIGTERM)
            tasks = [instance.task for instance in members if instance.task]
            if not tasks:
                continue
            _, late = await asyncio.wait(tasks, timeout=STOP_WAIT_S)
            for instance in members:
                if instance.task in late and instance.pid:
                    self._console.say(f"up: {instance.launch.name} does not end: killing it")
                    _kill_group(instance.pid)
            await asyncio.gather(*tasks)

    async def _look_after(self, instance: Instance) -> None:
        quick_deaths = 0
        while not self._is_stopping(instance):
            born = self._clock.monotonic()
            try:
                status = await self._live(instance)
            except OSError as error:
                self._console.say(f"up: cannot start {instance.launch.name}: {error.strerror}: {error.filename}")
                status = 127
            if status == EXIT_CONFIG:
                instance.refused = True
                self.refused.set()
                self._decide()
                return
            if self._is_stopping(instance):
                return
            instance.deaths += 1
            quick_deaths = 1 if self._clock.monotonic() - born >= STABLE_S else quick_deaths + 1
            delay = back_off(quick_deaths)
            when = f"in {delay:g} s" if delay else "now"
            self._console.say(f"up: {instance.launch.name} {_how(status)}: starting it again {when}")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), delay)
                return

    def _is_stopping(self, instance: Instance) -> bool:
        return instance.launch.service.name in self._stopping

    async def _live(self, instance: Instance) -> int:
        """One life of the process, from start to exit status."""
        launch = instance.launch
        # A pipe of our own: asyncio's would hold back the exit status while a child of the process holds its end.
        reader, writer = os.pipe()
        with contextlib.suppress(OSError):  # less is possible where the kernel's limit is lower
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_OCTETS)
        try:
            process = await asyncio.create_subprocess_exec(
                *launcher(launch.uid),
                *launch.command,
                cwd=CHECKOUT,
                env=_environment(launch, instance.deaths),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writer,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for `up` alone, which stops the services in order
            )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        instance.pid = process.pid
        instance.reasons.clear()
        self._note(instance)
        if self._is_stopping(instance):  # asked while it was being started
            _signal(process.pid, signal.SIGTERM)
        reading = asyncio.create_task(self._read(instance, reader))
        status = await process.wait()
        instance.pid = 0
        _kill_group(process.pid)
        await asyncio.wait([reading], timeout=OUTPUT_WAIT_S)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        # Its addresses stay known while it is being started again; its pid is nobody's.
        self._forget(launch, ("pid", "json") if self._is_stopping(instance) else ("pid",))
        return status

    async def _read(self, instance: Instance, pipe: int) -> None:
        log = LineLog(instance.launch.name, os.path.join(self._log, f"{instance.launch.name}.log"), self._console)
        begin = f"{instance.launch.service.name}: ".encode()
        try:
            while data := await _gathered(pipe):
                for line in log.feed(data):
                    if line.startswith(begin):
                        instance.reasons.append(line.decode("utf-8", "replace"))
                        del instance.reasons[:-_REASONS_MAX]
        finally:
            log.end()
            os.close(pipe)

    def _note(self, instance: Instance) -> None:
        """run/<name>.pid and run/<name>.json, whole at any instant."""
        launch = instance.launch
        facts = {
            "pid": instance.pid,
            "started": start_ticks(instance.pid),
            "rpc": str(launch.rpc) if launch.rpc else "",
            "http": str(launch.http) if launch.http else "",
        }
        self._replace(f"{launch.name}.json", json.dumps(facts) + "\n")
        self._replace(f"{launch.name}.pid", f"{instance.pid}\n")

    def _replace(self, name: str, content: str) -> None:
        path = os.path.join(self._run, name)
        # Not synced: after a power cut the processes are gone too.
        with contextlib.suppress(OSError):
            with open(f"{path}.draft", "w", encoding="ascii") as file:
                file.write(content)
            Disk().rename(f"{path}.draft", path)

    def _forget(self, launch: Launch, endings: Sequence[str]) -> None:
        for ending in endings:
            with contextlib.suppress(OSError):
                Disk().unlink(os.path.join(self._run, f"{launch.name}.{ending}"))


async def _gathered(pipe: int) -> bytes:
    """What the pipe has to read, a moment's worth; b"" at its end."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pipe, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(pipe)
    data = os.read(pipe, _PIPE_OCTETS)
    if data:
        await asyncio.sleep(_GATHER_S)
    return data


def back_off(quick_deaths: int) -> float:
    """Seconds until a process is started again after that many deaths in a row."""
    if quick_deaths <= 1:
        return 0.0
    return min(BACK_OFF_FIRST_S * 2.0 ** min(quick_deaths - 2, 16), BACK_OFF_LAST_S)


def start_ticks(pid: int) -> int:
    """When the process started, in ticks since boot (proc(5)); 0 when there is none. With the pid, its identity."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The name, in parentheses, may itself hold anything.
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _environment(launch: Launch, deaths: int) -> Mapping[str, str]:
    """That of the table, with the crash on purpose that this life of the process is for, if any."""
    environment = {name: value for name, value in launch.environment.items() if name != _CRASHES}
    asked = launch.environment.get(_CRASHES, "")
    mine = [one.removeprefix(f"{launch.name}=") for one in asked.split(",")]
    mine = [point for point in mine if "=" not in point]
    return environment | ({_CRASHES: mine[deaths]} if asked and deaths < len(mine) else {})


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _kill_group(pid: int) -> None:
    """The process and everything it started that did not leave its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
