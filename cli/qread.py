"""`qmail-qread` and `qmail-qstat`: octet by octet what qmail's print, with ids where qmail has numbers.

A message that is in the queue has been preprocessed here: there is no second step.
"""

import asyncio
import os
import sys

from cli import admin, escape, listing, queued, replicas
from cli.admin import Stats, Unanswered
from cli.listing import refuse_silent
from cli.places import Places
from cli.queued import Queued
from mail.routing import Channel


def read(places: Places) -> int:
    """Prints every message and its recipients; Refusal (75) names replicas that are silent."""
    status = listing.show_qmail(places, lambda one: print_raw(lines(one)))
    sys.stdout.buffer.flush()
    return status


def stat(places: Places) -> int:
    """Prints how many messages there are; Refusal (75) names replicas that are silent."""
    return asyncio.run(_stat(places))


def lines(one: Queued) -> list[bytes]:
    """A message: its recipients by channel, local first, as qmail keeps them."""
    shown = [
        f"{queued.date(one['arrived'])}  #{one['id']}  {one['size']}  <".encode()
        + escape.octets(one["sender"])
        + b"> "
        + (b" bouncing" if queued.is_bouncing(one) else b"")
    ]
    for channel in (Channel.LOCAL, Channel.REMOTE):
        shown += [
            (b"  done" if recipient["state"] in ("done", "failed") else b"")
            + f"\t{channel.value}\t".encode()
            + escape.octets(recipient["address"])
            for recipient in one["recipients"]
            if recipient["channel"] == channel.value
        ]
    return shown


async def _stat(places: Places) -> int:
    async with admin.replicas(await replicas.find(places, os.environ), replicas.identity(places)) as them:
        answers = await asyncio.gather(*(replica.stats() for replica in them), return_exceptions=True)
        silent = await replicas.gaps(them)
    count = 0
    for answer in answers:
        if isinstance(answer, Stats):
            count += answer.messages
        elif isinstance(answer, Unanswered):
            silent.append(answer)
        else:
            raise answer
    print_raw([b"messages in queue: %d" % count, b"messages in queue but not yet preprocessed: 0"])
    sys.stdout.buffer.flush()
    refuse_silent(silent)
    return 0


def print_raw(shown: list[bytes]) -> None:
    """Lines, whatever the encoding of the terminal."""
    sys.stdout.buffer.write(b"\n".join(shown) + b"\n")
