"""`queue retry | hold | release | remove`: what would be done is shown and asked for; then just that is done.

One id is an order. More than one, or filters, are a question: on a terminal it is asked, a script says --yes. Between
the question and the deed mail goes on: a message that has ended since, or is in another state than the filter named, is
left alone; one that came since is not touched.
"""

import asyncio
import os
import pwd
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cli import admin, escape, queued, replicas
from cli.admin import CHANGED_MAX, Action, Changed, Order, Replica, Unanswered
from cli.listing import Merged, refuse_gaps, refuse_silent
from cli.places import Places
from cli.queued import AWAY, Queued
from cli.refusal import EXIT_FAILED, EXIT_TEMPORARY, EXIT_USAGE, Refusal
from cli.selection import Selection

# So many of the messages are shown before the question.
_SHOWN_MAX = 10
_ID_CHARACTERS = 26

_PAST = {
    Action.RETRY: "made due",
    Action.HOLD: "held",
    Action.RELEASE: "released",
    Action.REMOVE: "removed",
}
_TWICE = "what may be under way at a worker that is away may be delivered twice (window W7)"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line says."""

    action: Action
    selection: Selection
    yes: bool = False
    dry_run: bool = False
    force: bool = False
    as_json: bool = False


@dataclass(slots=True)
class Picked:
    """The messages that an action is for: a million ids are 26 MB."""

    octets: int = 0
    states: Counter[str] = field(default_factory=Counter)
    away: int = 0  # messages of which a delivery may be under way at a worker that is away
    first: list[Queued] = field(default_factory=list)
    _ids: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self._ids) // _ID_CHARACTERS

    def add(self, one: Queued) -> None:
        self._ids += one["id"].encode("ascii")
        self.octets += one["size"]
        self.states.update(recipient["state"] for recipient in one["recipients"])
        self.away += any(recipient["reason"] == AWAY for recipient in one["recipients"])
        if len(self.first) < _SHOWN_MAX:
            self.first.append(one)

    def batches(self) -> Iterator[list[str]]:
        """The ids, as many together as go with one order."""
        for start in range(0, len(self._ids), _ID_CHARACTERS * CHANGED_MAX):
            text = self._ids[start : start + _ID_CHARACTERS * CHANGED_MAX].decode("ascii")
            yield [text[at : at + _ID_CHARACTERS] for at in range(0, len(text), _ID_CHARACTERS)]


@dataclass(slots=True)
class Tally:
    """What became of it."""

    results: Counter[str] = field(default_factory=Counter)
    silent: dict[str, Unanswered] = field(default_factory=dict)


def run(places: Places, wish: Wish, environ: Mapping[str, str]) -> int:
    """Does it. Refusal when something was left undone: 1; when the question was answered no: 1; when it could not be
    asked: 2; when a replica did not answer: 75."""
    return asyncio.run(_run(places, wish, environ))


async def _run(places: Places, wish: Wish, environ: Mapping[str, str]) -> int:
    async with admin.replicas(await replicas.find(places, environ), replicas.identity(places)) as them:
        picked, silent = await _pick(them, wish.selection)
        if not picked:
            refuse_silent(silent)
            _note("no message matches: nothing to do")
            return 0
        if wish.dry_run:
            _show(preview(wish, picked, silent))
            return 0
        if _is_question(wish, picked):
            _show(preview(wish, picked, silent))
            _ask(wish, picked)
        order = Order(wish.action, who(environ), wish.selection.still(), wish.force)
        tally = Tally(silent={str(error): error for error in silent})
        for ids in picked.batches():
            for changed in await _change(them, order, ids, tally):
                tally.results[changed.result] += 1
                _tell(wish, changed)
    return _end(wish, tally)


async def _pick(them: list[Replica], selection: Selection) -> tuple[Picked, list[Unanswered]]:
    """Every message that matches; Refusal when one of several ids is unknown, before anything is done."""
    picked = Picked()
    unseen = set(selection.ids)
    merged = Merged(them, selection)
    async for one in merged:
        unseen.discard(one["id"])
        picked.add(one)
    if selection.ids and not selection.filters:
        refuse_gaps(selection, unseen, merged.silent)
        return picked, []
    return picked, merged.silent


def _is_question(wish: Wish, picked: Picked) -> bool:
    is_bulk = wish.selection.filters or len(wish.selection.ids) != 1
    return not wish.yes and (is_bulk or (wish.force and picked.away > 0))


def preview(wish: Wish, picked: Picked, silent: list[Unanswered]) -> list[str]:
    """What would be done."""
    states = ", ".join(f"{state} {picked.states[state]}" for state in queued.STATES if picked.states[state])
    shown = [
        f"{wish.action.value}: {_messages(len(picked))}, {picked.octets} octets; recipients: {states}",
        *(f"  {queued.head(one)}" + "".join(f" {_to(one)}") for one in picked.first),
    ]
    if len(picked) > len(picked.first):
        shown.append(f"  and {len(picked) - len(picked.first)} more")
    if wish.action is Action.REMOVE:
        shown.append("They end without a bounce, for ever; one that is being delivered is left alone.")
    if wish.action is Action.RETRY and picked.away:
        what = _TWICE if wish.force else "is left alone: --force tries it too"
        shown.append(f"{picked.away} of them wait for a worker that may be at work on them: {what}.")
    return [*shown, *(f"{error}: what it holds is not among these" for error in silent)]


def _to(one: Queued) -> str:
    first, *more = (escape.plain(recipient["address"]) for recipient in one["recipients"])
    return f"to {first}" + (f" and {len(more)} more" if more else "")


def _ask(wish: Wish, picked: Picked) -> None:
    """Returns when the answer is yes."""
    if not sys.stdin.isatty():
        raise Refusal(
            f"{wish.action.value} is for {_messages(len(picked))}, and nobody is here to be asked: "
            "nothing was done: say --yes",
            EXIT_USAGE,
        )
    sys.stderr.write(f"{wish.action.value} {_messages(len(picked))}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refusal("nothing was done", EXIT_FAILED)


async def _change(them: list[Replica], order: Order, ids: list[str], tally: Tally) -> list[Changed]:
    """What every replica did with its own of the ids; those that nobody has any more are `gone`."""
    answers = await asyncio.gather(*(replica.change(order, ids) for replica in them), return_exceptions=True)
    found: dict[str, Changed] = {}
    silent: list[Unanswered] = []
    for answer in answers:
        if isinstance(answer, Unanswered):
            silent.append(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found |= {changed.id: changed for changed in answer}
    missing = "unknown" if silent else "gone"
    text = "its replica does not answer" if silent else "it has ended or changed meanwhile"
    if len(found) < len(ids):
        tally.silent |= {str(error): error for error in silent}
    return [found.get(message) or Changed(message, missing, text) for message in ids]


def _tell(wish: Wish, changed: Changed) -> None:
    if wish.as_json:
        value = {"id": changed.id, "action": wish.action.value, "result": changed.result, "text": changed.text}
        sys.stdout.write(escape.json_line(value) + "\n")
    elif changed.text:
        sys.stdout.write(f"{changed.id}: {escape.plain(changed.text)}\n")


def _end(wish: Wish, tally: Tally) -> int:
    results = tally.results
    if not wish.as_json and results["done"]:
        sys.stdout.write(f"{_PAST[wish.action]} {_messages(results['done'])}\n")
    sys.stdout.flush()
    refuse_silent(list(tally.silent.values()))
    if results["unknown"]:
        raise Refusal(f"of {_messages(results['unknown'])} it is unknown: ask again", EXIT_TEMPORARY)
    single = len(wish.selection.ids) == 1 and not wish.selection.filters
    if undone := results["refused"] + (results["gone"] if single else 0):
        raise Refusal(f"not {_PAST[wish.action]}: {_messages(undone)}", EXIT_FAILED)
    return 0


def who(environ: Mapping[str, str]) -> str:
    """Who gives the order, for the log: the user, and behind sudo the one before it."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    before = environ.get("SUDO_USER", "")
    return f"{before} as {name}" if before and before != name else name


def _messages(count: int) -> str:
    return f"{count} message" if count == 1 else f"{count} messages"


def _show(lines: list[str]) -> None:
    sys.stderr.write("\n".join(lines) + "\n")


def _note(text: str) -> None:
    sys.stderr.write(f"seapost: {text}\n")
