"""What the caller may set by environment variables; the defaults are those of the promises in ARCHITECTURE.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench import settings

# Bodies above this are none of what a queue has a million of, and would make frames of a few messages.
_BODY_MAX_OCTETS = 65_536


@dataclass(frozen=True, slots=True)
class Settings:
    queued: int  # messages that wait in a large backlog
    octets: int  # of a message's body
    messages: int  # accepted, or delivered, in one round
    rounds: int
    folder: Path  # everything that is synced is in it


def read(environ: Mapping[str, str]) -> Settings:
    """The settings; raises BadSetting."""
    return Settings(
        queued=settings.count(environ, "BENCH_QUEUED", 1_000_000, 10_000_000),
        octets=settings.count(environ, "BENCH_OCTETS", 1_024, _BODY_MAX_OCTETS),
        messages=settings.count(environ, "BENCH_MESSAGES", 5_000, 100_000),
        rounds=settings.count(environ, "BENCH_ROUNDS", 5, 50),
        folder=settings.folder(environ),
    )
