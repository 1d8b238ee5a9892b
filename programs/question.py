"""A program that is asked about the message: exit 0 is yes, 111 is later, everything else is no (condredirect(1)).

It inherits every descriptor as it is, so the message on its standard input stands where the caller left it. A program
that does not exist says no, as in qmail.
"""

import errno
import os
import signal
from collections.abc import Sequence

from mail import trouble
from programs.complaint import TEMPORARY, Fatal

_SHELL = "/bin/sh"
_DEFAULT_PATH = "/bin:/usr/bin"  # execvp(3), where PATH is not set

# execvp(3) looks on in the next directory after these.
_LOOK_ON = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ESTALE, errno.ENODEV, errno.ETIMEDOUT)


def agrees(words: Sequence[str]) -> bool:
    """Whether the program with these arguments exits 0; Fatal (111) when it wants to be asked later or crashes."""
    try:
        pid = _start(words)
    except OSError as error:
        if trouble.is_temporary(error.errno):
            raise Fatal(TEMPORARY, "temporary child error") from error
        return False
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise Fatal(TEMPORARY, "child crashed")
    code = os.waitstatus_to_exitcode(status)
    if code == TEMPORARY:
        raise Fatal(TEMPORARY, "temporary child error")
    return code == 0


def _start(words: Sequence[str]) -> int:
    """execvp(3) in a process of its own, a script without `#!` by the shell included; OSError when nothing started."""
    denied: OSError | None = None
    missing = OSError(errno.ENOENT, "no such program")
    for path in _candidates(words[0]):
        try:
            return _spawn(path, words)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                return _spawn(_SHELL, (_SHELL, path, *words[1:]))
            if error.errno not in _LOOK_ON:
                raise
            if error.errno == errno.EACCES:
                denied = error
            missing = error
    raise denied or missing


def _candidates(name: str) -> Sequence[str]:
    if not name or "/" in name:
        return (name,) if name else ()
    return [os.path.join(directory, name) for directory in os.environ.get("PATH", _DEFAULT_PATH).split(":")]


def _spawn(path: str, words: Sequence[str]) -> int:
    # Python ignores these two, and what is ignored stays ignored over exec.
    return os.posix_spawn(path, list(words), os.environ, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ))
