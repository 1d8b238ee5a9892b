"""Header lines that we write. Every byte from outside is cut and cleaned here, so none can start a line of its own."""

import re
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9.@%+/=:\-\[\]]")
_CLEAN_MAX_CHARACTERS = 255


def clean(text: str) -> str:
    """Foreign text for a Received line: what qmail's safeput would not print becomes `?`."""
    return _NOT_PLAIN.sub("?", text[:_CLEAN_MAX_CHARACTERS])


def date(unix_s: int) -> str:
    """qmail's date: `26 Sep 1995 04:46:54 -0000`."""
    when = datetime.fromtimestamp(unix_s, UTC)
    return f"{when.day} {_MONTHS[when.month - 1]} {when:%Y %H:%M:%S} -0000"


def received_from_network(peer: str, helo: str, ours: str, how: str, date_and_id: tuple[int, str]) -> str:
    """The trace line of a message taken over SMTP (RFC 5321 4.4), with LF line ends."""
    unix_s, message = date_and_id
    return (
        f"Received: from {clean(helo) or 'unknown'} ([{clean(peer)}])\n"
        f"  by {clean(ours)} with {how} id {message}; {date(unix_s)}\n"
    )


def received_from_local(message: str, why: str, unix_s: int) -> str:
    """qmail-queue's trace line: `why` is `for bounce`, `by alias`, `by uid 7801`."""
    return f"Received: (qmail {message} invoked {why}); {date(unix_s)}\n"
