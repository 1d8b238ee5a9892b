"""What the forwarding databases and the binary mailing lists of fastforward hold, and how it is shown.

Pure: knows what stands under `:target` (commands, each with a NUL behind it) and `?target` (the owner's address) in a
cdb, and a list's lines. The tables that are compiled are mail/forwardtable.py and mail/aliases.py; who obeys the
commands is programs/fastforward.py, for whose start this module imports little.
"""

from collections.abc import Iterable, Iterator

# Longer ones reach nobody, and one that did would fill the envelope of everybody beside it (newaliases(1)).
ADDRESS_MAX_OCTETS = 800
# fastforward passes over a longer address in a database or a list.
COMMAND_MAX_OCTETS = 900

FILE = (b".", b"/")
PROGRAM = (b"|", b"!")

# What means something to setforward, and what is not plain ASCII (C's signed octets are below a blank).
_ESCAPED = frozenset((*range(33), *b",:;\\#", *range(128, 256)))


class BadLine(ValueError):
    """A line that cannot be obeyed: qmail's words for it, and whether qmail calls it permanent (100) or not (111)."""

    def __init__(self, text: bytes, permanent: bool = False) -> None:
        self.text = text
        self.permanent = permanent
        super().__init__(text)


class BadFormat(ValueError):
    """This is no forwarding database, or no mailing list, that setforward or setmaillist made."""


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
    """As setforward reads it: a backslash before what it would take for something else."""
    return b"".join(b"\\%c" % octet if octet in _ESCAPED else b"%c" % octet for octet in octets)


def commands(value: bytes) -> Iterator[bytes]:
    """The commands of a database's or a list's octets that fastforward knows; what it does not know it passes over."""
    return filter(_is_known, value.split(b"\0")[:-1])


def _is_known(command: bytes) -> bool:
    return command.startswith(FILE + PROGRAM) or _is_address(command)


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
        if line.startswith(FILE):
            yield line + b"\0"
            continue
        if len(line) > ADDRESS_MAX_OCTETS:
            raise BadLine(b"addresses must be under 800 bytes")
        yield (line if line.startswith(b"&") else b"&" + line) + b"\0"


def mailing_list_printed(content: bytes) -> Iterator[bytes]:
    """The lines of a binary mailing list as setmaillist(1) reads them; raises BadFormat where it is none."""
    *whole, rest = content.split(b"\0")
    for command in whole:
        if b"\n" in command or not (_is_address(command) or command.startswith(FILE)):
            raise BadFormat
        yield command + b"\n"
    if rest:
        raise BadFormat
