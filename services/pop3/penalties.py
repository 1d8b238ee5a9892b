"""How long the next attempt to log in has to wait, after the failures before it.

Kept for each network a client comes from and for each account name, in memory, bounded. The delay comes before the
password is checked, so that it is the same for a right and a wrong one. Nobody is ever locked out: whoever guesses is
slowed, and an owner whose address logged in before is not slowed by what others tried on the account.
"""

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from runtime.clock import Chance, Clock

# Seconds before the attempt after so many failures; the last for all further ones. Dovecot's are alike.
DELAYS_S = (0.0, 2.0, 4.0, 8.0, 15.0)
# Failures are forgotten this long after the last one.
FORGET_S = 600.0
# Networks and names remembered; beyond it the oldest are forgotten. 16 MiB at most.
REMEMBERED_MAX = 50_000
# An IPv6 customer has a /64 at least (RFC 6177), so a single address there means nothing.
_IPV6_PREFIX = 64


@dataclass(slots=True)
class _Failures:
    count: int
    last_s: float
    attempt: bytes  # the same wrong pair again is a misconfigured program, not a guess


class Penalties:
    """The memory of failures of one process."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._clock = clock
        self._key = chance.octets(32)
        self._failures: OrderedDict[Hashable, _Failures] = OrderedDict()
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def delay_s(self, peer: str, user: bytes) -> float:
        """Seconds to wait now, TIME_SCALE applied, before this user's password is checked for that peer."""
        origin, name = network(peer), self._digest(user)
        counts = [self._count(origin)]
        if (origin, name) not in self._known:
            counts.append(self._count(name))
        return self._clock.scaled(DELAYS_S[min(max(counts), len(DELAYS_S) - 1)])

    def failed(self, peer: str, user: bytes, password: bytes) -> None:
        """Remembers a wrong password."""
        origin, name = network(peer), self._digest(user)
        attempt = self._digest(user + b"\0" + password)
        for key in (origin, name):
            count = self._count(key)
            before = self._failures.pop(key, None)
            if before is None or before.attempt != attempt or not count:
                count += 1
            self._failures[key] = _Failures(count, self._clock.monotonic(), attempt)
        _trim(self._failures)

    def succeeded(self, peer: str, user: bytes) -> None:
        """Forgets the network's failures, and remembers that the owner comes from there."""
        origin = network(peer)
        self._failures.pop(origin, None)
        pair = (origin, self._digest(user))
        self._known[pair] = None
        self._known.move_to_end(pair)
        _trim(self._known)

    def _count(self, key: Hashable) -> int:
        found = self._failures.get(key)
        if found is None or self._clock.monotonic() - found.last_s > self._clock.scaled(FORGET_S):
            return 0
        return min(found.count, len(DELAYS_S))

    def _digest(self, text: bytes) -> bytes:
        """Keyed, so that what lies in memory names neither accounts nor passwords."""
        return hmac.digest(self._key, text, hashlib.sha256)[:16]


def network(peer: str) -> str:
    """The client's IPv4 address, or its IPv6 /64."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


def _trim(memory: "OrderedDict[Hashable, _Failures] | OrderedDict[tuple[str, bytes], None]") -> None:
    while len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)
