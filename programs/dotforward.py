"""dot-forward(1): obeys a sendmail `.forward` file from within `.qmail`, as dot-forward 0.71 does.

A file is lists of addresses (RFC 822), among them commands (`"|vacation joe"`) and the user himself, which leaves the
message to the next line of `.qmail`. The file is understood to its end before anything is done, so a mistake in a line
does not run the commands before it at every retry; 0.71 ran them.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mail import control, limits, rfc822, trouble
from mail.rfc822 import ATOM, COLON, COMMA, COMMENT, DOT, LEFT, LITERAL, QUOTE, RIGHT, SEMI, Token, Unparsable
from programs import place
from programs.complaint import PERMANENT, TEMPORARY, Fatal, because, die, octets, reported, say
from programs.forward import hand_on

_ACTED = 99  # qmail-command(8): the rest of .qmail is not for this message
_SHELL = "/bin/sh"
_READ_OCTETS = 128 * 1024

# What a .qmail file may have as well; a .forward is read whole before it is obeyed.
FILE_MAX_OCTETS = 64 * limits.KIB

# qmail-command(8): these exit codes are for ever.
_FOR_EVER = (100, 64, 65, 70, 76, 77, 78, 112)

# Before `<address>`, these are somebody's name.
_PHRASE = (COMMENT, ATOM, QUOTE, rfc822.AT, DOT)

FORWARD = "forward"
PIPE = "pipe through"
DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Instruction:
    """FORWARD to an address, PIPE through a command, or DIRECT delivery."""

    kind: str
    what: bytes = b""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Whose file it is, and what completes an address that lacks its end (qmail-header(5))."""

    user: bytes
    host: bytes
    defaulthost: bytes
    defaultdomain: bytes
    plusdomain: bytes


def main(words: Sequence[str]) -> int:
    """99 when a file was obeyed, 0 when the rest of `.qmail` is to deliver; 100 or 111 with a reason."""
    acting, files = True, list(words)
    while files and files[0].startswith("-") and files[0] != "-":
        option = files.pop(0)
        if option == "--":
            break
        for letter in option[1:]:
            if letter not in "nN":
                say(b"dot-forward: illegal option -- " + octets(letter))
                return die(PERMANENT, "dot-forward: usage: dot-forward [ -nN ] file ...")
            acting = letter == "N"
    return reported("dot-forward", _obey if acting else _show, files)


def _obey(files: Sequence[str]) -> int:
    here = _surroundings()
    for file in files:
        todo = list(_read(file, here))
        if todo:
            return _carry_out(todo)
    return 0


def _show(files: Sequence[str]) -> int:
    here = _surroundings()
    for file in files:
        kinds = set()
        for instruction in _read(file, here):
            kinds.add(instruction.kind)
            if instruction.kind != DIRECT:
                say(instruction.kind.encode() + b" " + instruction.what)
        if DIRECT in kinds:
            break
        if kinds:
            return _ACTED
        if os.path.exists(file):
            say(b"skipping empty file " + octets(file))
    return die(0, "direct delivery")


# -- what a file says -------------------------------------------------------------------------------------------------


def instructions(text: bytes, here: Surroundings) -> Iterator[Instruction]:
    """What a `.forward` file says, line by line, and the last address of a line first; raises Unparsable with the line,
    and Fatal for a delivery to a file, `:include:` among them."""
    for line in text.splitlines(keepends=True):
        if line.startswith(b"#"):
            continue
        try:
            if b"\0" in line:
                raise Unparsable(line)
            for tokens in addresses(rfc822.tokenise(line)):
                yield from _meant(tokens, here)
        except Unparsable as error:
            raise Unparsable(line) from error


def addresses(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The addresses of a list, from right to left, where RFC 822 needs no looking ahead. Colons and semicolons of
    groups count for nothing; raises Unparsable for a `>` without its `<`."""
    found: list[Token] = []  # reversed
    word_may_join = True
    at = len(tokens)
    while at:
        at -= 1
        kind = tokens[at][0]
        if kind in (SEMI, COLON, COMMENT):
            continue
        ends = kind in (RIGHT, COMMA) or (kind in (ATOM, QUOTE, LITERAL) and not word_may_join)
        if ends and found:
            yield found[::-1]
            found = []
        word_may_join = kind not in (RIGHT, ATOM, QUOTE, LITERAL)
        if kind == RIGHT:
            closing = at
            while at and tokens[at - 1][0] != LEFT:
                at -= 1
            yield list(tokens[at:closing])
            if not at:
                raise Unparsable("a bracket that was not opened")
            at -= 1
            while at and tokens[at - 1][0] in _PHRASE:
                at -= 1
        elif kind != COMMA:
            found.append(tokens[at])
    if found:
        yield found[::-1]


def _meant(tokens: Sequence[Token], here: Surroundings) -> Iterator[Instruction]:
    address = rfc822.unquoted(tokens)
    has_host = any(kind == rfc822.AT for kind, _ in tokens)
    mine = here.user + b"@" + here.host if has_host else here.user
    if not address:
        return
    if address.lower() == mine.lower():
        yield Instruction(DIRECT)
    elif has_host:
        yield Instruction(FORWARD, _completed(address, here))
    elif address.startswith(b"/"):
        raise Fatal(TEMPORARY, b"file delivery " + address + b" not supported")
    elif address.startswith(b"|"):
        yield Instruction(PIPE, address[1:])
    else:
        yield Instruction(FORWARD, _completed(address + b"@" + here.defaulthost, here))


def _completed(address: bytes, here: Surroundings) -> bytes:
    if address.endswith(b"+"):
        address = address[:-1] + b"." + here.plusdomain
    if b"." not in address[address.rfind(b"@") :]:
        address += b"." + here.defaultdomain
    return address


def _read(path: str, here: Surroundings) -> Iterator[Instruction]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise because(f"unable to open {path}: ", error) from error
    try:
        text = b""
        while len(text) <= FILE_MAX_OCTETS and (more := os.read(fd, FILE_MAX_OCTETS)):
            text += more
    except OSError as error:
        raise because(f"unable to read {path}: ", error) from error
    finally:
        os.close(fd)
    if len(text) > FILE_MAX_OCTETS:
        raise Fatal(TEMPORARY, f"unable to read {path}: file too big")
    try:
        yield from instructions(text, here)
    except Unparsable as error:
        raise Fatal(TEMPORARY, b"unable to parse this line: " + error.args[0]) from error


def _surroundings() -> Surroundings:
    try:
        me = _control("me", b"me")
        return Surroundings(
            user=os.environb.get(b"USER", b""),
            host=os.environb.get(b"HOST", b""),
            defaulthost=_control("defaulthost", me),
            defaultdomain=_control("defaultdomain", me),
            plusdomain=_control("plusdomain", me),
        )
    except OSError as error:
        raise because("unable to read controls: ", error) from error


def _control(name: str, otherwise: bytes) -> bytes:
    text = place.control_text(name)
    return otherwise if text is None else os.fsencode(control.line(os.fsdecode(text)))


# -- what is done about it --------------------------------------------------------------------------------------------


def _carry_out(todo: Sequence[Instruction]) -> int:
    for instruction in todo:
        if instruction.kind == PIPE:
            _run(instruction.what)
    targets = [instruction.what for instruction in todo if instruction.kind == FORWARD]
    if targets:
        sender, line = os.environb.get(b"NEWSENDER", b""), os.environb.get(b"DTLINE", b"")
        say(b"dot-forward: info: qp " + hand_on(sender, targets, line, "unable to forward message: "))
    return 0 if any(instruction.kind == DIRECT for instruction in todo) else _ACTED


def _run(command: bytes) -> None:
    """The command reads the message as in an mbox; afterwards the message stands at its beginning again. Fatal when
    the command failed, with nothing to say when it could say something itself."""
    ours = signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a command may end before it has read everything
    reading, writing = os.pipe()
    pid = os.posix_spawn(
        _SHELL,
        (_SHELL, b"-c", command),
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0)],
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
    os.close(reading)
    try:
        _feed(writing)
    finally:
        os.close(writing)
        signal.signal(signal.SIGPIPE, ours)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise Fatal(TEMPORARY, "child crashed")
    code = os.waitstatus_to_exitcode(status)
    if code:
        os._exit(PERMANENT if code in _FOR_EVER else TEMPORARY)
    try:
        os.lseek(0, 0, os.SEEK_SET)
    except OSError as error:
        raise because("unable to rewind input: ", error) from error


def _feed(fd: int) -> None:
    pieces = [os.environb.get(variable, b"") for variable in (b"UFLINE", b"RPLINE", b"DTLINE")]
    piece = b"".join(pieces)
    while True:
        try:
            while piece:
                piece = piece[os.write(fd, piece) :]
        except BrokenPipeError:
            return
        try:
            piece = os.read(0, _READ_OCTETS)
        except OSError as error:
            raise Fatal(TEMPORARY, f"unable to read message: {trouble.words(error.errno)}") from error
        if not piece:
            return
