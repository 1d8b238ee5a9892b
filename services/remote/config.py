"""What remote is told: its environment and its control files."""

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.config import Address, ConfigError, ServiceConfig, addresses, port, setting
from runtime.controls import Controls
from services.remote.nets import Network, networks

# qmail's conf-spawn allows 255 at most by default; more slots than this want another replica, not another socket.
SLOTS_MAX = 500


@dataclass(frozen=True, kw_only=True)
class RemoteConfig(ServiceConfig):
    """The environment of the service; README.md says what each means."""

    queue_addrs: tuple[Address, ...] = setting("QUEUE_ADDRS", addresses)
    dns_servers: tuple[Address, ...] = setting("DNS_SERVERS", addresses, "")
    smtp_port: int = setting("REMOTE_SMTP_PORT", port, "25")
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
        me = controls.me()
        helohost = controls.line("helohost", me)
        if not helohost.isascii() or not helohost.isprintable() or " " in helohost:
            raise ConfigError([f"control/helohost: {helohost[:60]!r} is no host name: write this host's name"])
        return cls(
            me=me.lower(),
            helohost=helohost,
            smtproutes=controls.mapping("smtproutes"),
            timeoutconnect_s=controls.integer("timeoutconnect", 60),
            timeoutremote_s=controls.integer("timeoutremote", 1_200),
            concurrencyremote=min(controls.integer("concurrencyremote", 20), SLOTS_MAX),
        )
