"""A program for somebody's .qmail that tries what it may not, and says what it got, a line each: `word place`.

    python3 burglar.py STATE SETUID-PROGRAM PID,… PORT,…

Runs with the standard library alone, as whoever it is, and changes nothing that it should not be able to change.
"""

import ctypes
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable

_SECONDS = 1.5
_PTRACE_SEIZE = 0x4206
_PTRACE_DETACH = 17
# Of HTTP/2, with SETTINGS: a gRPC server that takes us answers with SETTINGS of its own.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_libc = ctypes.CDLL(None, use_errno=True)


def got(word: str, place: object) -> None:
    print(word, place, flush=True)


def tried(action: Callable[[], object]) -> bool:
    """Whether it worked."""
    try:
        action()
    except (OSError, ValueError):
        return False
    return True


def search(folder: str) -> None:
    """What of other people's in the state directory may be read, and written."""
    for where, folders, files in os.walk(folder):
        if where == os.getcwd():
            folders.clear()
            continue
        for name in files:
            path = os.path.join(where, name)
            if os.access(path, os.R_OK) and tried(lambda: open(path, "rb").close()):  # noqa: B023
                got("read", path)
            if os.access(path, os.W_OK):
                got("write", path)
        if os.access(where, os.W_OK):
            got("write", where)


def spy(pid: int) -> None:
    """Another process: its memory, its environment, its descriptors, its life."""
    mine = os.stat(f"/proc/{pid}").st_uid == os.getuid()
    for name in ("environ", "mem", "maps", "fd", "cwd", "root", "exe", "io", "auxv"):
        path = f"/proc/{pid}/{name}"
        opened = (lambda: os.readlink(path)) if name in ("cwd", "root", "exe") else lambda: _first(path)  # noqa: B023
        if tried(opened):
            got("proc", path)
    if not mine and tried(lambda: os.kill(pid, signal.SIGCONT)):
        got("signal", pid)
    if not _libc.ptrace(_PTRACE_SEIZE, pid, None, None):
        got("ptrace", pid)
        _libc.ptrace(_PTRACE_DETACH, pid, None, None)


def _first(path: str) -> None:
    if os.path.isdir(path):
        for one in os.listdir(path):
            os.readlink(f"{path}/{one}")
        return
    with open(path, "rb", buffering=0) as file:
        file.read(1)


def knock(port: int) -> None:
    """A port of the services: as one of them without a key, and as a client of Redis without a password."""
    for words in (b"PING\r\n", b"EVAL 'return 1' 0\r\n", b"AUTH default x\r\nPING\r\n"):
        answer = _said(port, words, False)
        if b"+PONG" in answer or b":1\r\n" in answer:
            got("redis", port)
    for encrypted in (False, True):
        if _said(port, _PREFACE, encrypted)[3:4] == b"\4":
            got("grpc", port)


def _said(port: int, words: bytes, encrypted: bool) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(("127.0.0.1", port), _SECONDS) as line:
            if not encrypted:
                line.sendall(words)
                return line.recv(4_096)
            with context.wrap_socket(line) as sealed:
                sealed.sendall(words)
                return sealed.recv(4_096)
    except OSError:  # ssl's errors are too
        return b""


def rise(program: str) -> None:
    """More rights than it was given."""
    for words in ((program,), ("su", "-c", "id -u", "root"), ("sudo", "-n", "id", "-u")):
        try:
            ran = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if ran.stdout.strip() == b"0":
            got("root", words[0])
    ways: dict[str, Callable[[], object]] = {
        "setuid": lambda: os.setuid(0),
        "setgid": lambda: os.setgid(0),
        "setgroups": lambda: os.setgroups([0]),
        "nice": lambda: os.nice(-20),
        "chroot": lambda: os.chroot("."),
    }
    for name, way in ways.items():
        if tried(way):
            got("may", name)
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or tried(lambda: resource.setrlimit(kind, (hard + 1, hard + 1))):  # noqa: B023
            got("limit", kind)


def main(state: str, program: str, pids: str, ports: str) -> None:
    search(state)
    for pid in pids.split(","):
        if int(pid) not in (os.getpid(), os.getppid()) and os.path.exists(f"/proc/{pid}"):
            spy(int(pid))
    for port in ports.split(","):
        knock(int(port))
    rise(program)
    print("that was all", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
