"""What a sender is told of a message: that it failed, in qmail-send's text (QSBMF), that it waits, that it arrived.

Pure: what became of recipients in, a message out. Here are the words and the question to whom they go; the form that
programs read is report.py, and who is to be told at all notices.py. Double bounces go to the postmaster, triple ones
nowhere (section 2.7 of the qmail reference); the other notices go to a sender or to nobody.
"""

import re
from dataclasses import dataclass

from mail import dsn, header, verp
from mail.address import quoted
from mail.ids import MessageId
from services.queue.report import (
    Action,
    Fate,
    Original,
    Part,
    assemble,
    delivery_status,
    is_header_only,
    returned,
)

# QSBMF: an introduction that begins so, a paragraph for each recipient that begins with <, a break that begins with -.
_INTRO = "I'm afraid I wasn't able to deliver your message to the following addresses.\n"
_INTRO_END = "This is a permanent error; I've given up. Sorry it didn't work out.\n"
_DOUBLE = "I tried to deliver a bounce message to this address, but the bounce bounced!\n"
_BELOW = "--- Below this line is a copy of the message.\n\n"
_BELOW_DOUBLE = "--- Below this line is the original bounce.\n\n"
_BELOW_HEADER = "--- Below this line is a copy of the header of the message.\n\n"
_NOTHING_BELOW = "--- There is no copy of the message: it is damaged in the queue.\n\n"

# Neither of these is QSBMF, on purpose: who looks for failures in a mailbox must not take them for one.
_DELAY = (
    "Your message has not reached the following addresses yet. You need not send it again:\nI keep trying until {}.\n"
)
_SUCCESS = "Your message has reached the following addresses.\n"
_RELAYED = "Where I say `relayed' it went to a host that does not tell what becomes of it.\n"

_BLANK_LINE = re.compile(r"(?<=\n)\n")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
# RFC 5322 2.1.1. A line that is longer, as no server writes it that means well, is broken at this many characters.
_LINE_MAX_OCTETS = 998
_BROKEN_LINE_CHARACTERS = 240


@dataclass(frozen=True, slots=True)
class BounceRules:
    """control/bouncefrom, bouncehost, doublebounceto, doublebouncehost."""

    bouncefrom: str
    bouncehost: str
    doublebounceto: str


@dataclass(frozen=True, slots=True)
class Bounce:
    """The envelope and the text of what the sender is told."""

    sender: str
    recipient: str
    body: bytes


Made = tuple[MessageId, int]  # the id of what is composed, and its unix time


def compose_failure(rules: BounceRules, original: Original, fates: list[Fate], made: Made) -> Bounce | None:
    """The bounce for a message that failed; None when it was a double bounce itself and is discarded."""
    if original.sender == verp.DOUBLE_BOUNCE:
        return None
    double = original.sender == ""
    back_to = rules.doublebounceto if double else verp.bounce_address(original.sender)
    copy = returned(original, "" if double else quoted(back_to), with_body=original.ret != dsn.HDRS)
    text = (
        f"Hi. This is the qmail-send program at {rules.bouncehost}.\n"
        f"{_DOUBLE if double else _INTRO + _INTRO_END}\n"
        f"{''.join(_paragraph(fate.recipient, fate.report) for fate in fates)}"
        f"{_below(copy, double)}"
    )
    notice = _Notice("failure notice", "bounce", back_to, text)
    body = _written(rules, notice, [delivery_status(rules.bouncehost, original, fates), copy], made)
    return Bounce(verp.DOUBLE_BOUNCE if double else "", back_to, body)


def compose_success(rules: BounceRules, original: Original, fates: list[Fate], made: Made) -> Bounce:
    """The notice that a message arrived (RFC 3461 4.1), with its header; for a sender that `has_ear`."""
    text = f"This is the qmail-send program at {rules.bouncehost}.\n{_SUCCESS}"
    text += _RELAYED if any(fate.action is Action.RELAYED for fate in fates) else ""
    text += "\n" + "".join(_paragraph(fate.recipient, f"{fate.action}\n{fate.report}") for fate in fates)
    status = delivery_status(rules.bouncehost, original, fates)
    return _to_sender(rules, original, _Notice("success notice", "notice", "", text), [status], made)


def compose_delay(rules: BounceRules, original: Original, fates: list[Fate], made: Made, until_s: int) -> Bounce:
    """The warning that a message waits, and until when it will be tried, with its header; to one that `has_ear`."""
    text = f"This is the qmail-send program at {rules.bouncehost}.\n{_DELAY.format(header.date(until_s))}\n"
    text += "".join(_paragraph(fate.recipient, fate.report) for fate in fates)
    status = delivery_status(rules.bouncehost, original, fates, until_s)
    return _to_sender(rules, original, _Notice("delay notice", "notice", "", text), [status], made)


def has_ear(sender: str) -> bool:
    """Whether a sender can be told anything but that its message failed: not when it is a bounce itself."""
    return sender not in ("", verp.DOUBLE_BOUNCE)


@dataclass(frozen=True, slots=True)
class _Notice:
    subject: str
    why: str  # in the Received line, as qmail-queue says it
    to: str
    text: str


def _to_sender(rules: BounceRules, original: Original, notice: _Notice, parts: list[Part], made: Made) -> Bounce:
    """RFC 3461 4.3: what tells of no failure brings the header back, whatever RET says."""
    back_to = verp.bounce_address(original.sender)
    notice = _Notice(notice.subject, notice.why, back_to, notice.text)
    copy = returned(original, quoted(back_to), with_body=False)
    return Bounce("", back_to, _written(rules, notice, [*parts, copy], made))


def _written(rules: BounceRules, notice: _Notice, parts: list[Part | None], made: Made) -> bytes:
    """The whole message, its text for people first."""
    made_id, unix_s = made
    text = Part("text/plain", notice.text.encode("utf-8", "replace"))
    fields, body = assemble(made_id, [text, *filter(None, parts)])
    date = header.date(unix_s)
    head = (
        f"{header.received_from_local(made_id, f'for {notice.why}', unix_s)}"
        f"Date: {date}\n"
        f"From: {quoted(rules.bouncefrom + '@' + rules.bouncehost)}\n"
        f"To: {quoted(notice.to)}\n"
        f"Message-ID: <{made_id}@{rules.bouncehost}>\n"
        f"Subject: {notice.subject}\n"
        f"Auto-Submitted: auto-replied\n"  # RFC 3834 5: no program is to answer it
        f"{fields}"
        f"\n"
    )
    return head.encode("utf-8", "replace") + body


def _below(copy: Part | None, double: bool) -> str:
    if copy is None:
        return _NOTHING_BELOW
    if is_header_only(copy):
        return _BELOW_HEADER
    return _BELOW_DOUBLE if double else _BELOW


def _paragraph(recipient: str, report: str) -> str:
    """One recipient's paragraph; no blank line inside, so a reader of QSBMF finds its end."""
    report = _CONTROLS.sub("?", report)
    if len(report) > _LINE_MAX_OCTETS // 4:  # a character has at most four octets
        report = "\n".join(map(_bearable, report.split("\n")))
    text = f"<{recipient.replace(chr(10), '_')}>:\n{report}"
    if not text.endswith("\n"):
        text += "\n"
    return _BLANK_LINE.sub("/", text) + "\n"


def _bearable(line: str) -> str:
    if len(line.encode("utf-8", "replace")) <= _LINE_MAX_OCTETS:
        return line
    starts = range(0, len(line), _BROKEN_LINE_CHARACTERS)
    return "\n".join(line[start : start + _BROKEN_LINE_CHARACTERS] for start in starts)
