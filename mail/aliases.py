"""/etc/aliases and :include: files (newaliases(1), newinclude(1)): lines in, forwarding commands out.

Pure: knows how sendmail's table is read in fastforward's way, from right to left, and how a name without a host or a
domain is completed. Where the files are and what the commands are good for (mail/forwarding.py) is the caller's affair.
"""

from collections.abc import Callable, Iterator, Sequence

from mail import rfc822
from mail.forwarding import ADDRESS_MAX_OCTETS, BadLine
from mail.rfc822 import AT, ATOM, COLON, COMMA, COMMENT, DOT, LEFT, LITERAL, QUOTE, RIGHT, SEMI, Token

_WORDS = (ATOM, QUOTE, LITERAL)
_PHRASE = (COMMENT, ATOM, QUOTE, AT, DOT)
_INCLUDE = (ATOM, b"include")

# What the walk finds. An empty one in brackets is a mistake, an empty one between commas is nothing.
_ADDRESS, _BRACKETED, _FILE = 1, 2, 3


class Names:
    """What completes an address: qmail-header(5)'s defaulthost, defaultdomain and plusdomain."""

    def __init__(self, host: bytes, domain: bytes, plus: bytes) -> None:
        self.host = host
        self._domain = domain
        self._plus = plus

    def complete(self, address: bytes) -> bytes:
        """The address with its domain in full: `box@host` gets the domain, `box@host+` the plus domain."""
        if address.endswith(b"+"):
            address = address[:-1] + b"." + self._plus
        host = address[max(address.rfind(b"@"), 0) :]
        return address if b"." in host else address + b"." + self._domain


def instructions(table: bytes) -> Iterator[bytes]:
    """The lines of /etc/aliases, continuations joined, comments left out. What follows the last LF is no line: whoever
    is writing the table has not finished it."""
    instruction = b""
    for line in table.split(b"\n")[:-1]:
        if line.startswith((b" ", b"\t")):
            instruction += line + b"\n"
        elif line:
            yield from _meant(instruction)
            instruction = line + b"\n"
    yield from _meant(instruction)


def _meant(line: bytes) -> Iterator[bytes]:
    if line and not line.startswith(b"#"):
        yield line


def records(instruction: bytes, names: Names) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of the forwarding database for one instruction; none for an empty one. Raises BadLine."""
    alias = full = b""
    commands: list[bytes] = []
    for is_file, found, has_host in _found(instruction):
        if is_file:
            commands.append(_file(found) + b".bin")
        elif not has_host and found.startswith(b"|"):
            if b"\0" in found:
                raise BadLine(b"NUL not permitted in program names")
            commands.append(b"!" + found[1:])
        else:
            if alias:
                commands.append(b"&" + full)
            alias = _recipient(found, has_host)
            full = _bounded(names.complete(alias + names.host if alias.endswith(b"@") else alias))
    if bool(alias) != bool(commands):
        raise _unparsable(instruction)
    if commands:
        if alias.startswith(b"owner-"):
            yield b"?" + alias[len(b"owner-") :].lower(), full
        yield b":" + alias.lower(), b"".join(command + b"\0" for command in commands)


def _recipient(found: bytes, has_host: bool) -> bytes:
    if not found:
        raise BadLine(b"empty recipient addresses not permitted")
    if not has_host and found.startswith(b"/"):
        raise BadLine(b"file delivery " + _shown(found) + b" not supported")
    return found if has_host else found + b"@"


def _bounded(address: bytes) -> bytes:
    if len(address) > ADDRESS_MAX_OCTETS:
        raise BadLine(b"addresses over 800 bytes are not permitted", permanent=True)
    if b"\0" in address:
        raise BadLine(b"NUL not permitted in recipient addresses")
    return address


def included(line: bytes, names: Names) -> Iterator[bytes]:
    """The commands of one line of an :include: file, the rightmost first. Raises BadLine."""
    if line.startswith(b"#"):
        return
    for is_file, found, has_host in _found(line):
        if is_file and b"\n" in found:
            raise BadLine(b"newlines not permitted in :include: filenames")
        if is_file:
            yield _file(found)
        elif found:
            for opening, kind in ((b"/", b"file"), (b"|", b"program")):
                if not has_host and found.startswith(opening):
                    raise BadLine(kind + b" delivery " + _shown(found) + b" not supported")
            yield b"&" + _listed(names.complete(found if has_host else found + b"@" + names.host))


def _found(line: bytes) -> Iterator[tuple[bool, bytes, bool]]:
    """(is it a file's name, the octets, do they name a host) for everything in the line, the rightmost first."""
    try:
        for what, tokens in _parts(rfc822.tokenise(line)):
            if tokens or what != _ADDRESS:
                yield what == _FILE, rfc822.unquoted(tokens), any(kind == AT for kind, _ in tokens)
    except rfc822.Unparsable as error:
        raise _unparsable(line) from error


def _parts(tokens: Sequence[Token]) -> Iterator[tuple[int, list[Token]]]:
    """fastforward's walk: colons and semicolons only look like commas, two words with nothing between them are two."""
    part: list[Token] = []  # reversed
    word_may_follow = True
    at = len(tokens)
    while at > 0:
        at -= 1
        kind = tokens[at][0]
        if kind == RIGHT:
            yield _ADDRESS, part[::-1]
            opened = _before(tokens, at, lambda kind: kind != LEFT)
            yield _BRACKETED, list(tokens[opened:at])
            if not opened:
                raise rfc822.Unparsable("a bracket that was not opened")
            at = _before(tokens, opened - 1, lambda kind: kind in _PHRASE)
            part, word_may_follow = [], False
        elif kind in _WORDS:
            if not word_may_follow:
                yield _ADDRESS, part[::-1]
                part = []
            part.append(tokens[at])
            word_may_follow = False
        elif kind == COLON:
            if at >= 2 and tokens[at - 2][0] == COLON and tokens[at - 1] == _INCLUDE:
                yield _FILE, part[::-1]
                part = []
                at -= 2
        elif kind == COMMA:
            yield _ADDRESS, part[::-1]
            part, word_may_follow = [], True
        elif kind not in (SEMI, COMMENT):
            part.append(tokens[at])
            word_may_follow = True
    yield _ADDRESS, part[::-1]


def _before(tokens: Sequence[Token], at: int, belongs: Callable[[int], bool]) -> int:
    """Where the tokens before `at` begin whose kinds belong."""
    while at > 0 and belongs(tokens[at - 1][0]):
        at -= 1
    return at


def _file(name: bytes) -> bytes:
    """The name of an :include: file as a command; a relative one says so."""
    if not name:
        raise BadLine(b"empty :include: filenames not permitted")
    if b"\0" in name:
        raise BadLine(b"NUL not permitted in :include: filenames")
    return name if name.startswith((b".", b"/")) else b"./" + name


def _listed(address: bytes) -> bytes:
    if b"\n" in address:
        raise BadLine(b"newlines not permitted in recipient addresses")
    if b"\0" in address:
        raise BadLine(b"NUL not permitted in recipient addresses")
    if len(address) > ADDRESS_MAX_OCTETS:
        raise BadLine(b"addresses must be under 800 bytes")
    if address.endswith((b" ", b"\t")):
        raise BadLine(b"spaces and tabs not permitted at ends of addresses")
    return address


def _unparsable(line: bytes) -> BadLine:
    return BadLine(b"unable to parse this line: " + _shown(line))


def _shown(text: bytes) -> bytes:
    """As C shows it: up to a NUL."""
    return text.partition(b"\0")[0]
