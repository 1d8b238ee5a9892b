"""What the caller may set by environment variables, all with defaults that keep the bench within three minutes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).resolve().parents[2] / "var/bench"
_WARM_UP_MAX = 200


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
        messages=count(environ, "BENCH_MESSAGES", 1_000, 100_000),
        rounds=count(environ, "BENCH_ROUNDS", 3, 50),
        seconds=count(environ, "BENCH_SECONDS", 150, 7_200),
        folder=folder(environ),
    )


def folder(environ: Mapping[str, str]) -> Path:
    """Where everything that is synced goes."""
    return Path(os.path.abspath(environ.get("BENCH_DIR") or _HERE))


def count(environ: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number from 1 to `most`; raises BadSetting."""
    value = environ.get(name) or str(default)
    if not value.isascii() or not value.isdecimal() or not 0 < int(value) <= most:
        raise BadSetting(f"environment variable {name}={value}: write a number from 1 to {most}")
    return int(value)
