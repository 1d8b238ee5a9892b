"""The grammar of .qmail files (dot-qmail(5)): which file an address asks for, and what its lines say.

Pure: names and text in, values out. What cannot be carried out is a `Stop` in its place, because qmail works from the
top and learns of an error only when it gets there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mail.address import lowered
from mail.limits import RECIPIENTS_MAX
from services.local import texts

FILE_MAX_OCTETS = 64 * 1024  # a person's instructions; a list of thousands belongs into a list manager
INSTRUCTIONS_MAX = 100  # each may be a write and a sync, and they are all one delivery slot
FORWARDS_MAX = RECIPIENTS_MAX  # they cost next to nothing and become one message: an alias for a whole company


@dataclass(frozen=True, slots=True)
class Maildir:
    """`index` is the number of the line, from 0: the same at every attempt, and part of the Maildir file name."""

    index: int
    path: str


@dataclass(frozen=True, slots=True)
class Mbox:
    index: int
    path: str


@dataclass(frozen=True, slots=True)
class Program:
    index: int
    command: str


@dataclass(frozen=True, slots=True)
class Forward:
    index: int
    address: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Here the delivery is deferred with this report."""

    index: int
    report: str


Instruction = Maildir | Mbox | Program | Forward | Stop


def file_names(dash: str, ext: str) -> Iterator[str]:
    """The files to look for, in order. `/` is left alone, as in qmail; `..` cannot occur, for dots become colons."""
    safe = lowered(ext).replace(".", ":")
    yield f".qmail{dash}{safe}"
    for end in range(len(safe), -1, -1):
        if end == 0 or safe[end - 1] == "-":
            yield f".qmail{dash}{safe[:end]}default"


def owner_names(dash: str, ext: str) -> tuple[str, str]:
    """The files whose presence changes the sender of forwards: `…-owner` and `…-owner-default`."""
    first = next(file_names(dash, ext))
    return f"{first}-owner", f"{first}-owner-default"


def parse(content: bytes, forward_only: bool = False) -> tuple[Instruction, ...]:
    """The instructions of a file. `forward_only` is its x bit; a line `+list` has the same effect from there on."""
    if len(content) > FILE_MAX_OCTETS:
        return (Stop(0, texts.DOT_TOO_LONG),)
    if b"\0" in content:
        return (Stop(0, texts.DOT_NUL),)
    found: list[Instruction] = []
    for index, raw in enumerate(content.decode("utf-8", "surrogateescape").split("\n")):
        line = raw.rstrip(" \t")
        if not line and index == 0:
            return (Stop(0, texts.DOT_BLANK),)
        if line.startswith("+"):
            forward_only = forward_only or line == "+list"
            continue
        instruction = _instruction(index, line, forward_only)
        if instruction is not None:
            found.append(instruction)
    forwards = sum(isinstance(one, Forward) for one in found)
    if forwards > FORWARDS_MAX or len(found) - forwards > INSTRUCTIONS_MAX:
        return (Stop(0, texts.DOT_TOO_MANY),)
    return tuple(found)


def _instruction(index: int, line: str, forward_only: bool) -> Instruction | None:
    match line[:1]:
        case "" | "#":
            return None
        case "." | "/" if forward_only:
            return Stop(index, texts.DOT_FILE_IN_LIST)
        case "." | "/":
            return Maildir(index, line) if line.endswith("/") else Mbox(index, line)
        case "|" if forward_only:
            return Stop(index, texts.DOT_PROGRAM_IN_LIST)
        case "|":
            return Program(index, line[1:])
        case "&":
            return Forward(index, line[1:])
        case _:
            return Forward(index, line)
