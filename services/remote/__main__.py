"""Starts remote: reads what it is told, builds the parts, hands mail to the world until it is asked to end."""

import asyncio
import contextlib

from mail.routing import Channel
from runtime import serve
from runtime.controls import Controls
from runtime.serve import DRAIN_S, Process
from runtime.worker import Worker
from services.remote.attempt import Attempts, World
from services.remote.config import RemoteConfig, RemoteControls
from services.remote.mx import Directory, Surroundings, has_address
from services.remote.pool import Pool
from services.remote.tcpto import Tcpto


async def main(config: RemoteConfig, process: Process) -> None:
    controls = Controls(config.control_dir)
    said = RemoteControls.read(controls)
    tcpto = Tcpto(config.time_scale)
    pool = Pool(process.clock)
    around = Surroundings(config.smtp_port, config.allow_nets, process.clock, process.chance, said.me, has_address)
    directory = Directory(config.dns_servers, around)
    world = World(process.clock, process.chance, process.events, directory, tcpto, pool)
    worker = Worker(Channel.REMOTE, config.queue_addrs, said.concurrencyremote, process)
    attempts = Attempts(worker, world, said)
    process.on_hangup(lambda: attempts.reread(controls))
    process.on_alarm(tcpto.forget)
    pulling = asyncio.create_task(worker.run(attempts.take))
    pulling.add_done_callback(lambda task: process.stop() if not task.cancelled() else None)

    await process.serve()

    await worker.drain(DRAIN_S)
    await attempts.stop()
    pool.close()
    pulling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pulling


if __name__ == "__main__":
    serve.run("remote", RemoteConfig, main)
