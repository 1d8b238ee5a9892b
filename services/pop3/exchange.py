"""What the front and the child of one session say to each other: a JSON line for each request and each answer.

Pure: values to lines and lines to values. The front believes nothing that a child says before it is checked here, for
the child runs with a user's rights. The descriptor of a message travels beside its answer, by SCM_RIGHTS.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from services.pop3.protocol import Maildrop

# What one session shows, oldest first; the rest is there at the next. A listing of as many is held in memory whole.
MESSAGES_MAX = 100_000
# RFC 1939 section 7: a unique id has at most 70 characters.
UID_MAX_CHARACTERS = 70
# Messages in one line of a listing: lines of 40 KiB.
_BATCH = 500
# The longest line is the request to delete everything: a number of six digits and a comma for each message.
LINE_MAX_OCTETS = 1024 * 1024
assert LINE_MAX_OCTETS > 8 * MESSAGES_MAX

_UID = re.compile(r"[\x21-\x7e]{1,70}\Z")
_OCTETS_MAX = 2**53


class ExchangeError(Exception):
    """The other side said something that has no place here."""


class Opened(StrEnum):
    """How the opening of a maildrop went."""

    OK = "ok"
    IN_USE = "in use"
    NO_MAILDROP = "no maildrop"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class OpenMaildrop:
    """Lock and list. Answered by `listing_lines`, or by one line with another Opened."""


@dataclass(frozen=True, slots=True)
class OpenMessage:
    """Answered by `done_line`, with a descriptor when true."""

    number: int


@dataclass(frozen=True, slots=True)
class Settle:
    """Delete these, move what is new to cur/, make it durable. Answered by `done_line`."""

    deleted: tuple[int, ...]


Request = OpenMaildrop | OpenMessage | Settle


def request_line(request: Request) -> bytes:
    """A request as the front sends it."""
    match request:
        case OpenMaildrop():
            return _line({"open": True})
        case OpenMessage(number):
            return _line({"message": number})
        case Settle(deleted):
            return _line({"delete": deleted})


def parse_request(line: bytes, messages: int) -> Request:
    """The request that a line holds; numbers are those of the `messages` that were listed."""
    match _parsed(line):
        case {"open": True}:
            return OpenMaildrop()
        case {"message": int(number)} if 1 <= number <= messages:
            return OpenMessage(number)
        case {"delete": list(numbers)} if all(isinstance(one, int) and 1 <= one <= messages for one in numbers):
            return Settle(tuple(numbers))
    raise ExchangeError("not a request")


def refusal_line(why: Opened) -> bytes:
    return _line({"opened": why.value})


def listing_lines(maildrop: Maildrop) -> Iterable[bytes]:
    """A whole listing; the last line says that nothing follows."""
    total = len(maildrop.uids)
    for start in range(0, total, _BATCH):
        end = start + _BATCH
        yield _line({"uids": list(maildrop.uids[start:end]), "octets": list(maildrop.octets[start:end])})
    yield _line({"opened": Opened.OK.value})


def done_line(done: bool) -> bytes:
    return _line({"done": done})


class Listing:
    """Gathers the lines of a listing; `finished` is set by the last one."""

    def __init__(self) -> None:
        self.finished: Opened | None = None
        self._uids: list[str] = []
        self._octets: list[int] = []

    def add(self, line: bytes) -> None:
        match _parsed(line):
            case {"uids": list(uids), "octets": list(octets)} if len(uids) == len(octets):
                if not all(isinstance(uid, str) and _UID.match(uid) for uid in uids):
                    raise ExchangeError("not a unique id")
                if not all(isinstance(size, int) and 0 <= size <= _OCTETS_MAX for size in octets):
                    raise ExchangeError("not a size")
                self._uids += uids
                self._octets += octets
            case {"opened": str(word)} if word in list(Opened):
                self.finished = Opened(word)
            case _:
                raise ExchangeError("not a line of a listing")
        if len(self._uids) > MESSAGES_MAX:
            raise ExchangeError("too many messages")

    def maildrop(self) -> Maildrop:
        return Maildrop(self._uids, self._octets)


def parse_done(line: bytes) -> bool:
    """Whether what was asked is done."""
    match _parsed(line):
        case {"done": bool(done)}:
            return done
    raise ExchangeError("not an answer")


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExchangeError("not JSON") from error
