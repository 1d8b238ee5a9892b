"""What pop3 is told by its environment. Imports nothing heavy: it is read before the spawner is forked."""

from dataclasses import dataclass

from runtime.config import Address, ServiceConfig, address, integer, setting, text

_UID_MAX = 0xFFFF_FFFE


def optional_uid(value: str) -> int | None:
    """A uid to take, never root's; empty says that the process stays who it is."""
    return integer(1, _UID_MAX)(value) if value else None


@dataclass(frozen=True, kw_only=True)
class Pop3Config(ServiceConfig):
    """Where to listen, where the accounts and homes are, and who the front becomes."""

    pop3_bind: Address = setting("POP3_BIND", address, "127.0.0.1:2110")
    accounts_dir: str = setting("ACCOUNTS_DIR", text, "var/accounts")
    homes_dir: str = setting("HOMES_DIR", text, "var/homes")
    front_uid: int | None = setting("FRONT_UID", optional_uid, "")
