"""`make nemesis`: 20,000 messages of 4 KiB over 20 connections with the queue killed ten times, and the reckoning.

For a look by hand, with numbers to choose; it starts a stack of its own and removes nothing when a promise was broken.
Exit status 0 when every reply was true, 1 otherwise.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from runtime.clock import SystemClock
from tests.harness import ledger
from tests.harness.ledger import Found, Ledger, Round
from tests.harness.maildir import Parcel
from tests.harness.stack import MAIL_NAME, Stack, running

DEMO = f"demo@{MAIL_NAME}"
_WITHIN_S = 1_800.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--octets", type=int, default=4_096)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--victims", default="queue-0", help="who is killed in turn, such as queue-0,local-0,smtpd-0")
    parser.add_argument("--replicas", default="", help="as of `up`")
    chosen = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="nemesis-"))
    stack = Stack(directory / "state", environment={"TIME_SCALE": "0.01"}, replicas=chosen.replicas)
    with running(stack):
        kept = asyncio.run(_storm(stack, chosen))
        began = SystemClock().monotonic()
        stack.wait_idle(180)
        print(f"idle {SystemClock().monotonic() - began:.1f} s after the last reply")
    found = Found()
    found.look_into(stack.home("demo"), DEMO)
    broken = ledger.violations(kept, found)
    print(f"{kept.summary()}; {sum(found.delivered.values())} copies, {len(broken)} promises broken")
    if broken:
        print("\n".join(broken[:50]), f"the state is kept: {directory}", sep="\n", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


async def _storm(stack: Stack, chosen: argparse.Namespace) -> Ledger:
    clock, kept = SystemClock(), Ledger()
    parcels = [Parcel.of_octets(f"storm-{number}", chosen.octets) for number in range(chosen.messages)]
    what = Round(stack.ports["smtp"], parcels, (DEMO,), chosen.connections)
    victims = chosen.victims.split(",")
    began = clock.monotonic()
    async with asyncio.timeout(_WITHIN_S):
        sending = asyncio.create_task(ledger.send(what, kept))
        for number in range(chosen.kills):
            await kept.wait((number + 1) * chosen.messages // (chosen.kills + 1))
            victim, since = victims[number % len(victims)], stack.mark()
            await asyncio.to_thread(stack.kill, victim)
            await asyncio.to_thread(stack.wait_started, victim, since)
            print(f"{clock.monotonic() - began:6.1f} s: killed {victim} after {len(kept.entries)} replies", flush=True)
        await sending
    seconds = clock.monotonic() - began
    print(f"{len(kept.entries)} replies in {seconds:.1f} s, {len(kept.entries) / seconds:.0f} a second")
    return kept


if __name__ == "__main__":
    sys.exit(main())
