"""Configuration: a frozen dataclass read once from the environment, refused early, with every mistake at once.

A service declares its fields with `setting`; `load` reads them. A mistake names the variable, its value and the fix.
Exit status 78 (EX_CONFIG of sysexits(3)) is given by runtime/serve.py.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

# The name in every certificate of ours: addresses change, the CA and the role in the common name do not.
SERVER_NAME = "seapost.internal"

# An instance's name is part of file names, in the spool and in EVENTS_DIR: no dot, no slash, and short.
INSTANCE_MAX_CHARACTERS = 64
_INSTANCE = re.compile(rf"[A-Za-z0-9_-]{{1,{INSTANCE_MAX_CHARACTERS}}}")

EXIT_CONFIG = 78
EXIT_IO = 74
EXIT_TEMPORARY = 75

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration is wrong. `mistakes` holds a line for each thing to mend."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port to bind or to call."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def text(value: str) -> str:
    return value


def integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not value.isdecimal() or not low <= int(value) <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return int(value)

    return parse


port = integer(0, 65_535)


def instance_name(value: str) -> str:
    if value and not _INSTANCE.fullmatch(value):
        raise ValueError(f"is not a name of at most {INSTANCE_MAX_CHARACTERS} letters, digits, - and _")
    return value


def instance_of(role: str, host: str) -> str:
    """The name of an instance that was given none: role and host, with what cannot stand in a file's name replaced."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{role}-{host}")[-INSTANCE_MAX_CHARACTERS:]


def number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            found = float(value)
        except ValueError:
            found = float("nan")
        if not low <= found <= high:
            raise ValueError(f"is not a number from {low:g} to {high:g}")
        return found

    return parse


def flag(value: str) -> bool:
    if value not in ("0", "1", ""):
        raise ValueError("is not 0 or 1")
    return value == "1"


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"is not one of {', '.join(allowed)}")
        return value

    return parse


def address(value: str) -> Address:
    host, colon, digits = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not digits.isdecimal() or int(digits) > 65_535:
        raise ValueError("is not host:port")
    return Address(host, int(digits))


def addresses(value: str) -> tuple[Address, ...]:
    return tuple(address(one.strip()) for one in value.split(",") if one.strip())


def redis_url(value: str) -> str:
    """Where a Redis server is, in the words of redis-py; "" for none."""
    try:
        parts = urlsplit(value)
        whole = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = None
    if value and not (whole and parts.scheme in ("redis", "rediss")) and not value.startswith("unix:///"):
        raise ValueError("is not redis://host:port/number (or rediss://, unix:///path)")
    return value


def setting(name: str, parse: Callable[[str], T], default: str | None = None) -> T:
    """A field read from the variable `name`; without a default it is required."""
    return dataclasses.field(metadata={"name": name, "parse": parse, "default": default})  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """What every service is told."""

    instance: str = setting("INSTANCE", instance_name, "")
    control_dir: str = setting("CONTROL_DIR", text, "var/control")
    tls_dir: str = setting("TLS_DIR", text, "var/tls")
    events_dir: str = setting("EVENTS_DIR", text, "")
    events_keep_days: int = setting("EVENTS_KEEP_DAYS", integer(1, 3_650), "14")
    log_format: str = setting("LOG_FORMAT", choice("qmail", "json"), "qmail")
    rpc_bind: Address = setting("RPC_BIND", address, "127.0.0.1:0")
    http_bind: Address = setting("HTTP_BIND", address, "127.0.0.1:0")
    time_scale: float = setting("TIME_SCALE", number(0.000_01, 1_000), "1")


C = TypeVar("C")


def load(kind: type[C], environ: Mapping[str, str]) -> C:
    """The configuration of one service; raises ConfigError with every mistake in it."""
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name, parse, default = (field.metadata[key] for key in ("name", "parse", "default"))
        raw = environ.get(name, default)
        if raw is None:
            mistakes.append(f"environment variable {name} is not set: set it (see the service's README.md)")
            continue
        try:
            values[field.name] = parse(raw)
        except ValueError as mistake:
            shown = raw if len(raw) <= 60 else raw[:60] + "…"
            hint = f", for example {name}={default}" if default else ""
            mistakes.append(f"environment variable {name}={shown!r} {mistake}: set it right{hint}")
    if mistakes:
        raise ConfigError(mistakes)
    return kind(**values)
