"""The octets of standard input, of a file and of standard output, in the words of qmail's programs when they fail."""

import os
from collections.abc import Iterable

from programs.complaint import TEMPORARY, Fatal, because

# A list of ten million addresses; a cdb of it is still below its 4 GiB, and more than this is a mistake.
MAX_OCTETS = 1024 * 1024 * 1024

_PIECE_OCTETS = 1024 * 1024


def standard_input() -> bytes:
    """All of descriptor 0; Fatal."""
    try:
        return _whole(0, "input")
    except OSError as error:
        raise because("unable to read input: ", error) from error


def file(path: str) -> bytes:
    """All of a file; Fatal."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _whole(fd, path)
        finally:
            os.close(fd)
    except OSError as error:
        raise because(f"unable to read {path}: ", error) from error


def standard_output(lines: Iterable[bytes]) -> None:
    """Writes everything, the last lines also when iterating raises; Fatal."""
    waiting = bytearray()
    try:
        for line in lines:
            waiting += line
            if len(waiting) >= _PIECE_OCTETS:
                _write(waiting)
                waiting = bytearray()
    finally:
        _write(waiting)


def _write(octets: bytes | bytearray) -> None:
    rest = memoryview(octets)
    try:
        while rest:
            rest = rest[os.write(1, rest) :]
    except OSError as error:
        raise because("unable to write output: ", error) from error


def _whole(fd: int, name: str) -> bytes:
    found = bytearray()
    while octets := os.read(fd, _PIECE_OCTETS):
        found += octets
        if len(found) > MAX_OCTETS:
            raise Fatal(TEMPORARY, f"{name} is longer than {MAX_OCTETS} bytes")
    return bytes(found)
