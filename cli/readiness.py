"""When the stack is ready: every service says SERVING by gRPC health, Redis takes connections."""

import asyncio
from collections.abc import Callable

from cli.supervisor import Instance, Supervisor
from cli.wiring import Launch
from runtime import rpc
from runtime.config import Address

# A healthy service answers at once; one that starts is asked again after a pause.
_HEALTH_TIMEOUT_S = 2.0
_PAUSE_S = 0.05
# Then somebody who watches learns what is missing.
_STILL_WAITING_S = 10.0


async def wait_ready(supervisor: Supervisor, identity: rpc.Identity, say: Callable[[str], None]) -> None:
    """Returns when all are ready; says every ten seconds who is not."""
    pending = {
        asyncio.create_task(_until_ready(supervisor, instance, identity), name=instance.launch.name)
        for instance in supervisor.instances
    }
    everything = set(pending)
    try:
        while pending:
            _, pending = await asyncio.wait(pending, timeout=_STILL_WAITING_S)
            if pending:
                say(f"up: still waiting for {', '.join(sorted(task.get_name() for task in pending))}")
    finally:
        for task in everything:
            task.cancel()
    await asyncio.gather(*everything)


async def _until_ready(supervisor: Supervisor, instance: Instance, identity: rpc.Identity) -> None:
    while not await _is_ready(instance.launch, identity):  # noqa: ASYNC110 - another process has no event for us
        await asyncio.sleep(_PAUSE_S)
    supervisor.is_ready(instance)


async def _is_ready(launch: Launch, identity: rpc.Identity) -> bool:
    address = launch.rpc
    if address is None or not await _accepts(address):
        return address is None
    return not launch.service.answers_grpc or await rpc.is_healthy(address, identity, _HEALTH_TIMEOUT_S)


async def _accepts(address: Address) -> bool:
    """Whether somebody listens there: asked first, because a gRPC channel that was refused waits before it retries."""
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True
