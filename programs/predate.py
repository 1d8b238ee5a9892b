"""predate(1): runs a program with a Date field in local time in front of standard input, and exits as it does."""

import os
import time
from collections.abc import Sequence

from programs.complaint import PERMANENT, TEMPORARY, Fatal, because, die, reported

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_READ_OCTETS = 128 * 1024


def main(words: Sequence[str]) -> int:
    """The program's exit status; 100 without a program, 111 when it cannot be run or crashes."""
    if not words:
        return die(PERMANENT, "predate: usage: predate child")
    return reported("predate", run, words)


def run(words: Sequence[str]) -> int:
    """As `main`, with Fatal for what goes wrong here; the words are the program's."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a program that has seen enough may end first
    outlet, inlet = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        raise because("unable to fork: ", error) from error
    if pid == 0:
        os._exit(reported("predate", lambda words: _become(outlet, words), words))
    os.close(outlet)
    _pour(inlet)
    os.close(inlet)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        raise Fatal(TEMPORARY, "child crashed")
    return os.waitstatus_to_exitcode(status)


def _become(outlet: int, words: Sequence[str]) -> int:
    import signal

    os.dup2(outlet, 0)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execvp(words[0], list(words))
    except OSError as error:
        raise because(f"unable to run {words[0]}: ", error) from error


def _pour(inlet: int) -> None:
    try:
        octets = date_field().encode("ascii")
        while octets:
            rest = memoryview(octets)
            while rest:
                rest = rest[os.write(inlet, rest) :]
            octets = os.read(0, _READ_OCTETS)
    except OSError:
        pass  # as in qmail: what could not be read or taken is missing, and the program decides


def date_field() -> str:
    """`Date: 22 Nov 2026 20:38:17 +0800`, now, in the local zone."""
    from runtime.clock import SystemClock

    when = time.localtime(SystemClock().wall_ms() // 1000)
    minutes = (abs(when.tm_gmtoff) + 30) // 60
    zone = f"{'-' if when.tm_gmtoff < 0 else '+'}{minutes // 60:02}{minutes % 60:02}"
    return f"Date: {when.tm_mday} {_MONTHS[when.tm_mon - 1]} {when.tm_year} {time.strftime('%H:%M:%S', when)} {zone}\n"
