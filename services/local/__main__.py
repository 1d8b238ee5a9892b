"""Starts local. The spawner is forked first (runtime/fronted.py), so asyncio and gRPC are imported in `main`."""

import functools
from typing import TYPE_CHECKING

from runtime import fronted
from runtime.accounts import Accounts
from runtime.config import EXIT_TEMPORARY
from runtime.spawner import Spawner
from services.local import child
from services.local.config import LocalConfig, Rules
from services.local.door import Door

if TYPE_CHECKING:
    from runtime.serve import Process


async def main(door: Door, spawner: Spawner, config: LocalConfig, process: "Process") -> None:
    """Builds the parts and hands them to each other, serves, drains."""
    import asyncio

    from mail.routing import Channel
    from runtime.children import Children
    from runtime.serve import DRAIN_S
    from runtime.worker import Worker
    from services.local.front import Front, Surroundings
    from services.local.ownership import Ownership
    from services.local.pool import Pool
    from services.local.server import AccountsServicer
    from services.local.settlement import Settlement
    from services.local.submission import Submissions

    rules = Rules(config.control_dir)
    process.on_hangup(lambda: rules.reread_or(process.events.alert))
    accounts = Accounts(spawner.places, process.events.alert)
    accounts.prime()
    ownership = Ownership(accounts, process.clock)
    give_up = functools.partial(process.stop, EXIT_TEMPORARY)
    children = Children(spawner, give_up)
    pool = Pool(children, process.clock)
    worker = Worker(Channel.LOCAL, config.queues, rules.concurrency, process)
    settlement = Settlement(process.clock, pool, accounts, worker.holds)
    front = Front(worker, pool, ownership, settlement, Surroundings(rules, process, config.underway_path()))
    AccountsServicer(rules, ownership, pool).register(process.rpc.grpc)
    submissions = Submissions(door.sock, config.queues, process, accounts)
    running = [process.keep(one) for one in (front.run(), pool.run(), settlement.run(), submissions.run())]

    await process.serve()

    await asyncio.gather(worker.drain(DRAIN_S), submissions.close(DRAIN_S))
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    pool.close()
    children.close()


if __name__ == "__main__":
    door = Door()
    fronted.run("local", LocalConfig, child.work, functools.partial(main, door), door.open)
