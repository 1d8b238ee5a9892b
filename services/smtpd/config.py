"""What smtpd is told by its environment. What the admin decides about mail is in the control files (controls.py)."""

from dataclasses import dataclass

from runtime.config import Address, ServiceConfig, address, addresses, setting


@dataclass(frozen=True, kw_only=True)
class SmtpdConfig(ServiceConfig):
    """Where to listen, where the queue is, who keeps the accounts."""

    smtp_bind: Address = setting("SMTP_BIND", address, "127.0.0.1:2525")
    queue_addrs: tuple[Address, ...] = setting("QUEUE_ADDRS", addresses)
    local_addrs: tuple[Address, ...] = setting("LOCAL_ADDRS", addresses)
