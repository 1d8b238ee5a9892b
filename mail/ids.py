"""Message ids: 48 bits of milliseconds and 80 bits of chance, written as 26 characters of lower-case base32hex.

The writing sorts as the time does. An id says nothing about where its message is kept.
"""

import base64
import hashlib
import re
from typing import NewType

MessageId = NewType("MessageId", str)

_TEXT = re.compile(r"[0-7][0-9a-v]{24}[048cgkos]\Z")
CHANCE_BYTES = 10
OCTETS = 6 + CHANCE_BYTES


def make_id(unix_ms: int, chance: bytes) -> MessageId:
    """The id born at `unix_ms`; `chance` is CHANCE_BYTES random bytes."""
    return from_octets(unix_ms.to_bytes(6, "big") + chance)


def parse_id(text: str) -> MessageId | None:
    """The id that `text` writes, or None when it writes none."""
    return MessageId(text) if _TEXT.match(text) else None


def to_octets(message: MessageId) -> bytes:
    """The id's 128 bits; they sort as its text does."""
    return (int(message, 32) >> 2).to_bytes(OCTETS, "big")  # 26 characters are 130 bits


def from_octets(raw: bytes) -> MessageId:
    """The id of these 128 bits."""
    return MessageId(base64.b32hexencode(raw).decode("ascii").rstrip("=").lower())


def born_ms(message: MessageId) -> int:
    """Unix time in milliseconds at which the id was made."""
    return int(message[:10], 32) >> 2  # ten characters are 50 bits, and base32hex has the digits of int(…, 32)


def child_id(parent: MessageId, recipient: int, instruction: int, target: str) -> MessageId:
    """The id of a message that a delivery of `parent` causes: the same however often that delivery is tried."""
    cause = f"{parent}\0{recipient}\0{instruction}\0{target}".encode("utf-8", "surrogateescape")
    return make_id(born_ms(parent), hashlib.sha256(cause).digest()[:CHANCE_BYTES])
