"""What a mail server answers (RFC 5321 4.2): octets in, replies out, every size bounded.

Pure. Whatever the octets were, the text of a reply holds no control character but the newline at the end of each of
its lines, so a report made of it cannot forge a line in a log or a bounce.
"""

import re
from dataclasses import dataclass

# RFC 5321 4.5.3.1.5: a reply line has at most 512 octets. Eight times that is more than any server in use sends.
LINE_MAX_OCTETS = 4_096

# EHLO answers have a line for each extension, a few dozen; help texts some hundred. 10^6 lines are an attack.
LINES_MAX = 500

# What one reply may cost in all before the connection is given up: a reply is read whole before it is acted on.
REPLY_MAX_OCTETS = 64 * 1024

# qmail-remote quotes this much of a reply in its report (HUGESMTPTEXT).
TEXT_MAX_OCTETS = 5_000

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?\Z", re.DOTALL)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Violation(Exception):
    """What the server sent is no reply: give the connection up, believe nothing of it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. `text` is every line with its code, each ended by a newline, cut at TEXT_MAX_OCTETS."""

    code: int
    text: str

    @property
    def accepts(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    def keywords(self) -> dict[str, str]:
        """What an EHLO reply offers (RFC 5321 4.1.1.1): keyword in capitals to its parameters."""
        offered: dict[str, str] = {}
        for line in self.text.split("\n")[1:]:
            keyword, _, parameters = line[4:].partition(" ")
            if keyword:
                offered.setdefault(keyword.upper(), parameters.strip())
        return offered


class ReplyReader:
    """Cuts a stream of octets into replies."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._lines: list[bytes] = []
        self._octets = 0
        self._code = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was received beyond the last whole reply."""
        return not self._unread and not self._lines

    def add(self, data: bytes) -> None:
        self._unread += data

    def next(self) -> Reply | None:
        """The next whole reply, or None until more octets come; raises Violation."""
        while (end := self._unread.find(b"\n", 0, LINE_MAX_OCTETS)) >= 0:
            line = bytes(self._unread[:end]).removesuffix(b"\r")
            del self._unread[: end + 1]
            if self._take(line, end + 1):
                return self._whole()
        if len(self._unread) >= LINE_MAX_OCTETS:
            raise Violation(f"a reply line of more than {LINE_MAX_OCTETS} octets")
        return None

    def _take(self, line: bytes, octets: int) -> bool:
        """Adds a line to the reply; whether it is the last one."""
        found = _LINE.match(line)
        if not found:
            raise Violation("a line that is no SMTP reply")
        code = int(found[1])
        if self._lines and code != self._code:
            raise Violation("a reply whose lines have different codes")
        self._code = code
        self._octets += octets
        if len(self._lines) >= LINES_MAX or self._octets > REPLY_MAX_OCTETS:
            raise Violation("a reply without end")
        self._lines.append(line)
        return found[2] != b"-"

    def _whole(self) -> Reply:
        kept = b"\n".join(self._lines)[:TEXT_MAX_OCTETS].decode("utf-8", "replace")
        self._lines.clear()
        self._octets = 0
        text = "".join(f"{_CONTROLS.sub('?', line)}\n" for line in kept.split("\n"))
        return Reply(self._code, text)
