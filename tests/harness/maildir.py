"""Looks into real Maildirs: which messages are there, how often, and whether they are whole.

Every message of a test carries its number and a checksum of its body (`Parcel`), so that a copy speaks for itself.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_HEADER = re.compile(rb"^X-Parcel: (\S+) ([0-9a-f]{64})$", re.M)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with a name and a checksum of its own. `text` has CRLF line ends, as SMTP wants it."""

    name: str
    text: bytes

    @classmethod
    def pack(cls, name: str, body: bytes) -> "Parcel":
        """`body` has CRLF line ends and ends with one."""
        checksum = hashlib.sha256(body.replace(b"\r\n", b"\n")).hexdigest()
        head = f"Subject: parcel {name}\r\nX-Parcel: {name} {checksum}\r\n\r\n"
        return cls(name, head.encode() + body)

    @classmethod
    def of_octets(cls, name: str, octets: int) -> "Parcel":
        """A parcel of about that size, of lines that differ."""
        line = f"{name} "
        lines = [f"{line}{number:06} ".ljust(70, "x") for number in range(max(1, octets // 72))]
        return cls.pack(name, ("\r\n".join(lines) + "\r\n").encode())


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a parcel that was found. `name` is "" when it is none of ours."""

    name: str
    whole: bool
    path: str


def unpack(text: bytes, path: str = "") -> Copy:
    """Which parcel this is; line ends may be CRLF or LF."""
    text = text.replace(b"\r\n", b"\n")
    head, _, body = text.partition(b"\n\n")
    found = _HEADER.search(head)
    if not found:
        return Copy("", False, path)
    return Copy(found[1].decode(), hashlib.sha256(body).hexdigest() == found[2].decode(), path)


def files(home: Path) -> list[Path]:
    """Every message in new/ and cur/ of ~/Maildir, by name."""
    return sorted(path for part in ("new", "cur") for path in (home / "Maildir" / part).glob("*"))


def collect(*homes: Path) -> list[Copy]:
    """Every message of these homes."""
    return [unpack(path.read_bytes(), str(path)) for home in homes for path in files(home)]
