"""A worker in a process of its own, for gRPC and forks do not go together: it writes the key of each delivery that it
takes, and settles those whose keys it reads."""

import asyncio
import sys
from dataclasses import dataclass

from mail.outcome import Delivered
from mail.routing import Channel
from runtime import serve
from runtime.config import Address, ServiceConfig, addresses, setting
from runtime.serve import Process
from runtime.worker import Delivery, Result, Worker

SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class DeskConfig(ServiceConfig):
    queue_addrs: tuple[Address, ...] = setting("QUEUE_ADDRS", addresses)


async def main(config: DeskConfig, process: Process) -> None:
    worker = Worker(Channel.LOCAL, config.queue_addrs, SLOTS, process)
    taken: dict[str, Delivery] = {}

    def take(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            taken[delivery.key] = delivery
            sys.stdout.write(f"took {delivery.key}\n")
            sys.stdout.flush()

    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = asyncio.create_task(worker.run(take))
    while line := await lines.readline():
        worker.settle(taken[line.decode().strip()], [Result(0, Delivered("did 1+0+0\n"))])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    serve.run("local", DeskConfig, main)
