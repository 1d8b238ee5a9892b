"""`make sim`: histories by number or by time, one of them again with its trace, or the work of one job."""

import argparse
import os
import sys
import tempfile

from tests.sim import campaign
from tests.sim.run import tell, write_controls


def main() -> int:
    if sys.argv[1:2] == ["job"]:
        first, step, seeds, seconds = sys.argv[2:]
        campaign.run_job(int(first), int(step), int(seeds), float(seconds))
        return 0
    words = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    words.add_argument("--first", type=int, default=1, help="the first seed")
    words.add_argument("--seeds", type=int, default=0, help="how many histories")
    words.add_argument("--seconds", type=float, default=60, help="for how long, when no number is given")
    words.add_argument("--stop-at", type=int, default=0, help="failures after which it is enough")
    words.add_argument("--replay", type=int, help="tells one seed again and writes its trace to standard output")
    asked = words.parse_args()
    if asked.replay is not None:
        return replay(asked.replay)
    summary = campaign.run(campaign.Order(asked.first, asked.seeds, asked.seconds, stop_at=asked.stop_at))
    print(campaign.report(summary))
    return 1 if summary.wrong else 0


def replay(seed: int) -> int:
    """The trace of one seed, and what is wrong with it on standard error."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.sim", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"}
        )
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as controls:
        write_controls(controls)
        tale = tell(seed, controls, with_trace=True)
    print("\n".join(tale.trace))
    print(f"digest {tale.digest}", *tale.wrong, sep="\n", file=sys.stderr)
    return 1 if tale.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
