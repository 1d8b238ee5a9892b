"""`queue list` and `queue show`: what is queued, on every replica of the stack, one message after the other.

A listing goes through as it comes, in the order of the ids, which is that of time; a million messages need no memory.
"""

import asyncio
import heapq
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from cli import admin, escape, queued, replicas
from cli.admin import Replica, Unanswered
from cli.places import Places
from cli.queued import Queued
from cli.refusal import EXIT_FAILED, EXIT_TEMPORARY, Refusal
from cli.selection import Selection


class Merged:
    """The messages that match, of every replica, in the order of their ids; `silent` says what is missing: who did not
    answer, and for which logs nobody does."""

    def __init__(self, them: list[Replica], selection: Selection, whole: bool = False) -> None:
        self._them = them
        self._streams = [replica.messages(selection, whole) for replica in them]
        self.silent: list[Unanswered] = []

    async def __aiter__(self) -> AsyncIterator[Queued]:
        try:
            firsts = await asyncio.gather(*map(self._next, self._streams))
            heads = [(first["id"], number, first) for number, first in enumerate(firsts) if first]
            heapq.heapify(heads)
            last = ""
            while heads:
                message, number, one = heads[0]
                if message != last:  # a log that has just changed hands may be listed by both
                    yield one
                last = message
                following = await self._next(self._streams[number])
                if following:
                    heapq.heapreplace(heads, (following["id"], number, following))
                else:
                    heapq.heappop(heads)
            self.silent += await replicas.gaps(self._them)
        finally:
            await asyncio.gather(*(stream.aclose() for stream in self._streams))

    async def _next(self, stream: AsyncGenerator[Queued, None]) -> Queued | None:
        try:
            return await anext(stream, None)
        except Unanswered as error:
            self.silent.append(error)
            return None


def show(places: Places, selection: Selection, as_json: bool) -> int:
    """Prints what matches; Refusal names ids that are not queued (1) and replicas that are silent (75)."""
    return asyncio.run(_show(places, selection, _json if as_json else _text))


def show_qmail(places: Places, write: Callable[[Queued], None]) -> int:
    """Gives every message to `write`; Refusal (75) names replicas that are silent."""
    return asyncio.run(_show(places, Selection(), write))


async def _show(places: Places, selection: Selection, write: Callable[[Queued], None]) -> int:
    unseen = set(selection.ids)
    async with admin.replicas(await replicas.find(places, os.environ), replicas.identity(places)) as them:
        merged = Merged(them, selection)
        async for one in merged:
            unseen.discard(one["id"])
            write(one)
    sys.stdout.flush()
    refuse_gaps(selection, unseen, merged.silent)
    return 0


def refuse_gaps(selection: Selection, unseen: set[str], silent: list[Unanswered]) -> None:
    """Refusal when ids are not queued (1), or when something is missing from the answer (75).

    Of ids that were all found nothing is missing, whoever is silent; that is only noted.
    """
    if selection.ids and not selection.filters:
        refuse_unknown(unseen, silent)
        sys.stderr.write("".join(f"seapost: note: {error}\n" for error in silent))
    else:
        refuse_silent(silent)


def refuse_silent(silent: list[Unanswered]) -> None:
    """Refusal (75) when a replica did not answer."""
    if silent:
        said = "\n".join(map(str, silent))
        raise Refusal(f"{said}\nwhat it holds is missing here: is it running? try `seapost status`", EXIT_TEMPORARY)


def refuse_unknown(unseen: set[str], silent: list[Unanswered]) -> None:
    """Refusal when ids are not queued: 1 when every replica says so, else 75."""
    if not unseen:
        return
    said = "\n".join(f"{message} is not in the queue: `seapost trace {message}` says why" for message in sorted(unseen))
    if silent:
        raise Refusal("\n".join([said, *map(str, silent), "it may be there"]), EXIT_TEMPORARY)
    raise Refusal(said, EXIT_FAILED)


def _text(one: Queued) -> None:
    sys.stdout.write("\n".join(queued.lines(one)) + "\n")


def _json(one: Queued) -> None:
    sys.stdout.write(escape.json_line(one) + "\n")
