"""A report on the delivery of a message, in the form that programs read: multipart/report (RFC 3462, RFC 3464).

Pure: what became of recipients and the original in, the headers and parts of a message out. It knows nothing of who is
told or in which words: the text for people comes from bounce.py. Whatever a stranger wrote (replies of servers, ENVID,
ORCPT, addresses) is printable ASCII, cut to a bearable length, before it stands in a field.
"""

import itertools
import re
from dataclasses import dataclass
from enum import StrEnum

from mail import address, dsn, header
from mail.ids import MessageId
from mail.limits import BOUNCE_BODY_MAX_OCTETS

# RFC 5322 2.1.1: a line has at most 998 octets. A field's value is cut here, so that its name and a type fit as well.
_VALUE_MAX_OCTETS = 900
_FOLD_AT = 78

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_REPLY = re.compile(r"^Remote host said: (([245])[0-9]{2}(?:[ -][^\n]*)?(?:\n[245][0-9]{2}[ -][^\n]*)*)", re.MULTILINE)
_STATUS = r"[245]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})"
_REPLY_STATUS = re.compile(rf"[245][0-9]{{2}}[ -]({_STATUS})(?![0-9.])")
_QMAIL_STATUS = re.compile(rf"\(#({_STATUS})\)")
# RFC 6533 3: what an address in 7 bits may not say as it is.
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_END_OF_FIELD = re.compile(rb"\n(?![ \t])")


class Action(StrEnum):
    """What became of a recipient (RFC 3464 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"


# Classes of status codes that go with an action: a message that failed may have failed by being deferred too long.
_CLASSES = {Action.FAILED: "54", Action.DELAYED: "4", Action.DELIVERED: "2", Action.RELAYED: "2"}


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one recipient; `report` is qmail's text, `orcpt` as it was given at RCPT."""

    recipient: str
    action: Action
    report: str
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Original:
    """The message that is reported on. `content` is all of it, or when that is more than BOUNCE_BODY_MAX_OCTETS its
    beginning, at least so much; b"" when it cannot be read.
    """

    sender: str
    content: bytes
    arrived_s: int
    size: int
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the report: its media type and its text, with LF line ends."""

    kind: str
    text: bytes


def returned(original: Original, return_path: str, with_body: bool) -> Part | None:
    """The original below a Return-Path line, or its header alone; None when it cannot be read.

    A message that is more than BOUNCE_BODY_MAX_OCTETS comes back as its header, and a header that is more ends with its
    last whole field: a part of a message is never called one.
    """
    if not original.content:
        return None
    text = f"Return-Path: <{return_path}>\n".encode("utf-8", "replace") + original.content
    head, _, _ = text.partition(b"\n\n")
    name = "global" if _is_global(head) else "rfc822"
    if with_body and len(original.content) == original.size <= BOUNCE_BODY_MAX_OCTETS:
        return Part(f"message/{name}", text)
    if len(head) > BOUNCE_BODY_MAX_OCTETS:
        ends = (found.start() for found in _END_OF_FIELD.finditer(head, 0, BOUNCE_BODY_MAX_OCTETS + 1))
        head = head[: max((end for end in ends if end < BOUNCE_BODY_MAX_OCTETS), default=head.find(b"\n"))]
    kind = "message/global-headers" if name == "global" else "text/rfc822-headers"
    return Part(kind, head.removesuffix(b"\n") + b"\n")


def is_header_only(part: Part) -> bool:
    """Whether the body of the original was left out."""
    return part.kind.endswith("-headers")


def delivery_status(host: str, original: Original, fates: list[Fate], until_s: int = 0) -> Part:
    """The part for programs (RFC 3464 2); `until_s` is when a delayed message will be given up, in unix seconds."""
    lines = [_field("Reporting-MTA", f"dns; {host}")]
    envid = dsn.decode_xtext(original.envid).strip()
    if envid:
        lines.append(_field("Original-Envelope-Id", envid))
    lines.append(_field("Arrival-Date", header.date(original.arrived_s)))
    for fate in fates:
        lines.append("")
        kind, _, encoded = fate.orcpt.partition(";")
        if encoded:
            lines.append(_field("Original-Recipient", f"{kind};{dsn.decode_xtext(encoded)}"))
        lines.append(_field("Final-Recipient", _typed(fate.recipient)))
        lines.append(_field("Action", fate.action))
        lines.append(_field("Status", status(fate)))
        if fate.action in (Action.FAILED, Action.DELAYED) and fate.report.strip():
            lines.append(_folded("Diagnostic-Code", _diagnostic(fate.report)))
        if fate.action is Action.DELAYED and until_s:
            lines.append(_field("Will-Retry-Until", header.date(until_s)))
    return Part("message/delivery-status", "".join(f"{line}\n" for line in lines).encode("ascii"))


def status(fate: Fate) -> str:
    """The status code (RFC 3463) that a report speaks of, the server's own first; a general one when there is none."""
    classes = _CLASSES[fate.action]
    reply = _REPLY.search(fate.report)
    said = _REPLY_STATUS.match(reply[1]) if reply else None
    ours = _QMAIL_STATUS.search(fate.report)
    for found in (said, ours):
        if found and found[1][0] in classes:
            return found[1]
    general = reply[2] if reply and reply[2] in classes else classes[0]
    return f"{general}.0.0"


def assemble(report: MessageId, parts: list[Part]) -> tuple[str, bytes]:
    """The parts as one multipart/report: the header fields that say so, and the body."""
    boundary = _boundary(report, parts)
    body = b"".join(b"--%s\n%s\n%s\n" % (boundary.encode(), _part_header(part), part.text) for part in parts)
    encoding = "" if body.isascii() else "Content-Transfer-Encoding: 8bit\n"
    fields = (
        "MIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status;\n"
        f' boundary="{boundary}"\n{encoding}'
    )
    return fields, body + b"--%s--\n" % boundary.encode()


def _part_header(part: Part) -> bytes:
    charset = ("; charset=us-ascii" if part.text.isascii() else "; charset=utf-8") if part.kind == "text/plain" else ""
    encoding = "" if part.text.isascii() else "Content-Transfer-Encoding: 8bit\n"
    return f"Content-Type: {part.kind}{charset}\n{encoding}".encode()


def _boundary(report: MessageId, parts: list[Part]) -> str:
    """A boundary made from the report's id that stands in none of its parts."""
    candidates = (f"=_{report}.{number}" for number in itertools.count())
    return next(one for one in candidates if not any(one.encode() in part.text for part in parts))


def _is_global(head: bytes) -> bool:
    """Whether a header is one of RFC 6532: beyond ASCII, and UTF-8."""
    try:
        return not head.isascii() and bool(head.decode())
    except UnicodeDecodeError:
        return False


def _typed(recipient: str) -> str:
    """An address with its type (RFC 3464 2.3.2); one beyond ASCII in the 7-bit form of RFC 6533 3."""
    text = address.quoted(recipient)
    if text.isascii():
        return f"rfc822;{text}"
    return "utf-8;" + _NOT_QCHAR.sub(lambda found: f"\\x{{{ord(found[0]):02X}}}", text)


def _diagnostic(report: str) -> str:
    """The server's reply, or what qmail says when no server had anything to do with it (RFC 3464 2.3.6)."""
    reply = _REPLY.search(report)
    return f"smtp; {reply[1]}" if reply else f"x-qmail; {report}"


def _field(name: str, value: str) -> str:
    return f"{name}: {_printable(value)}"


def _folded(name: str, value: str) -> str:
    """A field whose value is a text: broken between words into lines of bearable length."""
    lines = [f"{name}:"]
    for word in _printable(" ".join(value.split())).split():
        if len(lines[-1]) + 1 + len(word) > _FOLD_AT and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    return "\n".join(lines)


def _printable(value: str) -> str:
    return _UNPRINTABLE.sub("?", value[:_VALUE_MAX_OCTETS])
