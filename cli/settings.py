"""What the user may set for `up`, read once and refused early with every mistake at once.

What a service alone understands is left to the service, whose refusal ends `up` as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cli import ports
from cli.topology import BY_NAME, METRICS, SERVICES
from mail.hostname import is_host
from runtime.config import Address, ConfigError, choice, integer, load, number, port, redis_url, setting, text


def _host(value: str) -> str:
    if value and not is_host(value):
        raise ValueError("is not a host name")
    return value


@dataclass(frozen=True, kw_only=True)
class UpConfig:
    """The environment of `up`; ports of 0 are chosen free."""

    mail_name: str = setting("MAIL_NAME", _host, "")
    bind: str = setting("BIND", text, "127.0.0.1")
    smtp_port: int = setting("SMTP_PORT", port, "2525")
    pop3_port: int = setting("POP3_PORT", port, "2110")
    metrics_port: int = setting("METRICS_PORT", port, "9464")
    redis_url: str = setting("REDIS_URL", redis_url, "")
    log_format: str = setting("LOG_FORMAT", choice("qmail", "json"), "qmail")
    time_scale: float = setting("TIME_SCALE", number(0.000_01, 1_000), "1")
    events_keep_days: int = setting("EVENTS_KEEP_DAYS", integer(1, 3_650), "14")


def read(environ: Mapping[str, str]) -> UpConfig:
    """The settings; a variable set to nothing counts as not set. ConfigError has every mistake."""
    return load(UpConfig, {name: value for name, value in environ.items() if value})


def listen(config: UpConfig, replicas: Mapping[str, int], drops: bool, free: ports.Ports) -> dict[str, Address]:
    """Where each port to the world will be, by its name, all tried; ConfigError names those that cannot be had."""
    wanted = {"smtp": config.smtp_port, "pop3": config.pop3_port, METRICS.name: config.metrics_port}
    rows = [(service, port) for service in SERVICES for port in service.ports if replicas[service.name]]
    found: dict[str, Address] = {}
    mistakes: list[str] = []
    for service, row in [*rows, (None, METRICS)]:
        address = Address(config.bind, wanted[row.name])
        if address.port == 0:
            address = free.choose(config.bind)
        uid = service.uid if service and drops and not service.starts_as_root else None
        why = ports.why_not(address)
        if why is not None:
            mistakes.append(
                f"environment variable {row.variable}={address.port}: cannot listen at {address}: {why}: "
                f"stop what listens there, or set {row.variable} (or BIND)"
            )
        elif ports.cannot_bind_as(uid, address.port):
            mistakes.append(
                f"environment variable {row.variable}={address.port}: uid {uid} may not listen below "
                f"{ports.first_unprivileged()}: run `sysctl net.ipv4.ip_unprivileged_port_start={address.port}`"
            )
        found[row.name] = address
    if mistakes:
        raise ConfigError(mistakes)
    return found


def ready_line(where: Mapping[str, Address]) -> str:
    """`ready smtp=HOST:PORT …`: the ports that are served, in the table's order."""
    names = [port.name for name in ("smtpd", "pop3") for port in BY_NAME[name].ports] + [METRICS.name]
    return " ".join(["ready", *(f"{name}={where[name]}" for name in names if name in where)])
