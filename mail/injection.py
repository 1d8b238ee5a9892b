"""A message that somebody hands in, completed the way qmail-inject does it (qmail-inject(8), qmail-header(5)).

Takes the fields of a header one by one, and says what they become, who the sender is and who the recipients are. Knows
no environment, no control file and no clock: they come in as an Author. The body is none of its business.
"""

import contextlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from mail import fields, header, rfc822
from mail.qualify import Qualification
from mail.rfc822 import AT, ATOM, COLON, COMMENT, LEFT, QUOTE, RIGHT, Token, Unparsable

TO, CC, MAIL_FOLLOWUP_TO = b"to", b"cc", b"mail-followup-to"
FROM, DATE, MESSAGE_ID, RETURN_PATH = b"from", b"date", b"message-id", b"return-path"
RESENT = b"resent-"

_RECIPIENTS = frozenset((TO, CC, b"bcc", b"apparently-to"))
_RESENT_RECIPIENTS = frozenset((b"resent-to", b"resent-cc", b"resent-bcc"))
_SENDERS = frozenset((b"sender", FROM, b"reply-to", b"return-receipt-to", b"errors-to", RETURN_PATH)) | {
    RESENT + one for one in (b"sender", FROM, b"reply-to")
}
_MAKES_RESENT = _RESENT_RECIPIENTS | {RESENT + one for one in (b"sender", FROM, b"reply-to", DATE, MESSAGE_ID)}
_DELETED = frozenset((b"bcc", b"resent-bcc", RETURN_PATH, b"content-length"))


class Author:
    """Who hands the message in, when, from where, and what he asked for."""

    def __init__(self, qualification: Qualification, unix_s: int, pid: int, idhost: bytes) -> None:
        self.qualification = qualification
        self.unix_s = unix_s
        self.pid = pid
        self.idhost = idhost
        self.user = b"anonymous"
        self.host: bytes | None = None  # None is the default host
        self.name: bytes | None = None
        self.bounce_user: bytes | None = None  # None is `user`, and `host` below
        self.bounce_host: bytes | None = None
        self.sender: bytes | None = None  # what -f says, completed
        self.letters = b""  # $QMAILINJECT
        self.lists: Collection[bytes] = ()  # of $QMAILMFTFILE, in lower case

    def wants(self, letter: bytes) -> bool:
        return letter in self.letters


class Injection:
    """One message: give it the fields, then ask."""

    def __init__(self, author: Author) -> None:
        self._author = author
        self._seen: set[bytes] = set()
        self._kept: list[bytes] = []
        self._recipients: list[bytes] = []
        self._resent_recipients: list[bytes] = []
        self._to_and_cc: list[bytes] = []
        self._sender = author.sender

    def field(self, field: bytes) -> None:
        """Takes a field with its continuation lines and its LF; raises Unparsable with it when a sender's field is no
        list of addresses. A recipient's field that is none stays as it is, without recipients from where it breaks."""
        name = fields.name(field)
        if self._unwanted(name):
            return
        self._seen.add(name)
        if name in _SENDERS:
            field = self._rewritten(field, self._return_path if name == RETURN_PATH else self._author.qualification)
        elif name in _RECIPIENTS or name in _RESENT_RECIPIENTS:
            with contextlib.suppress(Unparsable):
                field = self._rewritten(field, lambda address: self._recipient(name, address))
        if name not in _DELETED:
            self._kept.append(field)

    def head(self) -> bytes:
        """The header as it goes out: what was missing first, then what was given and may stay."""
        parts = self._resent_head() if self._is_resent() else self._new_head()
        return b"".join(parts + self._kept)

    def sender(self) -> bytes:
        """The envelope sender: -f, else Return-Path, else what the author's names make."""
        if self._sender is None:
            self._made_return_path()
        return _until_nul(self._sender or b"")

    def recipients(self) -> Sequence[bytes]:
        """Whom the header names; those of the resent fields alone when the message is resent."""
        found = self._resent_recipients if self._is_resent() else self._recipients
        return [_until_nul(one) for one in found]

    # -- fields that were given ---------------------------------------------------------------------------------------

    def _unwanted(self, name: bytes) -> bool:
        wants = self._author.wants
        return (
            (name == FROM and wants(b"f"))
            or (name == MESSAGE_ID and wants(b"i"))
            or (name == RETURN_PATH and wants(b"s"))
        )

    def _is_resent(self) -> bool:
        return bool(self._seen & _MAKES_RESENT)

    def _rewritten(self, field: bytes, rewrite: rfc822.Rewrite) -> bytes:
        try:
            return rfc822.unparse(rfc822.addresses(rfc822.tokenise(field), rewrite))
        except Unparsable as error:
            raise Unparsable(field) from error

    def _return_path(self, address: list[Token]) -> list[Token]:
        """The first address found sets the sender, and as a list is walked from right to left it is the last one."""
        full = self._author.qualification(address)
        if self._sender is None:
            self._sender = rfc822.unquoted(full) + (b"-@[]" if self._author.wants(b"r") else b"")
        return full

    def _recipient(self, name: bytes, address: list[Token]) -> list[Token]:
        full = self._author.qualification(address)
        plain = rfc822.unquoted(full)
        if name in _RESENT_RECIPIENTS:
            self._resent_recipients.append(plain)
        else:
            self._recipients.append(plain)
        if name in (TO, CC):
            self._to_and_cc.append(plain)
        return full

    # -- fields that are made -----------------------------------------------------------------------------------------

    def _new_head(self) -> list[bytes]:
        parts = self._stamps(b"")
        if not self._seen & {TO, CC}:
            parts.append(b"Cc: recipient list not shown: ;\n")
        return [*parts, *self._followup()]

    def _resent_head(self) -> list[bytes]:
        parts = self._stamps(RESENT)
        if not self._seen & {RESENT + TO, RESENT + CC}:
            parts.append(b"Resent-Cc: recipient list not shown: ;\n")
        return parts

    def _stamps(self, prefix: bytes) -> list[bytes]:
        made = ((DATE, self._made_date), (MESSAGE_ID, self._made_message_id), (FROM, self._made_from))
        return [prefix.title() + make() for name, make in made if prefix + name not in self._seen]

    def _made_date(self) -> bytes:
        return b"Date: %b\n" % header.date(self._author.unix_s).encode("ascii")

    def _made_message_id(self) -> bytes:
        when = datetime.fromtimestamp(self._author.unix_s, UTC).strftime("%Y%m%d%H%M%S").encode("ascii")
        return b"Message-ID: <%b.%d.qmail@%b>\n" % (when, self._author.pid, self._author.idhost)

    def _made_from(self) -> bytes:
        author = self._author
        who: list[Token] = [(QUOTE if rfc822.needs_quotes(author.user) else ATOM, author.user)]
        if author.host is not None:
            who += [(AT, b""), (ATOM, author.host)]
        if author.name is not None and author.wants(b"c"):
            who.append((COMMENT, author.name))
        elif author.name is not None:
            who = [(QUOTE, author.name), (LEFT, b""), *who, (RIGHT, b"")]
        field = rfc822.unparse([(ATOM, b"From"), (COLON, b""), *who])
        return self._rewritten(field, author.qualification)

    def _made_return_path(self) -> None:
        """Written out and read again as qmail does it, so that a host may be all that a field may hold."""
        author = self._author
        user = author.user if author.bounce_user is None else author.bounce_user
        host = author.host if author.bounce_host is None else author.bounce_host
        if author.wants(b"m"):
            user += b"-%d.%d" % (author.unix_s, author.pid)
        if author.wants(b"r"):
            user += b"-"
        path: list[Token] = [(ATOM, b"Return-Path"), (COLON, b""), (QUOTE, user)]
        if host is not None:
            path += [(AT, b""), (ATOM, host)]
        self._rewritten(rfc822.unparse(path), self._return_path)

    def _followup(self) -> list[bytes]:
        """Mail-Followup-To with everybody of To and Cc, the last field's first, when one of them is a list."""
        lists = self._author.lists
        if MAIL_FOLLOWUP_TO in self._seen or not any(one.lower() in lists for one in self._to_and_cc):
            return []
        everybody = [rfc822.quoted(_until_nul(one)) for one in reversed(self._to_and_cc)]
        return [b"Mail-Followup-To: %b\n" % b",\n  ".join(everybody)]


def _until_nul(address: bytes) -> bytes:
    """An address ends where a string of C does."""
    return address.partition(b"\0")[0]
