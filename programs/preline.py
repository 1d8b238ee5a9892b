"""preline(1): runs a program with the From_, Return-Path and Delivered-To lines before the message on its input.

For programs that read mail as it stands in an mbox, vacation(1) first of all.
"""

import errno
import os
import signal
from collections.abc import Iterator, Sequence

from mail import trouble
from programs.complaint import PERMANENT, TEMPORARY, Fatal, because, die, reported
from programs.options import Options

_VARIABLES = {"f": b"UFLINE", "r": b"RPLINE", "d": b"DTLINE"}
_READ_OCTETS = 128 * 1024
_SHELL = "/bin/sh"


def main(words: Sequence[str]) -> int:
    """The program's exit status; 100 when preline is called wrongly, 111 when the program cannot be served."""
    lines = {letter: os.environb.get(variable) for letter, variable in _VARIABLES.items()}
    options = Options("preline", words, "frdFRD")
    wanted = set(_VARIABLES)
    for letter, _ in options if None not in lines.values() else ():
        if letter.islower():
            wanted.discard(letter)
        elif letter.lower() in _VARIABLES:
            wanted.add(letter.lower())
        else:
            options.rest.clear()
    if None in lines.values() or not options.rest:
        return die(PERMANENT, "preline: usage: preline cmd [ arg ... ]")
    head = b"".join(line for letter, line in lines.items() if line and letter in wanted)
    return reported("preline", lambda command: _pipe(head, command), options.rest)


def _pipe(head: bytes, command: Sequence[str]) -> int:
    try:
        end, beginning = os.pipe()
    except OSError as error:
        raise because("unable to create pipe: ", error) from error
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        pid = os.fork()
    except OSError as error:
        raise because("unable to fork: ", error) from error
    if pid == 0:
        _become(end, command)
    os.close(end)
    _copy(head, beginning)
    os.close(beginning)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise Fatal(TEMPORARY, "child crashed")
    return os.waitstatus_to_exitcode(status)


def _copy(head: bytes, beginning: int) -> None:
    """A program that has read enough need not read all: its exit status says what it thinks of the message."""
    octets = head
    try:
        while True:
            rest = memoryview(octets)
            while rest:
                rest = rest[os.write(beginning, rest) :]
            octets = os.read(0, _READ_OCTETS)
            if not octets:
                return
    except BrokenPipeError:
        return
    except OSError as error:
        raise because("unable to copy input: ", error) from error


def _become(end: int, command: Sequence[str]) -> None:
    """execvp(3), with the pipe as standard input."""
    os.dup2(end, 0)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    why = OSError(errno.ENOENT, "")
    for path in _paths(command[0]):
        try:
            os.execv(path, list(command))
        except OSError as error:
            if error.errno == errno.ENOEXEC:  # a script that does not say whose
                os.execv(_SHELL, [_SHELL, path, *command[1:]])
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                why = error
    status = TEMPORARY if trouble.is_temporary(why.errno) else PERMANENT
    os._exit(die(status, f"preline: fatal: unable to run {command[0]}: {trouble.words(why.errno)}"))


def _paths(name: str) -> Iterator[str]:
    if "/" in name:
        yield name
    elif name:
        yield from (os.path.join(directory, name) for directory in os.get_exec_path())
