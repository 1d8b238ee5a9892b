"""Who is inside: counts connections, in total and by address, and sends everybody home when the service ends.

Knows sessions only as something that can be asked to end. Also counts the octets of all bodies being received, because
a bound on each is no bound on all.
"""

import asyncio
import ipaddress
import resource
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from runtime.config import Address, ConfigError
from services.smtpd import limits
from services.smtpd.policy import Rules

FULL = "421 4.3.2 sorry, too many connections, try again later"
FULL_FOR_YOU = "421 4.7.0 sorry, too many connections from your address, try again later"
_BACKLOG = 1_024


class Guest(Protocol):
    """A session, as the door sees it."""

    def wind_down(self) -> None:
        """Ends now, or after the reply to a message whose final dot has been read."""


class Door:
    """The listening socket and everybody who came through it."""

    def __init__(self) -> None:
        self.octets_left = limits.BODIES_MAX_OCTETS
        self._inside: dict[Guest, str] = {}
        self._from: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._server: asyncio.Server | None = None
        self._most = _raise_descriptor_limit()

    async def open(self, bind: Address, welcome: Callable[[], asyncio.Protocol]) -> Address:
        """Listens; the address says the port that was chosen when `bind` has 0. ConfigError when it cannot."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(welcome, bind.host, bind.port, backlog=_BACKLOG)
        except OSError as error:
            raise ConfigError(
                [f"environment variable SMTP_BIND={bind}: cannot listen there: {error.strerror or error}"]
            ) from error
        return Address(bind.host, self._server.sockets[0].getsockname()[1])

    def knock(self, guest: Guest) -> None:
        """Knows of a guest from the first moment, so that none is forgotten at the end."""
        self._inside[guest] = ""
        self._empty.clear()

    def enter(self, guest: Guest, ip: str, rules: Rules) -> str | None:
        """Lets in a guest that has knocked; otherwise the refusal."""
        origin = _origin(ip)
        if len(self._inside) > min(rules.connections, self._most):
            return FULL
        if self._from[origin] >= rules.connections_per_ip:
            return FULL_FOR_YOU
        self._inside[guest] = origin
        self._from[origin] += 1
        return None

    def leave(self, guest: Guest) -> None:
        """Forgets a guest, let in or not."""
        origin = self._inside.pop(guest, "")
        if origin:
            self._from[origin] -= 1
            if not self._from[origin]:
                del self._from[origin]
        if not self._inside:
            self._empty.set()

    async def close(self, within_s: float) -> None:
        """Lets nobody in any more, sends home who is idle, and waits for those who are owed a reply."""
        if self._server is not None:
            self._server.close()
        for guest in list(self._inside):
            guest.wind_down()
        try:
            await asyncio.wait_for(self._empty.wait(), within_s)
        except TimeoutError:
            return  # their clients get no reply and ask again: reliability.md calls it W0


def _origin(ip: str) -> str:
    """What counts as one address: an IPv4 address, the /64 of an IPv6 one."""
    if ":" not in ip:
        return ip
    return str(ipaddress.ip_network((ip, 64), strict=False))


def _raise_descriptor_limit() -> int:
    """Asks for as many descriptors as may be had; returns how many sessions fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.CONNECTIONS_MAX * 4
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, soft - limits.DESCRIPTORS_RESERVED)
