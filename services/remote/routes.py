"""control/smtproutes: where the operator sends mail for a domain instead of asking the DNS (qmail-remote(8)). Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mail import control

# qmail splits at the first colon; a bracketed IPv6 address, which qmail did not know, keeps its own.
_RELAY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d{1,5}))?")
_PORT_MAX = 65_535


@dataclass(frozen=True, slots=True)
class Relay:
    """A host to use instead of the MX; `port` is None where the entry names none."""

    host: str
    port: int | None


def relay(smtproutes: Mapping[str, str], domain: str) -> Relay | None:
    """The relay for a domain; None when the DNS decides.

    The first key that is there counts: the domain, each `.suffix` from the longest on, the empty key. An entry with an
    empty relay says that the DNS decides.
    """
    for key in (domain.lower(), *control.suffixes(domain), ""):
        if key in smtproutes:
            return _parsed(smtproutes[key])
    return None


def _parsed(entry: str) -> Relay | None:
    found = _RELAY.match(entry)
    if not found or not found["host"]:
        return None
    port = int(found["port"]) if found["port"] else 0
    return Relay(found["host"].strip("[]"), port if 0 < port <= _PORT_MAX else None)
