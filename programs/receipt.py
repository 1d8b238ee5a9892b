"""qreceipt(1): answers a message that asks for a notice of its delivery, from within a `.qmail` file.

Looks at the header of the message on standard input; the body is not its business. Bounces get no answer.
"""

import os
from collections.abc import Sequence

from mail import fields, rfc822
from mail.rfc822 import Token
from programs import inject
from programs.complaint import PERMANENT, TEMPORARY, Fatal, die, octets, reported
from programs.submit import NotQueued, submit

ASKING = b"notice-requested-upon-delivery-to"
MESSAGE_ID = b"message-id"

# Those who send no mail: a bounce, and a bounce of a bounce.
_NOBODY = (b"", b"#@[]")


def main(words: Sequence[str]) -> int:
    """0 when the notice is queued or nobody asked for one of this address; 100 or 111 with a reason."""
    sender = os.environb.get(b"SENDER")
    if not words or sender is None:
        return die(PERMANENT, "qreceipt: usage: qreceipt deliveryaddress")
    return reported("qreceipt", lambda words: _answer(octets(words[0]), sender), words)


def _answer(target: bytes, sender: bytes) -> int:
    try:
        header, _ = fields.split(inject.lines(), inject.HEADER_MAX_OCTETS)
    except fields.TooLarge as error:
        raise Fatal(PERMANENT, f"header of more than {inject.HEADER_MAX_OCTETS} octets") from error
    except OSError as error:
        raise Fatal(TEMPORARY, "read error") from error
    asked = [address for field in header if fields.name(field) == ASKING for address in _addresses(field)]
    if target not in asked or sender in _NOBODY:
        return 0
    ids = [field for field in header if fields.name(field) == MESSAGE_ID]
    try:
        submit(b"", [sender], [_notice(target, sender, ids[-1] if ids else b"")])
    except NotQueued as not_queued:
        if not_queued.permanent:
            raise Fatal(PERMANENT, "permanent qmail-queue error") from not_queued
        raise Fatal(TEMPORARY, "temporary qmail-queue error") from not_queued
    return 0


def _addresses(field: bytes) -> list[bytes]:
    """Whom a field names, as it names them."""
    found: list[bytes] = []

    def note(address: list[Token]) -> list[Token]:
        found.append(rfc822.unquoted(address))
        return address

    try:
        rfc822.addresses(rfc822.tokenise(field), note)
    except rfc822.Unparsable as error:
        raise Fatal(PERMANENT, b"unable to parse this: " + field.removesuffix(b"\n")) from error
    return found


def _notice(target: bytes, sender: bytes, message_id: bytes) -> bytes:
    written = rfc822.quoted(sender)
    return (
        b"From: DELIVERY NOTICE SYSTEM <%b>\nTo: <%b>\nSubject: success notice\n\n"
        b"Hi! This is the qreceipt program. Your message was delivered to the\n"
        b"following address: %b. Thanks for asking.\n%b"
    ) % (written, written, target, b"Your " + message_id if message_id else b"")
