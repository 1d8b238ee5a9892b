"""What local is told by its environment, and what it reads from the control directory."""

import os
from collections.abc import Callable
from dataclasses import dataclass

from mail.routing import RoutingTable
from runtime.accounts import Places
from runtime.config import Address, ConfigError, addresses, integer, setting, text
from runtime.controls import Controls, read_all
from runtime.fronted import FrontedConfig
from services.local import limits
from services.local.limits import ProgramLimits

# qmail's default. A slot is a place in a batch here, not a process: a machine with fast disks gains from more.
CONCURRENCY_LOCAL = 10
DEFAULT_DELIVERY = "./Maildir/"
_UID_MAX = 0xFFFF_FFFE - 1


def optional_uid(value: str) -> int | None:
    """A uid, or "" for none."""
    return integer(1, _UID_MAX)(value) if value else None


@dataclass(frozen=True, kw_only=True)
class LocalConfig(FrontedConfig):
    """The environment of local."""

    queues: tuple[Address, ...] = setting("QUEUE_ADDRS", addresses)
    accounts_dir: str = setting("ACCOUNTS_DIR", text, "var/accounts")
    alias_dir: str = setting("ALIAS_DIR", text, "var/alias")
    users_dir: str = setting("USERS_DIR", text, "var/users")
    homes_dir: str = setting("HOMES_DIR", text, "var/homes")
    submit_dir: str = setting("SUBMIT_DIR", text, "")
    alias_uid: int = setting("ALIAS_UID", integer(1, _UID_MAX), "7790")
    front_uid: int | None = setting("FRONT_UID", optional_uid, "")

    def underway_path(self) -> str:
        """Where the front notes what it has begun and cannot do exactly once; "" for nowhere. It writes in no other
        directory."""
        return os.path.join(self.events_dir, f"{self.instance}.underway") if self.events_dir else ""

    def places(self) -> Places:
        return Places.here(self.accounts_dir, self.homes_dir, self.alias_dir, self.alias_uid, self.users_dir)


class Rules:
    """The control files that local obeys."""

    routing: RoutingTable
    default_delivery: str
    concurrency: int
    limits: ProgramLimits

    def __init__(self, directory: str) -> None:
        self._controls = Controls(directory)
        self.reread()

    def reread(self) -> None:
        """locals, virtualdomains, percenthack, envnoathost, defaultdelivery, concurrencylocal, softlimit,
        timeoutprogram, outputbytes, or ConfigError."""
        controls = self._controls
        read_all(
            controls.routing,
            lambda: controls.text("defaultdelivery"),
            lambda: controls.integer("concurrencylocal", CONCURRENCY_LOCAL),
            lambda: limits.read(controls),
        )
        self.routing = controls.routing()
        self.limits = limits.read(controls)
        # Lines, as qmail-start's argument may be; an empty file is none.
        self.default_delivery = (controls.text("defaultdelivery") or "").strip("\n") or DEFAULT_DELIVERY
        # Read at the start only, like qmail's: the slots are with the queue by now.
        self.concurrency = max(1, controls.integer("concurrencylocal", CONCURRENCY_LOCAL))

    def reread_or(self, alert: Callable[[str], None]) -> None:
        """Rereads at SIGHUP; a mistake is said by `alert` and leaves the old rules standing."""
        try:
            self.reread()
        except ConfigError as error:
            for mistake in error.mistakes:
                alert(f"unable to reread controls: {mistake}")
