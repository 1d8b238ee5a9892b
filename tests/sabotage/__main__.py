"""`make sabotage`: takes what keeps mail away, one thing at a time, and prints who noticed.

By itself the dangerous ones: syncs, re-checks, locks, checksums, orders, rules; ALL=1 takes guards, limits, flags and
calls as well. Words (ARGS="log.py re-check") choose those whose key has one of them. Exit status 0 when every sabotage
was noticed but those in survivors.txt, 1 otherwise.
"""

import argparse
import signal
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

from runtime.clock import SystemClock
from tests.sabotage import rules, survivors
from tests.sabotage.census import SUBJECTS, Kind, Sabotage, census
from tests.sabotage.workshop import Verdict, Workshop

_WIDTH = 110

# What `make test` asks about. All of it takes twice as long and more.
_DANGEROUS = frozenset({Kind.SYNC, Kind.RECHECK, Kind.LOCK, Kind.CHECKSUM, Kind.ORDER, Kind.RULE})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only sabotages whose key has one of these in it")
    parser.add_argument("--all", action="store_true", help="also those that seldom lose mail by themselves")
    parser.add_argument("--parallel", type=int, default=2)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the copies and what runs in them go with us
    clock = SystemClock()
    began = clock.monotonic()
    by_hand, mistakes = rules.sabotages()
    everything = [*by_hand, *(one for path in SUBJECTS for one in census(path))]
    wanted = [one for one in everything if _is_wanted(one, chosen.words, chosen.all)]
    verdicts = []
    listed = survivors.read()
    for verdict in _verdicts(wanted, listed, chosen.parallel):
        verdicts.append(verdict)
        _print_row(len(verdicts), len(wanted), verdict)
    mistakes += _mistakes(verdicts, listed, {one.key for one in everything})
    noticed = sum(bool(verdict.by) for verdict in verdicts)
    seconds = clock.monotonic() - began
    print(f"\n{len(verdicts)} sabotages, {noticed} noticed, {len(verdicts) - noticed} not, in {seconds:.0f} s")
    print(*mistakes, sep="\n", file=sys.stderr)
    return 1 if mistakes else 0


def _is_wanted(one: Sabotage, words: list[str], all_of_them: bool) -> bool:
    if words:
        return any(word in one.key for word in words)
    return all_of_them or one.kind in _DANGEROUS


def _verdicts(wanted: list[Sabotage], listed: Collection[str], parallel: int) -> Iterator[Verdict]:
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


def _print_row(number: int, of: int, verdict: Verdict) -> None:
    one = verdict.sabotage
    what = f"{one.kind.value}: {one.what}"
    by = verdict.by.rpartition("/")[2] or (f"NOBODY of {verdict.asked}" if verdict.asked else "NOBODY runs it")
    print(
        f"{number:3}/{of} {verdict.seconds:5.1f} s  {one.path}:{one.line} {_cut(what)}\n             {by}", flush=True
    )


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


def _mistakes(verdicts: list[Verdict], listed: Collection[str], known: set[str]) -> list[str]:
    """What is not as the list of survivors says."""
    found = [
        f"nobody noticed, and not listed: {v.sabotage.key}"
        for v in verdicts
        if not v.by and v.sabotage.key not in listed
    ]
    found += [f"listed, but noticed by {v.by}: {v.sabotage.key}" for v in verdicts if v.by and v.sabotage.key in listed]
    found += [f"listed, but there is no such sabotage: {key}" for key in listed if key not in known]
    return found


if __name__ == "__main__":
    sys.exit(main())
