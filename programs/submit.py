"""Hands mail to the queue over local's submission socket, or to the program that $QMAILQUEUE names.

Knows qmail-queue's interface (a message, then an envelope `F<sender>\\0T<recipient>\\0...\\0`), its exit codes and the
words that qmail's clients say for them; knows nothing of headers. What the other end did not confirm was not queued as
far as anybody here may say: the answer is then a temporary exit code, never success.
"""

import os
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence

from programs import place

ADDRESS_TOO_LONG = 11
REFUSED = 31
READ_ERROR = 54
TIMEOUT = 52
TOLD_LATER = 71
SILENT = 72
NOT_REACHED = 73
BROKEN = 74
NOT_EXECUTED = 120

# Exit codes of qmail-queue(8) and what qmail's clients make of them (qmail.c). D is permanent, Z temporary.
_WORDS = {
    11: "Denvelope address too long for qq (#5.1.3)",
    115: "Denvelope address too long for qq (#5.1.3)",
    31: "Dmail server permanently rejected message (#5.3.0)",
    51: "Zqq out of memory (#4.3.0)",
    52: "Zqq timeout (#4.3.0)",
    53: "Zqq write error or disk full (#4.3.0)",
    0: "Zqq read error (#4.3.0)",
    54: "Zqq read error (#4.3.0)",
    55: "Zqq unable to read configuration (#4.3.0)",
    56: "Zqq trouble making network connection (#4.3.0)",
    61: "Zqq trouble in home directory (#4.3.0)",
    62: "Zqq trouble creating files in queue (#4.3.0)",
    63: "Zqq trouble creating files in queue (#4.3.0)",
    64: "Zqq trouble creating files in queue (#4.3.0)",
    65: "Zqq trouble creating files in queue (#4.3.0)",
    66: "Zqq trouble creating files in queue (#4.3.0)",
    71: "Zmail server temporarily rejected message (#4.3.0)",
    72: "Zconnection to mail server timed out (#4.4.1)",
    73: "Zconnection to mail server rejected (#4.4.1)",
    74: "Zcommunication with mail server failed (#4.4.2)",
    81: "Zqq internal bug (#4.3.0)",
    91: "Zqq internal bug (#4.3.0)",
    120: "Zunable to exec qq (#4.3.0)",
}
_PERMANENT_WORDS = "Dqq permanent problem (#5.3.0)"  # of every other code from 11 to 40
_TEMPORARY_WORDS = "Zqq temporary problem (#4.3.0)"
_CRASHED_WORDS = "qq crashed (#4.3.0)"

_SIZE = struct.Struct("!I")
_PIECE_OCTETS = 64 * 1024  # local takes smaller ones only at the end
_ANSWER_MAX_OCTETS = 1_024

# For how long local may say nothing. Finding out what became of a message while the queue is replaced takes it a minute
# and a half; with a full house in front, longer.
SILENCE_S = 600.0
# A service that restarts is back within seconds, and many who call a program never look at its exit status.
_WAIT_FOR_SOCKET_S = 10.0
# A user who has too many connections is told to come back: then the others are queued first.
_WAIT_FOR_TURN_S = 120.0
# For how long a local may be silent at the beginning, where it has nothing to do but to say that it is there.
_GREETING_S = 20.0
_PAUSE_S = 0.2
# When there are several locals, what the most knowing of them said.
_TELLING = (NOT_REACHED, SILENT, TOLD_LATER)


class NotQueued(Exception):
    """The message was not queued, or nobody can say so: qmail-queue's exit code and what to tell a person."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code = code
        self.permanent, words = explained(code)
        self.text = text or words
        super().__init__(self.text)


def explained(code: int) -> tuple[bool, str]:
    """Whether the exit code of qmail-queue is permanent, and qmail's words for it."""
    words = _WORDS.get(code) or (_PERMANENT_WORDS if 11 <= code <= 40 else _TEMPORARY_WORDS)
    return words.startswith("D"), words[1:]


def submit(sender: bytes, recipients: Sequence[bytes], message: Iterable[bytes]) -> str:
    """Queues the message and returns what qmail calls `qp`; raises NotQueued. What iterating `message` raises passes
    through, and then nothing is queued."""
    if any(b"\0" in one for one in (sender, *recipients)):
        raise NotQueued(REFUSED, "envelope address with a NUL octet (#5.1.3)")
    envelope = b"F%b\0%b\0" % (sender, b"".join(b"T%b\0" % one for one in recipients))
    return hand_in(message, (envelope,))


def hand_in(message: Iterable[bytes], envelope: Iterable[bytes]) -> str:
    """As `submit`, with the envelope in qmail-queue's octets; `envelope` is iterated when `message` has ended."""
    program = os.environ.get("QMAILQUEUE")
    if program:
        return _run(program, message, envelope)
    with _connected() as sock:
        try:
            for part in (message, envelope):
                for piece in _pieces(part):
                    sock.sendall(_SIZE.pack(len(piece)) + piece, socket.MSG_NOSIGNAL)
                sock.sendall(_SIZE.pack(0), socket.MSG_NOSIGNAL)
        except TimeoutError as error:
            raise NotQueued(SILENT) from error
        except ConnectionError:
            pass  # it has answered before the end, or it is gone: what can be read tells
        return _queued_as(_answer(sock))


def _pieces(part: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets in pieces of one size; only the last is smaller."""
    held = bytearray()
    for octets in part:
        held += octets
        while len(held) >= _PIECE_OCTETS:
            yield bytes(held[:_PIECE_OCTETS])
            del held[:_PIECE_OCTETS]
    if held:
        yield bytes(held)


def _answer(sock: socket.socket) -> bytes:
    answer = b""
    try:
        while not answer.endswith(b"\n") and len(answer) < _ANSWER_MAX_OCTETS:
            octets = sock.recv(_ANSWER_MAX_OCTETS)
            if not octets:
                break
            answer += octets
    except TimeoutError as error:
        raise NotQueued(SILENT) from error
    except OSError as error:
        raise NotQueued(BROKEN) from error
    return answer


def _queued_as(answer: bytes) -> str:
    """`K<id>` is the id; `<exit code> <text>` is NotQueued, and so is everything else, above all an answer cut off."""
    if answer.startswith(b"K") and answer.endswith(b"\n"):
        return answer[1:-1].decode("ascii", "replace")
    code, _, text = answer.rstrip(b"\n").partition(b" ")
    if answer.endswith(b"\n") and code.isdigit() and len(code) <= 3:
        raise NotQueued(int(code), text.decode("utf-8", "replace"))
    raise NotQueued(BROKEN)


# -- local's sockets --------------------------------------------------------------------------------------------------


def _connected() -> socket.socket:
    """A connection to some local; waits a while when there is a directory for its sockets and nobody answers there."""
    began_s = None
    while True:
        directories = list(place.socket_directories())
        told = [NOT_REACHED]
        for path in (path for directory in directories for path in _sockets(directory)):
            sock, code = _greeted(path)
            if sock is not None:
                return sock
            told.append(code)
        from runtime.clock import SystemClock  # takes as long as all the rest, and is seldom needed

        now = SystemClock().monotonic()
        began_s = began_s or now
        if not directories or now >= began_s + (_WAIT_FOR_TURN_S if TOLD_LATER in told else _WAIT_FOR_SOCKET_S):
            raise NotQueued(max(told, key=_TELLING.index))
        select.select((), (), (), _PAUSE_S)


def _sockets(directory: str) -> list[str]:
    """The sockets there, beginning with another one in each process; a leading dot is one that is being made."""
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return []
    first = os.getpid() % (len(names) or 1)
    return [os.path.join(directory, name) for name in names[first:] + names[:first]]


def _greeted(path: str) -> tuple[socket.socket | None, int]:
    """A connection whose turn it is, or why not."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_GREETING_S)
    try:
        _connect(sock, path)
        greeting = sock.recv(_ANSWER_MAX_OCTETS)
    except TimeoutError:
        greeting, code = b"", SILENT
    except OSError:  # a local that is gone, or a file that is no socket
        greeting, code = b"", NOT_REACHED
    else:
        code = TOLD_LATER
    if greeting == b"+\n":
        sock.settimeout(SILENCE_S)
        return sock, 0
    sock.close()
    return None, code


def _connect(sock: socket.socket, path: str) -> None:
    """By way of the directory's descriptor: the path may be longer than the 107 octets of a socket's."""
    directory, name = os.path.split(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)


# -- $QMAILQUEUE ------------------------------------------------------------------------------------------------------


def _run(program: str, message: Iterable[bytes], envelope: Iterable[bytes]) -> str:
    """As netqmail: the program gets the message on descriptor 0 and the envelope on 1, and its exit code decides."""
    import signal

    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a program that has seen enough may end before the end
    message_end, message_in = os.pipe()
    envelope_end, envelope_in = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _execute(program, message_end, envelope_end)
        os.close(message_end)
        os.close(envelope_end)
        whole = False
        try:
            whole = _pour(message, message_in)
            os.close(message_in)
            message_in = -1
            whole = _pour(envelope, envelope_in) and whole
        finally:
            for fd in (message_in, envelope_in):
                if fd >= 0:
                    os.close(fd)
            _, status = os.waitpid(pid, 0)
    finally:
        signal.signal(signal.SIGPIPE, before)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise NotQueued(81, _CRASHED_WORDS)
    if code or not whole:
        raise NotQueued(code or READ_ERROR)
    return str(pid)


def _pour(part: Iterable[bytes], fd: int) -> bool:
    try:
        for octets in part:
            rest = memoryview(octets)
            while rest:
                rest = rest[os.write(fd, rest) :]
    except BrokenPipeError:
        return False
    return True


def _execute(program: str, message_end: int, envelope_end: int) -> None:
    """Becomes the program, in a fresh fork; the descriptors are not inherited unless they are 0 and 1."""
    import signal

    try:
        # Out of the way of 0 and 1 first: in a caller without standard input a pipe's end may have either number.
        held = [os.dup(fd) if fd < 3 else fd for fd in (message_end, envelope_end)]
        os.dup2(held[0], 0)
        os.dup2(held[1], 1)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execv(program, [program])
    finally:
        os._exit(NOT_EXECUTED)
