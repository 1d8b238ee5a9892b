"""The table that setforward(1) compiles: octets in, the records of a forwarding database out. Pure.

    target: command, command; # comment

Blanks and line ends mean nothing, a backslash takes the meaning from what follows it.
"""

import re
from collections.abc import Iterator

from mail.forwarding import ADDRESS_MAX_OCTETS, FILE, PROGRAM, BadLine

# A comment, blanks, a sign, an escaped octet, a NUL, anything else: up to the next one.
_PIECE = re.compile(rb"#[^\n]*\n|#[^\n]*\Z|[ \t\n]+|([:,;])|\\\Z|\\(.)|(\0)|([^#: \t\n,;\\\0]+)", re.DOTALL)
_SIGN, _ESCAPED, _NUL, _PLAIN = 1, 2, 3, 4


def records(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values that a table of setforward(1) makes; raises BadLine, which is permanent."""
    target, command = bytearray(), bytearray()
    found: list[bytes] = []
    has_target = False  # its colon has been seen: what comes now are commands
    for kind, octets in _pieces(table):
        if kind != _SIGN:
            (command if has_target else target).extend(octets)
        elif octets == b":":
            if has_target:
                raise BadLine(b"double colons are not permitted", permanent=True)
            has_target = True
        else:
            if not has_target:
                raise BadLine(b"commas are not permitted before colons", permanent=True)
            if command.startswith(b"?"):
                yield bytes(b"?" + target.lower()), bytes(command[1:])
            elif command:
                found.append(_command(bytes(command)))
            command.clear()
            if octets == b";":
                if found:
                    yield bytes(b":" + target.lower()), b"".join(one + b"\0" for one in found)
                target, found, has_target = bytearray(), [], False
    if has_target or target:
        raise BadLine(b"final instruction must end with semicolon", permanent=True)


def _pieces(table: bytes) -> Iterator[tuple[int, bytes]]:
    for found in _PIECE.finditer(table):
        kind = found.lastindex or 0
        if kind == _NUL or found[_ESCAPED] == b"\0":
            raise BadLine(b"NUL bytes are not permitted", permanent=True)
        if kind:
            yield kind, found[kind]


def _command(octets: bytes) -> bytes:
    if octets.startswith(FILE + PROGRAM):
        return octets
    if len(octets) > ADDRESS_MAX_OCTETS:
        raise BadLine(b"addresses over 800 bytes are not permitted", permanent=True)
    return octets if octets.startswith(b"&") else b"&" + octets
