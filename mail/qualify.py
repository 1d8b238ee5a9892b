"""How qmail completes an address that somebody typed: the host that is missing, the domain that is missing.

The rules are those of qmail-header(5), "Address lists"; qmail-inject, dot-forward and newaliases apply them alike.
Knows the three names of the control directory as values; where they come from is the caller's affair.
"""

from collections.abc import Mapping

from mail import rfc822
from mail.rfc822 import AT, ATOM, COLON, DOT, LITERAL, Token

# The control files, each with what stands for it when neither it nor `me` is there: its own name (qmail-control(5)).
DEFAULTHOST, DEFAULTDOMAIN, PLUSDOMAIN = "defaulthost", "defaultdomain", "plusdomain"
CONTROLS = (DEFAULTDOMAIN, DEFAULTHOST, PLUSDOMAIN)


class Qualification:
    """The rules with the names of one host. Each name is read as a piece of an address, as qmail reads it."""

    def __init__(self, names: Mapping[str, bytes]) -> None:
        """`names` has CONTROLS as its keys; raises rfc822.Unparsable, whose argument is the piece that is none."""
        self._domain = rfc822.tokenise(b"." + names[DEFAULTDOMAIN])
        self._host = rfc822.tokenise(b"@" + names[DEFAULTHOST])
        self._plus = rfc822.tokenise(b"." + names[PLUSDOMAIN])

    def __call__(self, address: list[Token]) -> list[Token]:
        """The address in full; the empty one and `anything@[]` stay as they are."""
        if address[-2:] == [(AT, b""), (LITERAL, b"")]:
            return address
        address = _without_route(address)
        for needless in (DOT, AT):
            if address and address[-1][0] == needless:
                address = address[:-1]
        if not address:
            return []
        if all(kind != AT for kind, _ in address):
            address = address + self._host
        kind, text = address[-1]
        if kind == ATOM and text.endswith(b"+"):
            address = [*address[:-1], (ATOM, text[:-1]), *self._plus]
        return address if _has_domain(address) else address + self._domain

    def envelope(self, address: bytes) -> bytes:
        """The address of an envelope or a command line, in full and without quotes; raises rfc822.Unparsable."""
        return rfc822.unquoted(self(rfc822.tokenise(rfc822.quoted(address))))


def _without_route(address: list[Token]) -> list[Token]:
    """`@relay:box@host` is `box@host`; a route without an end is all of the address."""
    if not address or address[0][0] != AT:
        return address
    for place, (kind, _) in enumerate(address):
        if kind == COLON:
            return address[place + 1 :]
    return []


def _has_domain(address: list[Token]) -> bool:
    """Whether the host has a dot or is an IP address in brackets: what stands behind the last @."""
    for kind, _ in reversed(address):
        if kind == AT:
            return False
        if kind in (DOT, LITERAL):
            return True
    return False
