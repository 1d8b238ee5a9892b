"""A user's program that swaps a name for a link and back, as fast as it can, until its input ends.

    python -m tests.harness.swapper NAME TARGET…

NAME is in turn what it is and a link to each TARGET, and there all the time (renameat2(2)). Says how often, at the end.
"""

import ctypes
import os
import select
import sys
from itertools import cycle

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(one: str, other: str) -> None:
    """Each gets the other's name, at once."""
    if _libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        raise OSError(ctypes.get_errno(), one)


def main(name: str, targets: list[str]) -> None:
    link, times = f"{name}.link", 0
    for target in cycle(targets):
        if select.select([0], [], [], 0)[0]:
            break
        os.symlink(target, link)
        exchange(name, link)
        exchange(name, link)
        os.unlink(link)
        times += 1
    print(times)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
