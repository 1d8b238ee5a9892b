"""A child that publishes into a Maildir as services/local does it: one batch, and what became of it, to the journal."""

import os

from runtime.clock import SystemChance, SystemClock
from runtime.durable import Disk
from services.local.publish import Copy, Publisher
from tests.harness.brood import Gate, Journal

CARRIER = "tests.harness.carrier"
HEAD, BODY = b"Head: x\n", b"body\n" * 800


def publish(journal: Journal, gate: Gate, maildir: str, names: list[str]) -> int:
    """Publishes these; says of each what its trouble was."""
    copies = [Copy(name, HEAD, memoryview(BODY)) for name in names]
    publisher = Publisher(Disk(), SystemClock(), SystemChance())
    gate("publish")
    descriptors = len(os.listdir("/proc/self/fd"))
    publisher.publish(maildir, copies, make=True)
    for copy in copies:
        journal.say("published", copy.name, copy.trouble)
    journal.say("descriptors", "", len(os.listdir("/proc/self/fd")) - descriptors)
    return 0
