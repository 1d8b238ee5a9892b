"""A forwarding database made of records that are still being read: what is wrong with them becomes a complaint."""

from collections.abc import Iterable

from mail import cdb
from mail.forwarding import BadLine
from programs.complaint import PERMANENT, TEMPORARY, Fatal


def made(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The octets of the cdb. Fatal with qmail's words and exit status for a bad line, 111 when it would be too long."""
    try:
        return cdb.make(records)
    except BadLine as error:
        raise complaint(error) from error
    except OverflowError as error:
        raise Fatal(TEMPORARY, str(error)) from error


def complaint(error: BadLine) -> Fatal:
    """A bad line as qmail's programs report it."""
    return Fatal(PERMANENT if error.permanent else TEMPORARY, error.text)
