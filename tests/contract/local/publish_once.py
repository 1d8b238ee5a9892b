"""Publishes a batch into the Maildir named by the first argument, in a process that may be told to die (CRASH_AT)."""

import sys

from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from services.local.publish import Copy, Publisher


def main(path: str, count: int) -> None:
    body = memoryview(b"body\n" * 800)
    copies = [Copy(f"1700000000.Q{number}R0I0.c", b"Head: x\n", body) for number in range(count)]
    Publisher(Disk(), SystemClock(), SystemChance()).publish(path, copies, make=True)
    troubles = {copy.trouble for copy in copies if copy.trouble}
    assert not troubles, troubles


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
