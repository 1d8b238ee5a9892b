"""Free ports: for what only the stack itself calls, chosen here; for the world, tried here before anything starts."""

import os
import socket

from cli.refusal import Refusal
from runtime.clock import Chance
from runtime.config import Address

# Below the range that outgoing connections use (32768 and up on Linux), so that none of them sits on a service's port
# when the service is restarted.
_FIRST = 20_000
_LAST = 32_000
_TRIES = 1_000
_UNPRIVILEGED = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
LOOPBACK = "127.0.0.1"


class Ports:
    """Hands out ports that are free now, none of them twice."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._given: set[int] = set()

    def choose(self, host: str = LOOPBACK) -> Address:
        """A port nobody listens at; Refusal when there seems to be none."""
        for _ in range(_TRIES):
            number = _FIRST + int.from_bytes(self._chance.octets(4), "big") % (_LAST - _FIRST)
            if number not in self._given and why_not(Address(host, number)) is None:
                self._given.add(number)
                return Address(host, number)
        raise Refusal(f"no port from {_FIRST} to {_LAST} is free on {host}: stop what uses them")


def why_not(address: Address) -> str | None:
    """Why nobody could listen at `address` now; None when somebody could."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((address.host, address.port))
            attempt.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None


def first_unprivileged() -> int:
    """The first port at which the kernel lets everybody listen."""
    try:
        with open(_UNPRIVILEGED, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1_024


def cannot_bind_as(uid: int | None, port: int) -> bool:
    """Whether a process with that uid (None: this one's) may not listen at `port`."""
    effective = os.geteuid() if uid is None else uid
    return effective != 0 and port < first_unprivileged()


def reachable(address: Address) -> Address:
    """Where a client on this machine finds what listens at `address`."""
    return Address({"0.0.0.0": LOOPBACK, "::": "::1"}.get(address.host, address.host), address.port)
