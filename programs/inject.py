"""qmail-inject(8): completes a message and hands it to the queue, or prints it (-n).

Reads the command line, the environment and the control files, and passes the message on; what becomes of its header is
mail/injection.py. A field that cannot be read ends it before anything is handed in.
"""

import os
from collections.abc import Iterable, Iterator, Sequence

from mail import fields, limits, qualify, rfc822
from mail.injection import Author, Injection
from programs.complaint import PERMANENT, TEMPORARY, Fatal, octets
from programs.naming import Names, listing
from programs.options import WRONG, Options

_NAME = b"qmail-inject"

# qmail's is all the memory there is. 100,000 recipients with names fit.
HEADER_MAX_OCTETS = 8 * limits.MIB
_PIECE_OCTETS = 128 * limits.KIB

# Where recipients come from: words, fields, both, or words if there are any.
_WORDS, _FIELDS, _BOTH, _EITHER = "a", "h", "H", "A"

_INSTEAD = {
    "defaultdomain": b"QMAILDEFAULTDOMAIN",
    "defaulthost": b"QMAILDEFAULTHOST",
    "plusdomain": b"QMAILPLUSDOMAIN",
    "idhost": b"QMAILIDHOST",
}


class _Order:
    """What the command line says."""

    def __init__(self) -> None:
        self.strategy = _EITHER
        self.prints = False
        self.recipients: list[bytes] = []


def main(words: Sequence[str]) -> int:
    """0 when the message is queued or printed; 100 for a mistake in words or message, 111 for trouble."""
    return inject(words, lines())


def inject(words: Sequence[str], message: Iterable[bytes]) -> int:
    """As `main`, for a message that comes as lines (mail/fields.py, `split`)."""
    try:
        author = _author()
        order = _order(words, author)
        return _inject(author, order, message) if order else PERMANENT
    except Fatal as fatal:
        _die(fatal.text + b"\n")
        return fatal.status
    except rfc822.Unparsable as error:
        _die(b"unable to parse this line:\n" + error.args[0])  # as it came: with its LF or, from a word, without
        return PERMANENT
    except OSError:
        _die(b"read error\n")
        return TEMPORARY


def _die(text: bytes) -> None:
    os.write(2, _NAME + b": fatal: " + text)


def _first(*variables: bytes) -> bytes | None:
    """The first of these that the environment has, be it empty."""
    return next((value for one in variables if (value := os.environb.get(one)) is not None), None)


def _author() -> Author:
    from runtime.clock import SystemClock

    lists = _lists()
    names = Names({name: os.environb.get(variable) for name, variable in _INSTEAD.items()})
    qualification = qualify.Qualification({name: names[name] for name in qualify.CONTROLS})
    author = Author(qualification, SystemClock().wall_ms() // 1000, os.getpid(), names["idhost"])
    author.letters = os.environb.get(b"QMAILINJECT", b"")
    author.lists = lists
    user = _first(b"QMAILUSER", b"MAILUSER", b"USER", b"LOGNAME")
    author.user = b"anonymous" if user is None else user
    author.host = _first(b"QMAILHOST", b"MAILHOST")
    author.name = _first(b"QMAILNAME", b"MAILNAME", b"NAME")
    author.bounce_user = _first(b"QMAILSUSER")
    author.bounce_host = _first(b"QMAILSHOST")
    return author


def _lists() -> frozenset[bytes]:
    path = _first(b"QMAILMFTFILE")
    if path is None:
        return frozenset()
    try:
        with open(path, "rb") as file:
            return frozenset(one.lower() for one in listing(file.read()))
    except FileNotFoundError:
        return frozenset()


def _order(words: Sequence[str], author: Author) -> _Order | None:
    """What the words say; None when they are wrong, which has been said then."""
    order = _Order()
    options = Options("qmail-inject", words, "aAhHnNf:")
    for letter, word in options:
        if letter == WRONG:
            return None
        if letter in "nN":
            order.prints = letter == "n"
        elif letter == "f":
            author.sender = _sender(author, octets(word))
        else:
            order.strategy = letter
    if order.strategy == _EITHER:
        order.strategy = _WORDS if options.rest else _FIELDS
    if order.strategy != _FIELDS:
        order.recipients = [_recipient(author, octets(word)) for word in options.rest]
    return order


def _sender(author: Author, word: bytes) -> bytes:
    try:
        return author.qualification.envelope(word)
    except rfc822.Unparsable as error:
        raise rfc822.Unparsable(rfc822.quoted(word)) from error


def _recipient(author: Author, word: bytes) -> bytes:
    try:
        return author.qualification.envelope(word)
    except rfc822.Unparsable as error:
        raise Fatal(PERMANENT, b"unable to parse address: " + word) from error


def _inject(author: Author, order: _Order, message: Iterable[bytes]) -> int:
    injection = Injection(author)
    try:
        header, body = fields.split(message, HEADER_MAX_OCTETS)
    except fields.TooLarge as error:
        raise Fatal(PERMANENT, f"header of more than {HEADER_MAX_OCTETS} octets") from error
    for field in header:
        injection.field(field)
    sender, head = injection.sender(), injection.head()
    if order.prints:
        return _print((b"Return-Path: <%b>\n" % rfc822.quoted(sender), head), body)
    recipients = list(order.recipients)
    if order.strategy != _WORDS:
        recipients += injection.recipients()
    return _queue(sender, recipients, _gathered(head, body))


def lines() -> Iterator[bytes]:
    """The lines of standard input, cut where they are longer than a header may be."""
    with open(0, "rb", closefd=False) as source:
        while line := source.readline(HEADER_MAX_OCTETS + 1):
            yield line


def _gathered(head: bytes, body: Iterable[bytes]) -> Iterator[bytes]:
    """The message in pieces of some size: every piece is a write."""
    held, size = [head], len(head)
    for line in body:
        held.append(line)
        size += len(line)
        if size >= _PIECE_OCTETS:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def _print(head: Iterable[bytes], body: Iterable[bytes]) -> int:
    with open(1, "wb", closefd=False) as out:
        out.writelines(head)
        out.writelines(body)
    return 0


def _queue(sender: bytes, recipients: Sequence[bytes], message: Iterable[bytes]) -> int:
    from programs.submit import NotQueued, submit

    try:
        submit(sender, recipients, message)
    except NotQueued as not_queued:
        raise Fatal(PERMANENT if not_queued.permanent else TEMPORARY, not_queued.text) from not_queued
    return 0
