"""Which hosts take mail for a domain (RFC 5321 section 5): MX and address records, their order, and who is refused.

Knows names and addresses; connects to nothing but name servers. What the DNS did not answer is Deferred; Failed needs
an answer that says so.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver
import idna

from mail.outcome import Deferred, Failed
from runtime.clock import Chance, Clock
from runtime.config import Address, ConfigError
from services.remote import report
from services.remote.nets import Network, is_loopback, may_reach
from services.remote.routes import Relay

# RFC 5321 5.1 lets a client limit the number of addresses it tries. A domain with a hundred MX must not cost hundreds
# of look-ups and hours of connection attempts.
EXCHANGERS_MAX = 10
ADDRESSES_MAX = 20

# One question is asked this long in all, with servers taking turns each few seconds.
_LOOKUP_S = 20.0
_ONE_QUERY_S = 4.0

# Answers kept in memory, each about 500 octets, for as long as their TTL says but no longer than this: an hour for
# records, a minute for their absence (which has no TTL of its own where a server leaves out the SOA).
_ANSWERS_MAX = 20_000
_KEEP_S = 3_600.0
_KEEP_NOTHING_S = 60.0

# EDNS without fragmentation (DNS Flag Day 2020); longer answers come over TCP.
_EDNS_OCTETS = 1_232

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*\Z")


@dataclass(frozen=True, slots=True)
class Exchanger:
    """One address that mail for the domain may be given to, in the order of `preference`."""

    host: str
    ip: str
    port: int
    preference: int


Found = tuple[Exchanger, ...] | Deferred | Failed


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the choice of exchangers depends on besides the DNS."""

    port: int
    allowed: tuple[Network, ...]
    clock: Clock
    chance: Chance
    me: str
    is_ours: Callable[[str], bool]


class _NoSuchName(Exception):
    """The DNS says that the name does not exist."""


class _NoAnswer(Exception):
    """The DNS said nothing that could be used."""


@dataclass(slots=True)
class _Addresses:
    """What the look-ups of addresses brought."""

    exchangers: list[Exchanger] = field(default_factory=list)
    names_missing: int = 0
    unanswered: int = 0


class Directory:
    """The DNS, asked for mail exchangers. `servers` empty means those of /etc/resolv.conf."""

    def __init__(self, servers: tuple[Address, ...], around: Surroundings, lookup_s: float = _LOOKUP_S) -> None:
        self._around = around
        self._resolver = _resolver(servers, lookup_s)
        self._kept: dict[tuple[str, str], tuple[float, list[str]]] = {}

    async def exchangers(self, domain: str) -> Found:
        """Where mail for this domain goes by the DNS, best first."""
        literal = _literal(domain)
        if literal:
            return self._chosen([Exchanger(domain, literal, self._around.port, 0)], 0)
        name = a_label(domain)
        if name is None:
            return report.no_such_host(domain)
        try:
            hosts = await self._mail_exchangers(name)
        except _NoSuchName:
            return report.no_such_host(domain)
        except _NoAnswer:
            return report.dns_failed()
        if hosts is None:
            return report.takes_no_mail()
        found = await self._addresses(hosts or [(0, name)], self._around.port)
        if not found.exchangers and not found.unanswered:
            return report.no_such_host(domain) if found.names_missing and not hosts else report.no_exchanger()
        return self._chosen(found.exchangers, found.unanswered)

    async def relay(self, relay: Relay) -> Found:
        """Where the operator's relay is. Its address is used whatever it is; that it is unknown is never final."""
        port = relay.port or self._around.port
        literal = _literal(relay.host)
        if literal:
            return (Exchanger(relay.host, literal, port, 0),)
        if relay.host.lower() == "localhost":  # RFC 6761 6.3: not a question for the DNS
            return (Exchanger("localhost", "127.0.0.1", port, 0), Exchanger("localhost", "::1", port, 0))
        name = a_label(relay.host)
        if name is None:
            return report.dns_failed()
        found = await self._addresses([(0, name)], port)
        return tuple(found.exchangers) or report.dns_failed()

    # -- choosing -----------------------------------------------------------------------------------------------------

    def _chosen(self, candidates: list[Exchanger], unanswered: int) -> Found:
        """Those better than ourselves (RFC 5321 5.1) that may be reached."""
        ours = [one.preference for one in candidates if self._is_ours(one)]
        better = [one for one in candidates if not ours or one.preference < min(ours)]
        usable = [one for one in better if may_reach(one.ip, self._around.allowed)]
        if usable:
            return tuple(usable[:ADDRESSES_MAX])
        if unanswered:
            return report.dns_failed()
        return report.ambiguous_exchanger() if ours else report.forbidden_address()

    def _is_ours(self, one: Exchanger) -> bool:
        if one.host == self._around.me:
            return True
        if is_loopback(one.ip):  # somebody's idea of "me" is not me, unless the operator says that something is there
            return not may_reach(one.ip, self._around.allowed)
        return self._around.is_ours(one.ip)

    # -- asking -------------------------------------------------------------------------------------------------------

    async def _mail_exchangers(self, name: str) -> list[tuple[int, str]] | None:
        """(preference, host) best first, equals in random order; None for a null MX (RFC 7505); [] for no MX."""
        records = [record.split(" ", 1) for record in await self._ask(name, "MX")]
        named = [(int(preference), host.lower().removesuffix(".")) for preference, host in records]
        hosts = [(preference, host) for preference, host in named if host]
        if named and not hosts:
            return None
        chance = self._around.chance
        return sorted(hosts, key=lambda one: (one[0], chance.octets(8)))[:EXCHANGERS_MAX]

    async def _addresses(self, hosts: list[tuple[int, str]], port: int) -> _Addresses:
        """The addresses of all hosts, in their order; of one host IPv6 and IPv4 take turns."""
        found = _Addresses()
        asked = [self._ask_or_say_why(host, kind) for _, host in hosts for kind in ("AAAA", "A")]
        answers = await asyncio.gather(*asked)
        for number, (preference, host) in enumerate(hosts):
            pair = answers[2 * number : 2 * number + 2]
            found.names_missing += sum(isinstance(one, _NoSuchName) for one in pair)
            found.unanswered += sum(isinstance(one, _NoAnswer) for one in pair)
            lists = [one for one in pair if isinstance(one, list)]
            longest = max((len(one) for one in lists), default=0)
            ips = [one[turn] for turn in range(longest) for one in lists if turn < len(one)]
            found.exchangers.extend(Exchanger(host, ip, port, preference) for ip in ips[:ADDRESSES_MAX])
        return found

    async def _ask_or_say_why(self, name: str, kind: str) -> list[str] | _NoSuchName | _NoAnswer:
        try:
            return await self._ask(name, kind)
        except (_NoSuchName, _NoAnswer) as why:
            return why

    async def _ask(self, name: str, kind: str) -> list[str]:
        """The records of one kind, [] when the name has none of it."""
        now_s = self._around.clock.wall_ms() / 1000
        until_s, records = self._kept.get((name, kind), (0.0, []))
        if until_s > now_s:
            return records
        try:
            answer = await self._resolver.resolve(name + ".", kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            raise _NoSuchName from None
        except (dns.exception.DNSException, OSError):  # SERVFAIL, timeouts, nonsense, no network
            raise _NoAnswer from None
        records = [record.to_text() for record in answer]
        self._kept.pop((name, kind), None)
        self._kept[name, kind] = min(answer.expiration, now_s + (_KEEP_S if records else _KEEP_NOTHING_S)), records
        if len(self._kept) > _ANSWERS_MAX:
            del self._kept[next(iter(self._kept))]
        return records


def a_label(domain: str) -> str | None:
    """The name as the DNS has it, in lower case, without the dot at its end; None when it is no host name."""
    name = domain.removesuffix(".").lower()
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    return name if _HOST.match(name) else None


def has_address(ip: str) -> bool:
    """Whether a socket of this host can have the address: the kernel knows better than any list of interfaces."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


def _literal(domain: str) -> str | None:
    """The address in `[192.0.2.1]`, `[IPv6:2001:db8::1]` (RFC 5321 4.1.3), or in a bare address, as qmail took it."""
    inner = domain[1:-1] if domain.startswith("[") and domain.endswith("]") else domain
    if inner[:5].lower() == "ipv6:":
        inner = inner[5:]
    try:
        address = ip_address(inner)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.scope_id:
        return None
    return str(address)


def _resolver(servers: tuple[Address, ...], lookup_s: float) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
        if servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(one.host, one.port) for one in servers]
    except (dns.resolver.NoResolverConfiguration, ValueError) as error:
        raise ConfigError([f"environment variable DNS_SERVERS: {error}: name a DNS server as ip:port"]) from error
    resolver.use_edns(0, 0, _EDNS_OCTETS)
    resolver.lifetime = lookup_s
    resolver.timeout = min(_ONE_QUERY_S, lookup_s / 2)
    return resolver
