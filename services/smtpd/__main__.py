"""Wires smtpd: control files, keeper of accounts, queue, door."""

import asyncio
import os

from runtime import rpc, serve
from runtime.producer import Producer
from runtime.serve import Process
from services.smtpd.accounts import Accounts
from services.smtpd.config import SmtpdConfig
from services.smtpd.connection import Office
from services.smtpd.controls import CurrentRules
from services.smtpd.door import Door
from services.smtpd.session import Session


async def main(config: SmtpdConfig, process: Process) -> None:
    """Takes mail until the process is asked to end, then answers for what it has read to the final dot."""
    loop = asyncio.get_running_loop()
    rules = CurrentRules(config.control_dir, process.clock, process.events)
    process.on_hangup(rules.look)
    accounts = Accounts(config.local_addrs, process.identity, process.clock)
    producer = Producer(config.queue_addrs, process)
    door = Door()
    office = Office(
        rules=rules.now,
        queue=producer,
        keeper=accounts,
        door=door,
        clock=process.clock,
        chance=process.chance,
        events=process.events,
        uid=os.geteuid(),
    )
    to_queue = asyncio.create_task(producer.run())
    to_queue.add_done_callback(rpc.ended)
    address = await door.open(config.smtp_bind, lambda: Session(office, loop))
    await process.serve(smtp=str(address))
    await door.close(serve.DRAIN_S)
    to_queue.cancel()
    await accounts.close()


if __name__ == "__main__":
    serve.run("smtpd", SmtpdConfig, main)
