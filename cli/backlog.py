"""`queue list` and `queue wait-idle`: what is queued, on every replica of the stack.

Finds the replicas (the files in run/ of a state directory, else QUEUE_ADDRS, else the name `queue` in a container)
and shows what they answer; what a message is, the queue knows.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cli import admin, lock
from cli.places import Places
from cli.refusal import EXIT_FAILED, EXIT_TEMPORARY, Refusal
from cli.topology import CONTAINER_RPC_PORT
from runtime.clock import Clock
from runtime.config import Address, ConfigError, address, addresses
from runtime.peers import resolve
from runtime.rpc import Identity

_POLL_S = 0.05
# A log may change hands between two answers: idle is what every replica says twice in a row.
_IDLE_PASSES = 2


async def find(places: Places, environ: Mapping[str, str]) -> list[Address]:
    """The address of every queue replica; Refusal when there is no stack."""
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


def show(places: Places, message: str, as_json: bool) -> int:
    """Prints every queued message of every replica, oldest first."""

    async def ask() -> list[list[dict[str, Any]]]:
        where = await find(places, os.environ)
        return await admin.ask_all(where, identity(places), lambda replica: replica.messages(message))

    found = [queued for answer in asyncio.run(ask()) for queued in answer]
    for queued in sorted(found, key=lambda queued: str(queued["id"])):
        print(json.dumps(queued, separators=(",", ":"), ensure_ascii=False) if as_json else "\n".join(lines(queued)))
    return 0


def lines(queued: Mapping[str, Any]) -> list[str]:
    """A message as qmail-qread shows it, and under a recipient that waits, since when and why."""
    shown = [f"{_date(queued['arrived'])}  #{queued['id']}  {queued['size']}  <{_plain(queued['sender'])}> "]
    for recipient in queued["recipients"]:
        done = "  done" if recipient["state"] == "done" else ""
        shown.append(f"{done}\t{recipient['channel']}\t{_plain(recipient['address'])}")
        if recipient["state"] == "delivering":
            shown.append("\t\tbeing delivered")
        elif recipient["next_attempt"] and recipient["attempts"]:
            tries = f"{recipient['attempts']} tries, next {_date(recipient['next_attempt'])}"
            shown.append(f"\t\t{tries}: {_plain(recipient['why'])}")
    return shown


def wait_idle(places: Places, timeout_s: float, clock: Clock) -> int:
    """0 once no replica holds a message; Refusal (1) at the timeout, saying who does or does not answer."""
    return asyncio.run(_wait_idle(places, clock.monotonic() + timeout_s, clock))


async def _wait_idle(places: Places, deadline: float, clock: Clock) -> int:
    passes = 0
    async with admin.replicas(await find(places, os.environ), identity(places)) as them:
        while passes < _IDLE_PASSES:
            answers = await asyncio.gather(*(replica.stats() for replica in them), return_exceptions=True)
            busy = [
                problem for replica, answer in zip(them, answers, strict=True) if (problem := _busy(replica, answer))
            ]
            passes = 0 if busy else passes + 1
            if busy and clock.monotonic() >= deadline:
                raise Refusal("; ".join(busy), EXIT_FAILED)
            await asyncio.sleep(_POLL_S)
    return 0


def _busy(replica: admin.Replica, answer: admin.Stats | BaseException) -> str:
    match answer:
        case admin.Stats(messages=0):
            return ""
        case admin.Stats():
            return f"the queue at {replica.address} still holds {answer.messages} messages"
        case admin.Unanswered():
            return str(answer)
    raise answer


def _date(seconds: float | None) -> str:
    return f"{datetime.fromtimestamp(seconds or 0, UTC):%d %b %Y %H:%M:%S} GMT"


def _plain(text: str) -> str:
    """What does not print becomes _, as in qmail-qread."""
    return "".join(char if char.isprintable() else "_" for char in text)
