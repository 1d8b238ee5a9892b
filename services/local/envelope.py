"""An envelope in the octets of qmail-queue(8): `F<sender>\\0`, a `T<recipient>\\0` for each, and one more NUL.

Pure: octets in, addresses out, or the exit code that qmail-queue gives for them.
"""

from dataclasses import dataclass

from mail import address
from mail.limits import ADDRESS_MAX_OCTETS

ADDRESS_TOO_LONG = 11
UNACCEPTABLE = 31
ENDS_TOO_EARLY = 54
MISSHAPEN = 91


class Unfit(Exception):
    """No envelope that the queue could take: an exit code of qmail-queue, and why when the code does not say it."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends, and to whom; nobody is an answer too."""

    sender: str
    recipients: tuple[str, ...]


def parse(octets: bytes) -> Envelope:
    """The envelope; what follows its end is not looked at. Raises Unfit."""
    end = octets.find(b"\0\0") + 1  # within it every record begins with a letter
    records = octets[: end - 1].split(b"\0") if end else octets.split(b"\0")
    for number, record in enumerate(records):
        if not record and not end and number == len(records) - 1:
            break
        if record[:1] != (b"T" if number else b"F"):
            raise Unfit(MISSHAPEN)
        if len(record) - 1 > ADDRESS_MAX_OCTETS:
            raise Unfit(ADDRESS_TOO_LONG)
    if not end:
        raise Unfit(ENDS_TOO_EARLY)
    sender, *recipients = (_address(record[1:]) for record in records)
    return Envelope(sender, tuple(recipients))


def _address(octets: bytes) -> str:
    try:
        found = octets.decode()
    except UnicodeDecodeError as error:
        raise Unfit(UNACCEPTABLE, "envelope address is not UTF-8 (#5.6.7)") from error
    if not address.acceptable(found):
        raise Unfit(UNACCEPTABLE, "envelope address has a control character (#5.1.3)")
    return found
