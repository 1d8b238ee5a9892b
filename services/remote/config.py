"""What remote is told: its environment and its control files."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.config import Address, ConfigError, ServiceConfig, addresses, integer, setting
from runtime.controls import Controls, read_all
from services.remote.nets import Network, networks

# qmail's conf-spawn allows 255 at most by default; more slots than this want another replica, not another socket.
SLOTS_MAX = 500


@dataclass(frozen=True, kw_only=True)
class RemoteConfig(ServiceConfig):
    """The environment of the service; README.md says what each means."""

    queue_addrs: tuple[Address, ...] = setting("QUEUE_ADDRS", addresses)
    dns_servers: tuple[Address, ...] = setting("DNS_SERVERS", addresses, "")
    smtp_port: int = setting("REMOTE_SMTP_PORT", integer(1, 65_535), "25")
    allow_nets: tuple[Network, ...] = setting("REMOTE_ALLOW_NETS", networks, "")


@dataclass(frozen=True, slots=True)
class RemoteControls:
    """The control files that qmail-remote(8) and qmail-send(8) read for remote deliveries."""

    me: str
    helohost: str
    smtproutes: Mapping[str, str]
    timeoutconnect_s: int
    timeoutremote_s: int
    concurrencyremote: int

    @classmethod
    def read(cls, controls: Controls) -> "RemoteControls":
        """Reads them all; raises ConfigError. Each is optional but `me`, with qmail's default."""
        numbers = {"timeoutconnect": 60, "timeoutremote": 1_200, "concurrencyremote": 20}
        read_all(
            controls.me,
            lambda: _helohost(controls),
            lambda: controls.mapping("smtproutes"),
            *(lambda name=name: controls.integer(name, numbers[name]) for name in numbers),
        )
        found = {name: controls.integer(name, default) for name, default in numbers.items()}
        return cls(
            me=controls.me().lower(),
            helohost=_helohost(controls),
            smtproutes=controls.mapping("smtproutes"),
            timeoutconnect_s=found["timeoutconnect"],
            timeoutremote_s=found["timeoutremote"],
            concurrencyremote=min(found["concurrencyremote"], SLOTS_MAX),
        )


def _helohost(controls: Controls) -> str:
    name = controls.line("helohost", controls.line("me", ""))
    if not name.isascii() or not name.isprintable() or " " in name:
        raise ConfigError([f"control/helohost: {name[:60]!r} is no host name: write this host's name"])
    return name
