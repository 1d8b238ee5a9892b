"""Which addresses mail exchangers of the world may name. Pure.

Whoever owns a domain decides where its MX records point; without this wall anyone could make us speak to the services
behind our own firewall (reliability.md E10). A route of the operator's is not asked.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# The same few thousand addresses come with every message; parsing one costs more than the rest of the question.
_PARSED_MAX = 10_000

Network = IPv4Network | IPv6Network

# RFC 6052: an IPv4 address behind a translator.
_NAT64 = ip_network("64:ff9b::/96")


def networks(value: str) -> tuple[Network, ...]:
    """A list such as `127.0.0.0/8,fd00::/8`; raises ValueError."""
    try:
        return tuple(ip_network(one.strip()) for one in value.split(",") if one.strip())
    except ValueError:
        raise ValueError("is not a list of networks such as 10.0.0.0/8,fd00::/8") from None


def is_loopback(ip: str) -> bool:
    """Whether this host itself would answer there."""
    return any(form.is_loopback or form.is_unspecified for form in _forms(ip))


def may_reach(ip: str, allowed: Iterable[Network]) -> bool:
    """Whether MX delivery may connect there: a global unicast address, or one in an allowed network."""
    forms = _forms(ip)
    if any(form in network for network in allowed for form in forms):
        return True
    return all(form.is_global and not form.is_multicast and not form.is_reserved for form in forms)


@lru_cache(_PARSED_MAX)
def _forms(ip: str) -> tuple[IPv4Address | IPv6Address, ...]:
    """The address, or the IPv4 address that an IPv6 one stands for."""
    address = ip_address(ip)
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped:
        return (address.ipv4_mapped,)
    if address.sixtofour:
        return (address, address.sixtofour)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    return (address,)
