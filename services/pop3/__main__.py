"""Starts pop3. The spawner is forked first (runtime/fronted.py), so asyncio and gRPC are imported in `main`."""

import functools
from typing import TYPE_CHECKING

from runtime import fronted
from runtime.config import EXIT_TEMPORARY
from runtime.spawner import Spawner
from services.pop3 import child
from services.pop3.config import Pop3Config

if TYPE_CHECKING:
    from runtime.serve import Process


async def main(spawner: Spawner, config: Pop3Config, process: "Process") -> None:
    """Builds the front around its spawner, serves, drains."""
    from runtime.children import Children
    from runtime.controls import Controls
    from runtime.serve import DRAIN_S
    from services.pop3.penalties import Penalties
    from services.pop3.session import Sessions, Surroundings

    me = Controls(config.control_dir).me()
    children = Children(spawner, functools.partial(process.stop, EXIT_TEMPORARY))
    penalties = Penalties(process.clock, process.chance)
    sessions = Sessions(Surroundings(me, children, penalties, process.clock, process.events))
    address = await sessions.open(config.pop3_bind)

    await process.serve(pop3=str(address))

    await sessions.drain(DRAIN_S / 2)
    children.close()


if __name__ == "__main__":
    fronted.run("pop3", Pop3Config, child.work, main)
