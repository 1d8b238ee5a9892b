"""A child that appends to an mbox as services/local does it: one batch, and what became of it, to the journal."""

import os

from runtime.clock import SystemClock
from runtime.durable import Disk
from services.local.mbox import Appender, Entry
from tests.harness.brood import Gate, Journal

SCRIBE = "tests.harness.scribe"
FROM, HEAD = b"From joe@far.example Sun Nov 22 12:36:30 2026\n", b"Return-Path: <joe@far.example>\n"


def text(name: str) -> bytes:
    return f"Received: {name}\n\n".encode() + b"body\n" * 800


def stands(name: str) -> bytes:
    return FROM + HEAD + text(name) + b"\n"


def append(journal: Journal, gate: Gate, path: str, names: list[str]) -> int:
    """Appends these; says of each what its trouble was."""
    entries = [Entry(FROM, HEAD, text(name)) for name in names]
    appender = Appender(Disk(), SystemClock())
    gate("append")
    descriptors = len(os.listdir("/proc/self/fd"))
    appender.append(path, entries)
    for name, entry in zip(names, entries, strict=True):
        journal.say("appended", name, entry.trouble)
    journal.say("descriptors", "", len(os.listdir("/proc/self/fd")) - descriptors)
    return 0
