"""What the caller may set by environment variables, all with defaults that keep the bench within three minutes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parents[2] / "var/bench"
_WARM_UP_MAX = 200
_MOST = {"BENCH_MESSAGES": 100_000, "BENCH_ROUNDS": 50, "BENCH_SECONDS": 7_200}


class BadSetting(Exception):
    """A variable has no possible value."""


@dataclass(frozen=True, slots=True)
class Settings:
    messages: int  # a run
    rounds: int  # at most
    seconds: int  # no round is begun that would probably end later
    folder: Path  # everything that is synced is in it

    @property
    def warm_up(self) -> int:
        """Messages into each system before the first round."""
        return min(self.messages, _WARM_UP_MAX)

    @property
    def cache(self) -> Path:
        return self.folder / "packages"


def read(environ: Mapping[str, str]) -> Settings:
    """The settings; raises BadSetting."""
    return Settings(
        messages=_count(environ, "BENCH_MESSAGES", 1_000),
        rounds=_count(environ, "BENCH_ROUNDS", 3),
        seconds=_count(environ, "BENCH_SECONDS", 150),
        folder=Path(os.path.abspath(environ.get("BENCH_DIR") or _HERE)),
    )


def _count(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name) or str(default)
    if not value.isascii() or not value.isdecimal() or not 0 < int(value) <= _MOST[name]:
        raise BadSetting(f"environment variable {name}={value}: write a number from 1 to {_MOST[name]}")
    return int(value)
