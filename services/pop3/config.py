"""What pop3 is told by its environment. Imports nothing heavy: it is read before the spawner is forked."""

from dataclasses import dataclass

from runtime.accounts import Places
from runtime.config import Address, address, integer, setting, text
from runtime.fronted import FrontedConfig

_UID_MAX = 0xFFFF_FFFE - 1  # (uid_t) -1 and the one before it mean something else to the kernel


def optional_uid(value: str) -> int | None:
    """A uid to take, never root's; empty says that the process stays who it is."""
    return integer(1, _UID_MAX)(value) if value else None


@dataclass(frozen=True, kw_only=True)
class Pop3Config(FrontedConfig):
    """Where to listen, where the accounts and homes are, and who the front becomes."""

    pop3_bind: Address = setting("POP3_BIND", address, "127.0.0.1:2110")
    accounts_dir: str = setting("ACCOUNTS_DIR", text, "var/accounts")
    homes_dir: str = setting("HOMES_DIR", text, "var/homes")
    front_uid: int | None = setting("FRONT_UID", optional_uid, "")

    def places(self) -> Places:
        return Places.here(self.accounts_dir, self.homes_dir)
