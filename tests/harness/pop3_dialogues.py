"""Conversations in tests/dialogues/pop3-*.txt: one text, run against the pure protocol and against the port.

`M: NAME TEXT` is a message, oldest first; `C:` what the client sends, with CR LF, `c:` with a bare LF; `S:` a line of
the server, where … stands for anything and blanks at the end do not count; `X:` the server closes. Escapes are
Python's; {user}, {password} and {long} are filled in. Everything else is a comment.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

DIALOGUES = sorted((Path(__file__).resolve().parents[1] / "dialogues").glob("pop3-*.txt"))


@dataclass
class Dialogue:
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    client: list[bytes] = field(default_factory=list)
    server: list[str] = field(default_factory=list)

    def differs(self, said: bytes) -> str:
        """ "" when the server said what it should, and nothing else."""
        lines = said.decode("latin-1").split("\r\n")
        if lines.pop() != "":
            return f"the last line has no end: {said[-80:]!r}"
        for number, (wanted, got) in enumerate(zip(self.server, lines, strict=False), 1):
            pattern = ".*".join(re.escape(part) for part in wanted.rstrip(" ").split("…"))
            if not re.fullmatch(pattern, got.rstrip(" ")):
                return f"line {number} of the server is {got!r}, not {wanted!r}"
        if len(lines) != len(self.server):
            return f"{len(lines)} lines of the server instead of {len(self.server)}: {lines[len(self.server) :]}"
        return ""


def read(path: Path, user: str, password: str) -> Dialogue:
    dialogue = Dialogue()
    for line in path.read_text().splitlines():
        kind, text = line[:2], line[3:]
        text = text.replace("{user}", user).replace("{password}", password).replace("{long}", "A" * 2_000)
        if kind == "M:":
            name, _, body = text.partition(" ")
            dialogue.messages.append((name, _octets(body)))
        elif kind in ("C:", "c:"):
            dialogue.client.append(_octets(text) + (b"\r\n" if kind == "C:" else b"\n"))
        elif kind == "S:":
            dialogue.server.append(text)
    return dialogue


def _octets(text: str) -> bytes:
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")
