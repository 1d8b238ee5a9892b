"""Foreign text on a terminal: what does not print is not sent there. Pure.

A sender, a report, a header line may hold escape sequences, or characters that turn the direction of writing.
"""

import codecs
import json
import re
from typing import Any

_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True)
_DELETE = re.compile("\x7f")


def plain(text: str) -> str:
    """One line of text; what does not print becomes _, as in qmail-qread."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "_" for char in text)


def octets(text: str) -> bytes:
    """The text as qmail's programs show it: every octet but printable ASCII becomes _."""
    raw = text.encode("utf-8", "surrogateescape")
    return raw if raw.isascii() and text.isprintable() else bytes(one if 32 <= one <= 126 else 95 for one in raw)


def json_line(value: Any) -> str:
    """A JSON object in printable ASCII, without a line end."""
    return _DELETE.sub("\\\\u007f", _ENCODER.encode(value))


class Terminal:
    """Turns octets of a message into text for a terminal, piece by piece; lines and tabs stay."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def show(self, data: bytes, last: bool = False) -> str:
        """What may be written of the octets so far."""
        text = self._decoder.decode(data, last)
        return "".join(char if char.isprintable() or char in "\n\t" else "_" for char in text)
