"""users/assign and users/cdb (qmail-users(5)): which account an address belongs to, before passwd is asked.

Pure: octets in, assignments out; everything is octets here because qmail compares octets. A text that is not whole is
BadAssign and says what is wrong with which line, never the part before it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mail import cdb

EXACT = "="
WILDCARD = "+"
_COLONS = 6  # after the address: user, uid, gid, home, dash, ext
_ID_MAX = 0xFFFF_FFFE  # (uid_t) -1 means "leave it" to setresuid(2)


class BadAssign(ValueError):
    """Nothing of this file may be obeyed; the text says why and what would mend it."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a line says. `key` is its `=address` or `+prefix`, in lower case. An id that is no number is 0, as for
    qmail, and so is one that no account can have."""

    key: str
    user: str
    uid: int
    gid: int
    home: str
    dash: str
    ext: str


class Assignments:
    """All lines of one file. Of equal keys the first counts."""

    def __init__(self, fields: dict[bytes, bytes], last: bytes = b"") -> None:
        """`fields` by key, with `=` or `+` before it; `last` holds the last octets of the prefixes."""
        self._fields = fields
        self._last = frozenset(last)

    def find(self, local: str) -> Assigned | None:
        """Whose a local part is: its own line, else that of the longest prefix, with the rest behind its ext.

        As in qmail-lspawn a prefix that ends in upper case is never found, unless another ends in the same letter in
        lower case.
        """
        octets = local.encode("utf-8", "surrogateescape")
        lower = octets.lower()
        found = self._assigned(b"=" + lower, b"")
        for end in range(len(lower), -1, -1):
            if found is not None:
                break
            if end == 0 or lower[end - 1] in self._last:
                found = self._assigned(b"+" + lower[:end], octets[end:])
        return found

    def get(self, key: str) -> Assigned | None:
        """The line with this key, as `find` returns it; nothing behind its ext."""
        return self._assigned(key.encode("utf-8", "surrogateescape"), b"")

    def _assigned(self, key: bytes, rest: bytes) -> Assigned | None:
        fields = self._fields.get(key)
        if fields is None:
            return None
        user, uid, gid, home, dash, ext = fields.split(b"\0")[:_COLONS]
        return Assigned(_text(key), _text(user), _id(uid), _id(gid), _text(home), _text(dash), _text(ext + rest))


def parse(text: bytes) -> Assignments:
    """What a users/assign says; BadAssign when it is not whole."""
    return _gathered(_lines(text))


def compiled(text: bytes) -> bytes:
    """The users/cdb of a users/assign, octet for octet as qmail-newu makes it; BadAssign."""
    return cdb.make(_lines(text))


def read_cdb(octets: bytes) -> Assignments:
    """What a users/cdb says; BadAssign when it is none."""
    try:
        return _gathered(cdb.records(octets))
    except cdb.BadCdb as error:
        raise BadAssign(f"{error}: make it again with qmail-newu") from error


def _gathered(records: Iterator[tuple[bytes, bytes]]) -> Assignments:
    fields: dict[bytes, bytes] = {}
    last: bytes | None = None
    for key, value in records:
        if not key:
            last = value if last is None else last
        elif key.startswith(b"!"):
            if value.count(b"\0") < _COLONS - 1:
                raise BadAssign("a record has too few fields: make it again with qmail-newu")
            fields.setdefault(b"=" + key[1:-1] if key.endswith(b"\0") else b"+" + key[1:], value)
    if last is None:
        raise BadAssign("the record of wildcards is missing: make it again with qmail-newu")
    return Assignments(fields, last)


def _lines(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a users/cdb: `!address` with a NUL, `!prefix` without, and the last octets of the prefixes."""
    last = bytearray()
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n") if text else (), 1):
        if line.startswith(b"."):
            yield b"", bytes(last)
            return
        address, colon, rest = line.partition(b":")
        if b"\0" in line:
            raise BadAssign(f"line {number} has a NUL octet: remove it")
        if not address or not colon:
            raise BadAssign(f"line {number} is no assignment: write it again, or take it out")
        fields = rest.split(b":", _COLONS)
        if len(fields) <= _COLONS:
            raise BadAssign(f"line {number} has fewer than {_COLONS} colons after the address: add what is missing")
        key = b"!" + address[1:].lower()
        if not address.startswith(b"+"):
            key += b"\0"
        elif len(address) > 1 and address[-1] not in last:
            last.append(address[-1])
        yield key, b"\0".join(fields[:_COLONS])
    raise BadAssign("the last line, a `.`, is missing: write the file again, whole")


def _id(digits: bytes) -> int:
    """The number at the beginning (scan_ulong of qmail)."""
    number = digits[: len(digits) - len(digits.lstrip(b"0123456789"))]
    return int(number) if number and len(number) <= 10 and int(number) < _ID_MAX else 0


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
