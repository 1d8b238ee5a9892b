"""`queue show`: all that is known of messages, and the messages themselves.

To a terminal a message goes without what does not print; to a file or a program octet by octet.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from cli import admin, escape, queued, replicas
from cli.admin import Replica, Unanswered
from cli.listing import Merged, refuse_gaps
from cli.places import Places
from cli.selection import Selection


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a message is asked for: with neither its header nor its body, its envelope and how far it is."""

    header: bool
    body: bool
    as_json: bool


def show(places: Places, ids: tuple[str, ...], wish: Wish) -> int:
    """Prints the messages; Refusal names ids that are not queued (1) and replicas that are silent (75)."""
    return asyncio.run(_show(places, ids, wish))


async def _show(places: Places, ids: tuple[str, ...], wish: Wish) -> int:
    unseen, selection = set(ids), Selection(ids=ids)
    async with admin.replicas(await replicas.find(places, os.environ), replicas.identity(places)) as them:
        merged = Merged(them, selection, whole=True)
        async for one in merged:
            try:
                await _write(them, one, wish)
                unseen.discard(one["id"])
            except Unanswered as error:
                merged.silent.append(error)
    sys.stdout.flush()
    refuse_gaps(selection, unseen, merged.silent)
    return 0


async def _write(them: list[Replica], one: queued.Queued, wish: Wish) -> None:
    if wish.as_json:
        value: dict[str, Any] = dict(one)
        if wish.header or wish.body:
            header, body = await _read(them, one["id"])
            value |= {"header": _as_text(header)} if wish.header else {}
            value |= {"body": _as_text(body)} if wish.body else {}
        sys.stdout.write(escape.json_line(value) + "\n")
    elif wish.header or wish.body:
        await _copy(parts(_pieces(them, one["id"]), wish))
    else:
        sys.stdout.write("\n".join(queued.particulars(one)) + "\n")


async def parts(pieces: AsyncIterator[bytes], wish: Wish) -> AsyncIterator[bytes]:
    """Of a message in pieces those that are wished for; the empty line goes with the header when the body follows."""
    begun = b""
    in_body = False
    async for piece in pieces:
        if in_body:
            yield piece
            continue
        begun += piece
        end = 0 if begun.startswith(b"\n") else begun.find(b"\n\n") + 1
        if not end and not begun.startswith(b"\n"):
            continue
        if wish.header:
            yield begun[: end + wish.body]
        if not wish.body:
            return
        in_body = True
        yield begun[end + 1 :]
    if not in_body and wish.header:
        yield begun  # all of it is header


async def _read(them: list[Replica], message: str) -> tuple[bytes, bytes]:
    whole = b"".join([piece async for piece in _pieces(them, message)])
    if whole.startswith(b"\n"):
        return b"", whole[1:]
    header, found, body = whole.partition(b"\n\n")
    return header + b"\n" * bool(found), body


async def _pieces(them: list[Replica], message: str) -> AsyncIterator[bytes]:
    """The message, from whichever replica keeps it."""
    for replica in them:
        found = False
        async for piece in replica.body(message):
            found = True
            yield piece
        if found:
            return


async def _copy(pieces: AsyncIterator[bytes]) -> None:
    if not sys.stdout.isatty():
        sys.stdout.flush()
        async for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    terminal = escape.Terminal()
    async for piece in pieces:
        sys.stdout.write(terminal.show(piece))
    sys.stdout.write(terminal.show(b"", last=True))


def _as_text(octets: bytes) -> str:
    """Text that json can hold; octets that are no UTF-8 are told as Python's surrogates, so that nothing is lost."""
    return octets.decode("utf-8", "surrogateescape")
