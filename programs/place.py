"""Where a program finds the control files and local's sockets: what the environment says, else the usual places.

Reads names of directories and nothing in them. A program that local runs is told both by its environment; one that
somebody calls by hand looks where `bin/seapost up` and docker-compose.yml put them.
"""

import os
from collections.abc import Iterator

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

_IN_CONTAINER = "/state"
_ON_HOST = "/run/seapost"
_COPIES = ".control"  # services/local/door.py


def control() -> str:
    """$SEAPOST_CONTROL, or `control` in $SEAPOST_STATE, in a container's /state, or in the checkout's var/; where none
    of them is, the copies that local keeps beside its sockets."""
    named = os.environ.get("SEAPOST_CONTROL")
    if named:
        return named
    own = os.path.join(_state(), "control")
    if os.path.isdir(own) or os.environ.get("SEAPOST_STATE"):
        return own
    copies = (os.path.join(directory, _COPIES) for directory in socket_directories())
    return next(filter(os.path.isdir, copies), own)


def users() -> str:
    """The directory of users/assign: $SEAPOST_USERS, or `users` where `control` is by the same rule."""
    return os.path.abspath(os.environ.get("SEAPOST_USERS") or os.path.join(_state(), "users"))


def _state() -> str:
    state = os.environ.get("SEAPOST_STATE")
    if not state:
        state = _IN_CONTAINER if os.path.isdir(f"{_IN_CONTAINER}/control") else os.path.join(CHECKOUT, "var")
    return state


def accounts() -> str:
    """The directory of passwd and login.defs: `accounts` beside `control` by the same rule, or this machine's /etc."""
    own = os.path.join(_state(), "accounts")
    return own if os.path.isdir(own) else "/etc"


def control_text(name: str) -> bytes | None:
    """The octets of a control file, None when there is none; OSError when it cannot be read."""
    try:
        with open(os.path.join(control(), name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def socket_directories() -> Iterator[str]:
    """Where local's sockets may be, the likeliest first: $SEAPOST_SOCKET_DIR alone; else those that exist of run/submit
    in the state directory, the checkout's run/, where docker-compose.yml puts them, and /run/seapost."""
    named = os.environ.get("SEAPOST_SOCKET_DIR")
    if named:
        yield named
        return
    state = os.environ.get("SEAPOST_STATE")
    of_state = os.path.join(state or os.path.join(CHECKOUT, "var"), "run", "submit")
    for directory in (of_state, os.path.join(CHECKOUT, "run"), _ON_HOST):
        if os.path.isdir(directory):
            yield directory
