"""Envelope addresses: taking them apart, comparing them, putting them on the wire."""

import re

from mail.limits import ADDRESS_MAX_OCTETS

# RFC 5321 4.1.2: Dot-string, with every printable UTF-8 character allowed as in RFC 6531.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_STRING = re.compile(rf"{_ATOM}(?:\.{_ATOM})*\Z")
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def split(address: str) -> tuple[str, str]:
    """(local part, domain) at the last @; an address without one has the domain ""."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


def lowered(text: str) -> str:
    """A to Z in lower case, and nothing else: what qmail takes for equal in local parts. str.lower() would make a k of
    the Kelvin sign, and so give one person's mail to another."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def acceptable(address: str) -> bool:
    """Whether an address may enter an envelope: no control characters, not too long, encodable."""
    if _FORBIDDEN.search(address):
        return False
    return len(address.encode()) <= ADDRESS_MAX_OCTETS


def quoted(address: str) -> str:
    """The address as RFC 5321 writes it between < and >: the local part quoted when it must be."""
    local, at, domain = address.rpartition("@")
    if not at:
        local, domain = address, ""
    if local and not _DOT_STRING.match(local):
        escaped = local.replace("\\", "\\\\").replace('"', '\\"')
        local = f'"{escaped}"'
    return f"{local}{at}{domain}"
