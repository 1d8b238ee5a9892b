"""Puts the real queue on the stage: its modules get the simulated system instead of the machine.

Real are every module of services/queue (its main, plan, ledger, log engine, takeover, ownership, dispatch, intake,
fence), runtime/durable.py, runtime/producer.py, runtime/worker.py and the generated gRPC code. Replaced are `os`,
`fcntl`, `shutil`, `open` and threads where those modules use them, the channel to a server, the Redis client, crash
points, and the sizes of bodies and frames, which are made small so that few messages reach every branch.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import redis.exceptions

import runtime.clock
import runtime.durable
import runtime.faults
import runtime.producer
import runtime.rpc
import runtime.worker
import services.queue.__main__
from tests.sim.machine import SimFcntl, SimShutil, opener
from tests.sim.process import SimProcess

if TYPE_CHECKING:
    from tests.sim.world import World

# Small, so that a few kilobytes see large bodies, chunks and full frames.
_SIZES = {"INLINE_MAX_OCTETS": 1_500, "BODY_CHUNK_OCTETS": 900, "FRAME_MAX_OCTETS": 4_000}


class _Stage:
    """The world that has the stage now."""

    world: "World"


def queue_main(process: SimProcess) -> Any:
    """services/queue/__main__.py's main, in this world."""
    return services.queue.__main__.main(_Stage.world.cast.configuration(process), process)


def _modules() -> list[ModuleType]:
    names = sorted(name for name in sys.modules if name.startswith("services.queue."))
    return [sys.modules[name] for name in names] + [runtime.durable, runtime.producer, runtime.worker]


async def _untried(*_: object) -> None:
    """The trials of a volume are real threads on a real disk."""


def _redis(world: "World") -> Any:
    connected = SimpleNamespace(from_url=lambda *_, **__: world.cast.redis_client())
    return SimpleNamespace(asyncio=SimpleNamespace(Redis=connected), exceptions=redis.exceptions)


@contextlib.contextmanager
def on_stage(world: "World") -> Iterator[None]:
    """The world's system is the machine, until the end of the block."""
    shown = {
        "os": world.os,
        "fcntl": SimFcntl(world.system),
        "shutil": SimShutil(world.os, world.system),
        "ThreadPoolExecutor": lambda *words, **named: world.current.loop.executor(*words, **named),
        "point": world.point,
        "redis": _redis(world),
        "check_filesystem": lambda *_: None,
        "try_volume": _untried,
        **_SIZES,
    }
    undo: list[tuple[Any, str, Any]] = []

    def put(module: Any, name: str, value: Any) -> None:
        undo.append((module, name, module.__dict__.get(name, undo)))
        setattr(module, name, value)

    for module in _modules():
        for name, value in shown.items():
            if name in module.__dict__:
                put(module, name, value)
        put(module, "open", opener(world.os))
    put(runtime.faults, "point", world.point)
    put(runtime.clock, "open", lambda *_, **__: io.StringIO(world.boot_id()))
    put(runtime.rpc, "channel", world.network.channel)
    _Stage.world = world
    try:
        yield
    finally:
        for module, name, value in reversed(undo):
            if value is undo:
                delattr(module, name)
            else:
                setattr(module, name, value)
