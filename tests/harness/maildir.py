"""Looks into real Maildirs: which messages are there, how often, and whether they are whole.

Every message of a test carries its number and a checksum of its body (`Parcel`), so that a copy speaks for itself.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

# Sooner than a delivery whose process died is tried again.
_GLANCE_S = 0.005
_TAKEN = "taken"
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
    """Every message in new/ and cur/ of ~/Maildir, and what `reading` took out of it."""
    return [path for part in ("Maildir/new", "Maildir/cur", _TAKEN) for path in sorted((home / part).glob("*"))]


def collect(*homes: Path) -> list[Copy]:
    """Every message of these homes."""
    return [unpack(path.read_bytes(), str(path)) for home in homes for path in files(home)]


@contextmanager
def reading(home: Path) -> Iterator[None]:
    """Somebody fetches this mail at once, all the while: a second copy of the same name finds the first one gone."""
    (home / _TAKEN).mkdir()
    over = threading.Event()
    thread = threading.Thread(target=_read, args=(home, over))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _read(home: Path, over: threading.Event) -> None:
    numbers = count()
    while not over.wait(_GLANCE_S):
        for path in (home / "Maildir" / "new").glob("*"):
            path.rename(home / _TAKEN / f"{next(numbers)}-{path.name}")
