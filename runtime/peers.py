"""Who is there to call: configured names, looked up every two seconds, so that a new replica is found by itself."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from runtime.config import Address

RESOLVE_EVERY_S = 2.0


async def resolve(names: tuple[Address, ...]) -> set[Address]:
    """Every address that the names stand for now. A name that cannot be looked up stands for none."""
    loop = asyncio.get_running_loop()
    found: set[Address] = set()
    for name in names:
        try:
            infos = await loop.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
        except OSError:
            continue
        found.update(Address(str(info[4][0]), name.port) for info in infos)
    return found


async def follow(names: tuple[Address, ...], serve: Callable[[Address], Awaitable[None]]) -> None:
    """Keeps one task of `serve` running for each address that the names stand for, until cancelled.

    A task that ends is started again at the next look; one whose address has disappeared is left to end by itself,
    because its stream says sooner than a name server that the peer is gone.
    """
    tasks: dict[Address, asyncio.Task[None]] = {}
    try:
        while True:
            for address in await resolve(names):
                if address not in tasks or tasks[address].done():
                    tasks[address] = asyncio.create_task(_run(serve, address))
            await asyncio.sleep(RESOLVE_EVERY_S if tasks else RESOLVE_EVERY_S / 10)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _run(serve: Callable[[Address], Awaitable[None]], address: Address) -> None:
    await serve(address)
