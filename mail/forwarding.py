"""The forwarding database and the binary mailing lists of fastforward: their text forms and their octets.

Pure: knows the syntax of setforward(1) and setmaillist(1), and what stands under `:target` (commands, each with a NUL
behind it) and under `?target` (the owner's address) in a cdb. Who obeys the commands is programs/fastforward.py.
"""

import re
from collections.abc import Iterable, Iterator

from mail.aliases import ADDRESS_MAX_OCTETS, BadLine

# fastforward passes over a longer address in a database or a list.
COMMAND_MAX_OCTETS = 900

_FILE = (b".", b"/")
_PROGRAM = (b"|", b"!")

# A comment, blanks, a sign, an escaped octet, a NUL, anything else: up to the next one.
_PIECE = re.compile(rb"#[^\n]*\n|#[^\n]*\Z|[ \t\n]+|([:,;])|\\\Z|\\(.)|(\0)|([^#: \t\n,;\\\0]+)", re.DOTALL)
_SIGN, _ESCAPED, _NUL, _PLAIN = 1, 2, 3, 4
_TO_ESCAPE = re.compile(rb"[\0- ,:;\\#\x80-\xff]")


class BadFormat(ValueError):
    """This is no forwarding database, or no mailing list, that setforward or setmaillist made."""


def records(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values that a table of setforward(1) makes; raises BadLine, which is permanent."""
    target = command = b""
    found: list[bytes] = []
    has_target = False  # its colon has been seen: what comes now are commands
    for kind, octets in _pieces(table):
        if kind != _SIGN:
            if has_target:
                command += octets
            else:
                target += octets
        elif octets == b":":
            if has_target:
                raise BadLine(b"double colons are not permitted", permanent=True)
            has_target = True
        else:
            if not has_target:
                raise BadLine(b"commas are not permitted before colons", permanent=True)
            if command.startswith(b"?"):
                yield b"?" + target.lower(), command[1:]
            elif command:
                found.append(_command(command))
            command = b""
            if octets == b";":
                if found:
                    yield b":" + target.lower(), b"".join(one + b"\0" for one in found)
                target, found, has_target = b"", [], False
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
    if octets.startswith(_FILE + _PROGRAM):
        return octets
    if len(octets) > ADDRESS_MAX_OCTETS:
        raise BadLine(b"addresses over 800 bytes are not permitted", permanent=True)
    return octets if octets.startswith(b"&") else b"&" + octets


def printed(key: bytes, value: bytes) -> bytes:
    """A record of the database as setforward(1) reads it. BadFormat."""
    if key.startswith(b"?"):
        return escaped(key[1:]) + b": ?" + escaped(value) + b";\n"
    if not key.startswith(b":"):
        raise BadFormat
    lines = [escaped(key[1:]), b":\n"]
    *whole, rest = value.split(b"\0")
    for command in whole:
        if not _is_known(command):
            raise BadFormat
        lines += (b", ", escaped(command), b"\n")
    if rest:
        raise BadFormat
    return b"".join(lines) + b";\n"


def escaped(octets: bytes) -> bytes:
    """With a backslash before everything that means something to setforward, and before what is not plain ASCII."""
    return _TO_ESCAPE.sub(rb"\\\g<0>", octets)


def commands(value: bytes) -> Iterator[bytes]:
    """The commands of a database's or a list's octets that fastforward knows; what it does not know it passes over."""
    return filter(_is_known, value.split(b"\0")[:-1])


def _is_known(command: bytes) -> bool:
    return command.startswith(_FILE + _PROGRAM) or _is_address(command)


def _is_address(command: bytes) -> bool:
    return command.startswith(b"&") and len(command) < COMMAND_MAX_OCTETS


def mailing_list(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The octets of a binary mailing list, a piece a line; raises BadLine."""
    for raw in lines:
        line = raw.rstrip(b"\n \t")
        if b"\0" in line:
            raise BadLine(b"NUL in input")
        if not line or line.startswith(b"#"):
            continue
        if line.startswith(_FILE):
            yield line + b"\0"
            continue
        if len(line) > ADDRESS_MAX_OCTETS:
            raise BadLine(b"addresses must be under 800 bytes")
        yield (line if line.startswith(b"&") else b"&" + line) + b"\0"


def mailing_list_printed(content: bytes) -> Iterator[bytes]:
    """The lines of a binary mailing list as setmaillist(1) reads them; raises BadFormat where it is none."""
    *whole, rest = content.split(b"\0")
    for command in whole:
        if b"\n" in command or not (_is_address(command) or command.startswith(_FILE)):
            raise BadFormat
        yield command + b"\n"
    if rest:
        raise BadFormat
