"""The queue: one log, one writer, for ever. See README.md beside this file."""

import os

from runtime import serve
from runtime.controls import Controls
from runtime.durable import Disk
from runtime.serve import DRAIN_S, Process
from services.queue.config import QueueConfig, read_redis_password, read_rules, reread
from services.queue.dispatch import Dispatch
from services.queue.fence import Fence
from services.queue.intake import Intake
from services.queue.links import Links
from services.queue.ownership import Ownership
from services.queue.plan import Plan
from services.queue.server import Admin
from services.queue.spool import Spool
from services.queue.store import Store
from services.queue.takeover import Taker
from services.queue.volume import open_volume


async def main(config: QueueConfig, process: Process) -> None:
    controls = Controls(config.control_dir)
    rules = read_rules(controls, config.time_scale)
    disk = Disk()
    spool = Spool(config.spool_dir, disk)
    about = await open_volume(config, spool, process, controls.me())

    holder = f"{process.instance}/{os.getpid()}"
    fence = Fence(config.redis_url, read_redis_password(config), about.cluster_id, holder)
    store = Store(process, rules, spool.path)
    plan = Plan(scale=config.time_scale)
    links = Links(process, about.cluster)
    dispatch = Dispatch(store, plan, links, process)
    taker = Taker(spool, disk, process.instance, process.events, config.spool_segment_octets)
    ownership = Ownership(process, spool, taker, fence)
    await ownership.start(store, dispatch)

    # Each rim answers on the process's RPC server from here on.
    Intake(store, process)
    Admin(store, dispatch, spool, process)
    process.on_hangup(lambda: reread(controls, store, process))
    process.on_alarm(dispatch.try_everything_now)
    process.keep(links.beat())
    keeping = [process.keep(ownership.keep(store, dispatch)), process.keep(ownership.tidy(store))]
    await process.serve()

    store.drain()
    # After a failure nothing that is out can be recorded here: the next owner is there all the sooner.
    clean = process.exit_status == 0 and await dispatch.finish(DRAIN_S)
    for task in keeping:
        task.cancel()
    await store.close(clean)
    await ownership.release()


if __name__ == "__main__":
    serve.run("queue", QueueConfig, main)
