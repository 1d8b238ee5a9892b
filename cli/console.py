"""Where the services' lines go: a file for each instance, and this process's standard output with a prefix.

A reader of the standard output who stops reading must not stop the mail: a thread writes there, from a bounded buffer,
and what does not fit is counted and left out. The files have everything, up to their size limit.
"""

import contextlib
import os
import threading
from collections import deque

from runtime.durable import Disk

# A terminal that is held for a while loses nothing below this.
_BUFFER_MAX_OCTETS = 4 * 1024 * 1024
# An instance keeps two files of this size; what happened to a message is kept for days in the event files.
_LOG_MAX_OCTETS = 32 * 1024 * 1024
# A line that never ends is shown in pieces.
_LINE_MAX_OCTETS = 64 * 1024


class Console:
    """Standard output, written by a thread of its own."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._waiting: deque[bytes] = deque()
        self._octets = 0
        self._left_out = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="console", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """One line of `up` itself."""
        self.show(f"{text}\n".encode("utf-8", "backslashreplace"))

    def show(self, lines: bytes) -> None:
        """Whole lines; left out when the reader is too far behind."""
        with self._changed:
            if self._closed or self._octets + len(lines) > _BUFFER_MAX_OCTETS:
                self._left_out += lines.count(b"\n")
                return
            if self._left_out:
                note = f"up: {self._left_out} lines left out here, because nobody read them\n".encode()
                self._left_out = 0
                self._waiting.append(note)
                self._octets += len(note)
            self._waiting.append(lines)
            self._octets += len(lines)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Writes what is waiting, for at most that long."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                lines = b"".join(self._waiting)
                self._waiting.clear()
                self._octets = 0
                if not lines and self._closed:
                    return
            view = memoryview(lines)
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except OSError:  # nobody reads any more; the files have it
                    return


class LineLog:
    """The output of one instance: to its file, and to the console with its name before each line."""

    def __init__(self, name: str, path: str, console: Console) -> None:
        self._path = path
        self._prefix = f"{name}: ".encode()
        self._console = console
        self._rest = b""
        self._fd = -1
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """What came from the process; returns the lines that it completed."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if not newline and len(rest) >= _LINE_MAX_OCTETS:
            whole, rest = rest, b""
        self._rest = rest
        if not whole:
            return []
        self._keep(whole + b"\n")
        self._console.show(self._prefix + whole.replace(b"\n", b"\n" + self._prefix) + b"\n")
        return whole.split(b"\n")

    def end(self) -> list[bytes]:
        """The process is gone: a last line without its end is a line."""
        lines = self.feed(b"\n") if self._rest else []
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        return lines

    def _keep(self, lines: bytes) -> None:
        # A full disk must not stop the mail: what cannot be kept is still shown.
        with contextlib.suppress(OSError):
            if self._size + len(lines) > _LOG_MAX_OCTETS and self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
                Disk().rename(self._path, f"{self._path}.1")
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
                self._size = os.fstat(self._fd).st_size
            self._size += os.write(self._fd, lines)
