"""Who may connect and who may relay: the text of control/tcp.smtp in tcprules' language (ucspi-tcp, tcprules(1)).

Pure: text in, a table out; the table is asked with an address. One hit decides and nothing is merged. Of what is not in
tcprules, IPv6 addresses and CIDR prefixes of both families are understood; a peer mapped from IPv4 counts as IPv4.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_RULE = re.compile(r"(?P<address>.*?):(?P<verb>allow|deny)(?P<variables>,.*)?\Z")
_VARIABLE = re.compile(r",([^,=\"']+)=(.)")
_RANGE = re.compile(r"([^.]*?)(\d+)-(\d+)")
_NUMBERS = re.compile(r"(?:\d{1,3}\.){0,3}\d{1,3}|(?:\d{1,3}\.){1,3}")
# A range multiplies; a file beyond this is a mistake, and would be held in memory.
_KEYS_MAX = 200_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RulesError(Exception):
    """A line cannot be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a line says of a connection. `variables` are the ones it sets, RELAYCLIENT among them."""

    allow: bool
    variables: dict[str, str] = field(default_factory=dict)


_DEFAULT = Rule(allow=True)  # tcpserver: no hit, no objection


@dataclass(frozen=True, slots=True)
class Rules:
    """A file of rules. `doubts` are lines that can never do what they seem to say."""

    keys: dict[str, Rule] = field(default_factory=dict)
    networks: tuple[tuple[Network, Rule], ...] = ()
    doubts: tuple[str, ...] = ()

    def find(self, ip: str, host: str = "", info: str = "") -> Rule:
        """The rule for a peer, in tcprules' order; `host` and `info` are "" when unknown."""
        for key in _candidates(ip, host, info):
            rule = self.keys.get(key)
            if rule is not None:
                return rule
            if key == ip and self.networks:
                narrowest = self._network(ip)
                if narrowest is not None:
                    return narrowest
        return _DEFAULT

    def _network(self, ip: str) -> Rule | None:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return None
        hits = [(network.prefixlen, rule) for network, rule in self.networks if address in network]
        return max(hits, key=lambda hit: hit[0])[1] if hits else None


def plain(ip: str) -> str:
    """An address in its one spelling: IPv4 when it is IPv4 within IPv6, no zone. What is no address stays as it is."""
    if ":" not in ip:
        return ip
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse(text: str) -> Rules:
    """The table of a file; RulesError names the first line that tcprules would not take."""
    keys: dict[str, Rule] = {}
    networks: list[tuple[Network, Rule]] = []
    doubts: list[str] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip(" \t\r")
        if not line or line.startswith("#"):
            continue
        if ":" not in line:
            doubts.append(f"line {number}: without a colon it says nothing")
            continue
        address, rule = _line(number, line)
        network = _as_network(number, address)
        if network is not None:
            networks.append((network, rule))
            continue
        for key in _keys(number, address):
            keys.setdefault(key, rule)  # the first of equal keys wins, as in a cdb
            if len(keys) > _KEYS_MAX:
                raise RulesError(f"line {number}: the ranges make more than {_KEYS_MAX} rules: use prefixes")
        doubts.extend(_doubts(number, address))
    return Rules(keys, tuple(networks), tuple(doubts))


def _candidates(ip: str, host: str, info: str) -> Iterator[str]:
    host = host.lower()
    if info:
        yield f"{info}@{ip}"
        if host:
            yield f"{info}@={host}"
    yield ip
    if host:
        yield f"={host}"
    if ":" not in ip:
        numbers = ip.split(".")
        for count in range(len(numbers) - 1, 0, -1):
            yield ".".join(numbers[:count]) + "."
    if host:
        for position, character in enumerate(host):
            if character == ".":
                yield f"={host[position:]}"
        yield "="
    yield ""


def _line(number: int, line: str) -> tuple[str, Rule]:
    parts = _RULE.match(line)
    if parts is None:
        raise RulesError(f'line {number}: {line[:60]!r}: write address:allow or address:deny, then ,VARIABLE="value"')
    address = parts["address"].lower() if "=" in parts["address"] else parts["address"]
    return address, Rule(parts["verb"] == "allow", _variables(number, parts["variables"] or ""))


def _variables(number: int, text: str) -> dict[str, str]:
    """,NAME=qVALUEq... where q is any one character."""
    found: dict[str, str] = {}
    while text:
        start = _VARIABLE.match(text)
        end = text.find(start[2], start.end()) if start else -1
        if start is None or end < 0:
            raise RulesError(f'line {number}: {text[:60]!r}: write ,VARIABLE="value" with the same quote at both ends')
        found[start[1]] = text[start.end() : end]
        text = text[end + 1 :]
    if not found.get("DATABYTES", "0").isdecimal():
        raise RulesError(f"line {number}: DATABYTES={found['DATABYTES']!r}: write a number of octets")
    return found


def _as_network(number: int, address: str) -> Network | None:
    """A CIDR prefix, which tcprules does not have."""
    if "/" not in address or "=" in address or "@" in address:
        return None
    try:
        network = ipaddress.ip_network(address.strip("[]"))
    except ValueError as error:
        raise RulesError(f"line {number}: {error}: write a prefix such as 10.0.0.0/8") from error
    return network


def _keys(number: int, address: str) -> Iterator[str]:
    """The keys of an address: several when it holds ranges (1.2.3.4-7, 1.2.3-5.)."""
    if "=" in address or "@" in address:
        yield address
        return
    if ":" in address:
        yield plain(address.strip("[]"))
        return
    numbers = _RANGE.search(address)
    if numbers is None:
        yield address
        return
    low, high = int(numbers[2]), min(int(numbers[3]), 255)
    if low > high:
        raise RulesError(f"line {number}: {numbers[0]!r}: the range ends before it begins")
    before, after = address[: numbers.start()] + numbers[1], address[numbers.end() :]
    for each in range(low, high + 1):
        yield from _keys(number, f"{before}{each}{after}")


def _doubts(number: int, address: str) -> Iterator[str]:
    if "=" in address:
        yield f"line {number}: {address[:60]!r} asks for a host name, and names of clients are not looked up"
    elif "@" in address:
        yield f"line {number}: {address[:60]!r} asks for an ident answer, and nobody asks for one"
    elif address and ":" not in address and not _matches_something(address):
        yield f"line {number}: {address[:60]!r} is no whole address, and no prefix because it does not end in a dot"


def _matches_something(address: str) -> bool:
    bare = _RANGE.sub(r"\g<1>\g<2>", address)
    return _NUMBERS.fullmatch(bare) is not None and (bare.endswith(".") or bare.count(".") == 3)
