"""Finds the queue replicas of a stack, and the key with which they are asked.

The files in run/ of a state directory name them, else QUEUE_ADDRS, else, in a container, the name `queue`.
"""

import asyncio
from collections.abc import Mapping, Sequence

from cli import lock
from cli.admin import Replica, Stats, Unanswered
from cli.places import Places
from cli.refusal import EXIT_TEMPORARY, Refusal
from cli.topology import CONTAINER_RPC_PORT
from runtime.config import Address, ConfigError, address, addresses
from runtime.peers import resolve
from runtime.rpc import Identity

# A log that changes hands has an owner again within a moment: it is looked for so often, so long apart.
_LOOKS = 4
_LOOK_S = 0.25


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


def unserved(answers: Sequence[Stats]) -> list[Unanswered]:
    """The logs on the volume for which none of those who answered answers."""
    missing = {log for one in answers for log in one.volume} - {log for one in answers for log in one.logs}
    return [
        Unanswered(f"nobody answers for log {log} now: its queue is gone, or is reading it") for log in sorted(missing)
    ]


async def gaps(them: list[Replica]) -> list[Unanswered]:
    """What no replica that answers answers for: such logs, when they stay so for a moment."""
    missing: list[Unanswered] = []
    for _ in range(_LOOKS):
        answers = await asyncio.gather(*(replica.stats() for replica in them), return_exceptions=True)
        known = [answer for answer in answers if isinstance(answer, Stats)]
        missing = unserved(known)
        if not missing or len(known) < len(them):  # who is silent is silent, and is named for itself
            break
        await asyncio.sleep(_LOOK_S)
    return missing


def identity(places: Places) -> Identity:
    """The cli's key; ConfigError names what is missing."""
    return Identity.load(places.tls, "cli")
