"""The message that tells a sender what could not be delivered: qmail-send's text (QSBMF), to the byte where it has one.

Pure: texts in, text out. Double bounces go to the postmaster, triple ones nowhere (section 2.7 of the qmail reference).
"""

import re
from dataclasses import dataclass

from mail import header, verp
from mail.address import quoted
from mail.ids import MessageId
from mail.limits import BOUNCE_BODY_MAX_OCTETS

_INTRO = "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
_INTRO_END = "This is a permanent error; I've given up. Sorry it didn't work out.\n"
_DOUBLE = "I tried to deliver a bounce message to this address, but the bounce bounced!\n"
_BELOW = "--- Below this line is a copy of the message.\n"
_BELOW_DOUBLE = "--- Below this line is the original bounce.\n"
_CUT = b"\n--- The rest of the message is left out here.\n"
_BLANK_LINE = re.compile(r"(?<=\n)\n")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class BounceRules:
    """control/bouncefrom, bouncehost, doublebounceto, doublebouncehost."""

    bouncefrom: str
    bouncehost: str
    doublebounceto: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A recipient that will not be delivered, and the report that says why."""

    recipient: str
    report: str


@dataclass(frozen=True, slots=True)
class Bounce:
    """The bounce's envelope and text."""

    sender: str
    recipient: str
    body: bytes


def compose(
    rules: BounceRules, sender: str, failures: list[Failure], original: bytes, made: tuple[MessageId, int]
) -> Bounce | None:
    """The bounce for a message from `sender`; None when it was a double bounce itself and is discarded.

    `made` is the bounce's id and its unix time. The original is cut at BOUNCE_BODY_MAX_OCTETS.
    """
    if sender == verp.DOUBLE_BOUNCE:
        return None
    double = sender == ""
    back_to = rules.doublebounceto if double else verp.bounce_address(sender)
    bounce_id, unix_s = made
    host = rules.bouncehost
    date = header.date(unix_s)
    text = (
        f"Received: (qmail {bounce_id} invoked for bounce); {date}\n"
        f"Date: {date}\n"
        f"From: {quoted(rules.bouncefrom + '@' + host)}\n"
        f"To: {quoted(back_to)}\n"
        f"Message-ID: <{bounce_id}@{host}>\n"
        f"Subject: failure notice\n"
        f"\n"
        f"Hi. This is the qmail-send program at {host}.\n"
        f"{_DOUBLE if double else _INTRO + _INTRO_END}\n"
    )
    text += "".join(_paragraph(failure) for failure in failures)
    text += f"{_BELOW_DOUBLE if double else _BELOW}\nReturn-Path: <{'' if double else quoted(back_to)}>\n"
    body = text.encode("utf-8", "replace") + _cut(original)
    return Bounce(verp.DOUBLE_BOUNCE if double else "", back_to, body)


def _paragraph(failure: Failure) -> str:
    """One recipient's paragraph; no blank line inside, so a reader of QSBMF finds its end."""
    recipient = failure.recipient.replace("\n", "_")
    report = _CONTROLS.sub("?", failure.report)
    text = f"<{recipient}>:\n{report}"
    if not text.endswith("\n"):
        text += "\n"
    return _BLANK_LINE.sub("/", text) + "\n"


def _cut(original: bytes) -> bytes:
    if len(original) <= BOUNCE_BODY_MAX_OCTETS:
        return original
    return original[:BOUNCE_BODY_MAX_OCTETS] + _CUT
