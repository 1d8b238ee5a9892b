"""`status`: which processes of a stack run and are ready, and how much each queue replica holds."""

import asyncio
import os

from cli import admin, escape, lock, replicas
from cli.page import fetch
from cli.places import Places
from cli.refusal import EXIT_FAILED
from runtime.config import address


def show(places: Places) -> int:
    """Prints a line for each process and each replica; 0 when everything is ready, else 1."""
    return asyncio.run(_show(places))


async def _show(places: Places) -> int:
    where = await replicas.find(places, os.environ)
    good = [await _process(process) for process in lock.noted(places)]
    async with admin.replicas(where, replicas.identity(places)) as them:
        for replica in them:
            try:
                stats = await replica.stats()
            except admin.Unanswered as error:
                print(error)
                good.append(False)
                continue
            workers = " ".join(escape.plain(worker.name) for worker in stats.workers)
            print(
                f"queue at {replica.address}: {stats.messages} messages, {stats.delivering} being delivered, "
                f"logs {' '.join(stats.logs) or 'none'}, workers {workers or 'none'}"
            )
    return 0 if all(good) else EXIT_FAILED


async def _process(process: lock.Noted) -> bool:
    if not process.runs:
        print(f"{process.name}: not running, being started again")
        return False
    ready = not process.http or (await fetch(address(process.http), "/readyz"))[0] == 200
    print(f"{process.name}: pid {process.pid} {'ready' if ready else 'not ready'} at {process.rpc}")
    return ready
