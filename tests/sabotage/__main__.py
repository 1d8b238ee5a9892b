"""`make sabotage`: takes what keeps mail away, one thing at a time, and prints who noticed.

By itself the dangerous ones: syncs, re-checks, locks, checksums, orders, rules; ALL=1 takes guards, limits, flags and
calls as well. Words (ARGS="log.py re-check") choose those whose key has one of them. Exit status 0 when every sabotage
was noticed but those in survivors.txt, 1 otherwise.
"""

import argparse
import signal
import sys

from runtime.clock import SystemClock
from tests.sabotage import rules, survivors
from tests.sabotage.census import SUBJECTS, census
from tests.sabotage.trial import is_wanted, mistakes_of, print_row, verdicts_of


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
    wanted = [one for one in everything if is_wanted(one, chosen.words, chosen.all)]
    verdicts = []
    listed = survivors.read()
    for verdict in verdicts_of(wanted, listed, chosen.parallel):
        verdicts.append(verdict)
        print_row(len(verdicts), len(wanted), verdict)
    mistakes += mistakes_of(verdicts, listed, {one.key for one in everything})
    noticed = sum(bool(verdict.by) for verdict in verdicts)
    seconds = clock.monotonic() - began
    print(f"\n{len(verdicts)} sabotages, {noticed} noticed, {len(verdicts) - noticed} not, in {seconds:.0f} s")
    print(*mistakes, sep="\n", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
