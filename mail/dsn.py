"""What a sender may ask to be told (RFC 3461): NOTIFY and ORCPT of a recipient, RET and ENVID of a message.

The grammar, held to the letter at every rim, because these octets come from strangers and end in commands to other
servers and in reports to other people. ENVID and ORCPT are kept as they were written, in xtext, which has no blank and
no control character; what they mean is decoded only where it is shown. Knows nothing of who reports what to whom.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mail.limits import ENVID_MAX_OCTETS, ORCPT_MAX_OCTETS

# NOTIFY as a number, in memory, on the wire and on the disk: 0 when nothing was said, else a sum of these. NEVER stands
# alone (RFC 3461 4.1). The numbers never change.
NEVER, SUCCESS, FAILURE, DELAY = 1, 2, 4, 8
_WORDS = {"NEVER": NEVER, "SUCCESS": SUCCESS, "FAILURE": FAILURE, "DELAY": DELAY}
_NOTIFY_MAX = SUCCESS | FAILURE | DELAY

# RET (RFC 3461 4.3): whether a failure brings the message back, or its header only. "" when nothing was said.
FULL, HDRS = "FULL", "HDRS"

# RFC 3461 4: xtext. What `+` and two capital hexadecimal digits stand for must itself be printable (4.2, 4.4), so no
# decoding brings a line end out of it.
_XTEXT = r"(?:[!-*,-<>-~]|\+(?:[2-6][0-9A-F]|7[0-9A-E]))+"
_ENVID = re.compile(rf"{_XTEXT}\Z")
# An address type is an atom in RFC 3461; every registered one is made of letters, digits and hyphens.
_ORCPT = re.compile(rf"[A-Za-z0-9][A-Za-z0-9-]{{0,39}};{_XTEXT}\Z")
_HEXADECIMAL = re.compile(r"\+([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for one recipient. `orcpt` is an address type, a semicolon and xtext, or "" when not given."""

    notify: int = 0
    orcpt: str = ""

    def allows(self, what: int) -> bool:
        """Whether SUCCESS, FAILURE or DELAY may be reported: as asked, or as is usual when nothing was (4.1)."""
        return bool(self.notify & what) if self.notify else what != SUCCESS


NO_WISH = Wish()


def parse_notify(text: str) -> int | None:
    """The number of a NOTIFY value, in any case; None for what RFC 3461 4.1 does not allow, repetitions included."""
    found = 0
    for word in text.upper().split(","):
        number = _WORDS.get(word, 0)
        if not number or found & number:
            return None
        found |= number
    return found if is_notify(found) else None


def notify_text(notify: int) -> str:
    """The value of NOTIFY that says it."""
    return ",".join(word for word, number in _WORDS.items() if notify & number)


def is_notify(notify: int) -> bool:
    """Whether a number is one that NOTIFY can mean; 0 is."""
    return notify == NEVER or (notify & _NOTIFY_MAX == notify)


def is_ret(text: str) -> bool:
    """Whether a text is FULL, HDRS or nothing."""
    return text in ("", FULL, HDRS)


def is_envid(text: str) -> bool:
    """Whether a text may be the value of ENVID (RFC 3461 4.4)."""
    return len(text) <= ENVID_MAX_OCTETS and _ENVID.match(text) is not None


def is_orcpt(text: str) -> bool:
    """Whether a text may be the value of ORCPT (RFC 3461 4.2)."""
    return len(text) <= ORCPT_MAX_OCTETS and _ORCPT.match(text) is not None


def wishes_of(notify: Iterable[int], orcpt: Iterable[str], recipients: int) -> tuple[Wish, ...] | None:
    """A wish for each recipient, from lists that are as long or both empty; None when they are neither, or unsound."""
    numbers, originals = tuple(notify), tuple(orcpt)
    if not numbers and not originals:
        return ()
    if len(numbers) != recipients or len(originals) != recipients:
        return None
    if not all(map(is_notify, numbers)) or not all(not one or is_orcpt(one) for one in originals):
        return None
    return tuple(map(Wish, numbers, originals))


def decode_xtext(text: str) -> str:
    """What xtext says, for a reader: printable ASCII."""
    return _HEXADECIMAL.sub(lambda found: chr(int(found[1], 16)), text)
