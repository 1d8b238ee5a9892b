"""Where a stack's directories are: below one state directory, or each where the environment says (in containers).

Knows names of directories and of the variables that move them; reads and makes nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT_STATE = os.path.join(CHECKOUT, "var")

# The variable that moves a directory, as the services know it.
_VARIABLES = {
    "control": "CONTROL_DIR",
    "alias": "ALIAS_DIR",
    "users": "USERS_DIR",
    "accounts": "ACCOUNTS_DIR",
    "homes": "HOMES_DIR",
    "spool": "SPOOL_DIR",
    "tls": "TLS_DIR",
}


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of one stack, absolute."""

    state: str
    control: str
    alias: str
    users: str
    accounts: str
    homes: str
    spool: str
    tls: str

    @property
    def log(self) -> str:
        return os.path.join(self.state, "log")

    @property
    def events(self) -> str:
        """A directory for each service below it holds that service's event files."""
        return os.path.join(self.log, "events")

    @property
    def run(self) -> str:
        return os.path.join(self.state, "run")

    @property
    def demo_password(self) -> str:
        return os.path.join(self.state, "demo.password")

    def directory(self, name: str) -> str:
        """The directory that the table of services calls `name`, such as "tls" or "log/events/queue"."""
        found = getattr(self, name, None)
        return found if isinstance(found, str) else os.path.join(self.state, name)


def find(option: str | None, environ: Mapping[str, str]) -> Places:
    """`--state DIR` has everything below DIR; without it SEAPOST_STATE, and each directory's own variable if set."""
    state = os.path.abspath(option or environ.get("SEAPOST_STATE") or DEFAULT_STATE)
    moved = {} if option else environ
    return Places(
        state=state,
        **{
            name: os.path.abspath(moved.get(variable) or os.path.join(state, name))
            for name, variable in _VARIABLES.items()
        },
    )
