"""The trials of `make sabotage`: which are wanted, what came of each, and what is not as the list of survivors says."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from tests.sabotage.census import Kind, Sabotage
from tests.sabotage.workshop import Verdict, Workshop

_WIDTH = 110

# What `make test` asks about. All of it takes twice as long and more.
_DANGEROUS = frozenset({Kind.SYNC, Kind.RECHECK, Kind.LOCK, Kind.CHECKSUM, Kind.ORDER, Kind.RULE})


def is_wanted(one: Sabotage, words: list[str], all_of_them: bool) -> bool:
    if words:
        return any(word in one.key for word in words)
    return all_of_them or one.kind in _DANGEROUS


def verdicts_of(wanted: list[Sabotage], listed: Collection[str], parallel: int) -> Iterator[Verdict]:
    """In the order in which they come, from several workshops at once."""
    made = [Workshop()]
    workshops: Queue[Workshop] = Queue()
    try:
        footprints = made[0].first_run()
        made.extend(made[0].another() for _ in range(parallel - 1))
        for workshop in made:
            workshops.put(workshop)
        with ThreadPoolExecutor(parallel) as pool:

            def verdict(one: Sabotage) -> Verdict:
                workshop = workshops.get()
                try:
                    return workshop.try_out(one, footprints, one.key in listed)
                finally:
                    workshops.put(workshop)

            yield from pool.map(verdict, wanted)
    finally:
        for workshop in made:
            workshop.close()


def print_row(number: int, of: int, verdict: Verdict) -> None:
    one = verdict.sabotage
    what = f"{one.kind.value}: {one.what}"
    by = verdict.by.rpartition("/")[2] or (f"NOBODY of {verdict.asked}" if verdict.asked else "NOBODY runs it")
    print(
        f"{number:3}/{of} {verdict.seconds:5.1f} s  {one.path}:{one.line} {_cut(what)}\n             {by}", flush=True
    )


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def mistakes_of(verdicts: list[Verdict], listed: Collection[str], known: set[str]) -> list[str]:
    """What is not as the list of survivors says."""
    found = [
        f"nobody noticed, and not listed: {v.sabotage.key}"
        for v in verdicts
        if not v.by and v.sabotage.key not in listed
    ]
    found += [f"listed, but noticed by {v.by}: {v.sabotage.key}" for v in verdicts if v.by and v.sabotage.key in listed]
    found += [f"listed, but there is no such sabotage: {key}" for key in listed if key not in known]
    return found
