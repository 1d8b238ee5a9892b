"""Finds the queue replicas of a stack, and the key with which they are asked.

The files in run/ of a state directory name them, else QUEUE_ADDRS, else, in a container, the name `queue`.
"""

from collections.abc import Mapping

from cli import lock
from cli.places import Places
from cli.refusal import EXIT_TEMPORARY, Refusal
from cli.topology import CONTAINER_RPC_PORT
from runtime.config import Address, ConfigError, address, addresses
from runtime.peers import resolve
from runtime.rpc import Identity


async def find(places: Places, environ: Mapping[str, str]) -> list[Address]:
    """The address of every queue replica; Refusal (75) when there is no stack."""
    noted = lock.noted(places)
    if noted:
        return sorted((address(one.rpc) for one in noted if one.name.startswith("queue-")), key=str)
    value = environ.get("QUEUE_ADDRS", "")
    if not value and "SEAPOST_SERVICE" in environ:
        value = f"queue:{CONTAINER_RPC_PORT}"
    if not value:
        raise Refusal(
            f"{places.state}: no stack runs there: start it with `bin/seapost up`, or name it with --state DIR",
            EXIT_TEMPORARY,
        )
    try:
        names = addresses(value)
    except ValueError as error:
        raise ConfigError([f"environment variable QUEUE_ADDRS={value!r} {error}: set it right"]) from error
    found = sorted(await resolve(names), key=str)
    if not found:
        raise Refusal(f"no queue at {value}: the name has no address: is the queue running?", EXIT_TEMPORARY)
    return found


def identity(places: Places) -> Identity:
    """The cli's key; ConfigError names what is missing."""
    return Identity.load(places.tls, "cli")
