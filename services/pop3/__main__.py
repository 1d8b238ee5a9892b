"""Starts pop3: forks the spawner, gives up root, and answers clients until the process is asked to end."""

import functools
import os
from typing import TYPE_CHECKING

from runtime import privilege
from runtime.accounts import Places
from runtime.config import EXIT_TEMPORARY, ConfigError, load
from runtime.spawner import Spawner, Work
from services.pop3 import child
from services.pop3.config import Pop3Config

if TYPE_CHECKING:
    from runtime.serve import Process


def start() -> None:
    """The spawner comes first, while this process is small and has no threads: what has them is imported after it."""
    try:
        config = load(Pop3Config, os.environ)
    except ConfigError as error:
        from runtime import serve

        return serve.refuse("pop3", error)
    spawner = Spawner.fork(Places.here(config.accounts_dir, config.homes_dir), Work(child.serve, child.authenticate))
    if config.front_uid is not None:
        privilege.become(config.front_uid, config.front_uid)
    from runtime import serve

    serve.run("pop3", Pop3Config, functools.partial(main, spawner))


async def main(spawner: Spawner, config: Pop3Config, process: "Process") -> None:
    """Builds the front around its spawner, serves, drains."""
    from runtime.children import Children
    from runtime.controls import Controls
    from runtime.serve import DRAIN_S
    from services.pop3.penalties import Penalties
    from services.pop3.session import Sessions, Surroundings

    me = Controls(config.control_dir).me()
    children = Children(spawner, lambda: process.stop(EXIT_TEMPORARY))
    penalties = Penalties(process.clock, process.chance)
    sessions = Sessions(Surroundings(me, children, penalties, process.clock, process.events))
    address = await sessions.open(config.pop3_bind)

    await process.serve(pop3=str(address))

    await sessions.drain(DRAIN_S / 2)
    children.close()


if __name__ == "__main__":
    start()
