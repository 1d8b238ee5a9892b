"""A message taken apart the way qmail does it: the fields of its header, and the lines of its body.

Knows where a header ends and what a field's name is; knows nothing of what a field means. Octets in, octets out, line
ends are LF. The header is held in memory, so its size has a limit; the body is passed on line by line.
"""

from collections.abc import Iterable, Iterator

MBOX_LINE = b"MBOX-Line: "

_BLANKS = b" \t"
_BETWEEN = b" \t\r\n"


class TooLarge(ValueError):
    """The header has more octets than the caller allows."""


def valid(field: bytes) -> bool:
    """Whether this starts with a field's name and a colon: printable ASCII without blanks, blanks before the colon."""
    name, colon, _ = field.partition(b":")
    name = name.rstrip(_BLANKS)
    return bool(colon and name) and all(32 < octet < 127 for octet in name)


def name(field: bytes) -> bytes:
    """The field's name in lower case."""
    return field.partition(b":")[0].rstrip(_BLANKS).lower()


def value(field: bytes) -> bytes:
    """What stands behind the colon and its blanks, the LF at the end included."""
    return field.partition(b":")[2].lstrip(_BETWEEN)


def split(lines: Iterable[bytes], header_max_octets: int) -> tuple[list[bytes], Iterator[bytes]]:
    """The fields, continuation lines included, and the lines of the body with the empty line that parts the two.

    The header ends at an empty line or at a line that is no field, before which an empty line is then put; a line
    `From ` becomes the field MBOX-Line. A last line without LF gets one; a message that ends within its header has no
    body and no empty line. A line of more than `header_max_octets` may come in pieces. Raises TooLarge.
    """
    rest = _ended(lines)
    fields: list[list[bytes]] = []
    octets = 0
    for line in rest:
        if fields and line[:1] in (b" ", b"\t"):
            fields[-1].append(line)
        elif line == b"\n":
            return _joined(fields), _with((line,), rest)
        elif line.startswith(b"From "):
            fields.append([MBOX_LINE, line])
        elif valid(line):
            fields.append([line])
        else:
            return _joined(fields), _with((b"\n", line), rest)
        octets += len(line)
        if octets > header_max_octets:
            raise TooLarge(header_max_octets)
    return _joined(fields), iter(())


def _ended(lines: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for line in lines:
        if held:
            yield held
        held = line
    if held:
        yield held if held.endswith(b"\n") else held + b"\n"


def _joined(fields: list[list[bytes]]) -> list[bytes]:
    return [b"".join(parts) for parts in fields]


def _with(first: Iterable[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    yield from first
    yield from rest
