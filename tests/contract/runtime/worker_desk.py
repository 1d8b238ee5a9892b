"""A worker in a process of its own, for gRPC and forks do not go together. It writes the key of each delivery that it
takes, and reads what it is to do: `settle KEY`, `later SECONDS` (its clock goes on by so much), `may KEY` (it writes
whether it may proceed)."""

import asyncio
import sys
from dataclasses import dataclass

from mail.outcome import Delivered
from mail.routing import Channel
from runtime import serve
from runtime.clock import SystemClock
from runtime.config import Address, ServiceConfig, addresses, setting
from runtime.serve import Process
from runtime.worker import Delivery, Result, Worker

SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class DeskConfig(ServiceConfig):
    queue_addrs: tuple[Address, ...] = setting("QUEUE_ADDRS", addresses)


class Forward(SystemClock):
    """The machine's clock, and more."""

    more_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.more_s


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(config: DeskConfig, process: Process) -> None:
    clock = process.clock = Forward()
    worker = Worker(Channel.LOCAL, config.queue_addrs, SLOTS, process)
    taken: dict[str, Delivery] = {}

    def take(deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            taken[delivery.key] = delivery
            say(f"took {delivery.key}")

    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = asyncio.create_task(worker.run(take))
    while line := await lines.readline():
        what, _, which = line.decode().strip().partition(" ")
        if what == "settle":
            worker.settle(taken[which], [Result(0, Delivered("did 1+0+0\n"))])
        elif what == "later":
            clock.more_s += float(which)
        else:
            say("yes" if worker.may_proceed(taken[which]) else "no")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    serve.run("local", DeskConfig, main)
