"""`trace ID`: everything that happened to a message and to what came of it (bounces, forwards), in order of time.

Reads the event files of all services (runtime/events.py writes them) and nothing else, so it works when nothing runs.
"""

import glob
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cli.places import Places
from cli.refusal import EXIT_FAILED, EXIT_USAGE, Refusal
from mail.ids import MessageId, born_ms, parse_id

# A child's id begins with its parent's 48 bits of time, of which this many characters are whole.
_FAMILY_CHARACTERS = 9
# The fields in which an event names a message: its own, and one that comes of it.
_OWN = "msg"
_CHILDREN = ("bounce", "child")
# Events of one millisecond: the order in which a message passes the services.
_ORDER = ("smtpd", "queue", "local", "remote", "pop3")


@dataclass(frozen=True, slots=True)
class Record:
    """One event, and its line in the file."""

    time: str
    service: str
    fields: dict[str, Any]
    line: str

    def key(self) -> tuple[str, int]:
        role = self.service.partition("-")[0]
        return self.time, _ORDER.index(role) if role in _ORDER else len(_ORDER)


def show(places: Places, text: str, as_json: bool) -> int:
    """Prints the events; Refusal when `text` is no id or nothing is known of it."""
    message = parse_id(text)
    if message is None:
        raise Refusal(f"{text!r} is not a message id: take it from the 250 reply or a log line", EXIT_USAGE)
    found = related(message, _records(_files(places, message), message))
    if not found:
        raise Refusal(
            f"{places.events}: no event of {message}: is it the right --state DIR, and not too old?", EXIT_FAILED
        )
    for record in sorted(found, key=Record.key):
        print(record.line if as_json else written(record))
    return 0


def related(message: MessageId, records: Iterable[Record]) -> list[Record]:
    """The records of the message and of all that came of it."""
    everything = list(records)
    family = {str(message)}
    while True:
        grown = family | {
            str(record.fields[name])
            for record in everything
            if record.fields.get(_OWN) in family
            for name in _CHILDREN
            if name in record.fields
        }
        if grown == family:
            return [record for record in everything if record.fields.get(_OWN) in family]
        family = grown


def written(record: Record) -> str:
    """A record for people: time, service, event, fields."""
    fields = " ".join(
        f"{name}={_value(value)}" for name, value in record.fields.items() if name not in ("time", "service", "event")
    )
    return f"{record.time} {record.service} {record.fields.get('event', '?')}: {fields}"


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if isinstance(value, str) and text and " " not in text and text.isprintable() else json.dumps(value)


def _files(places: Places, message: MessageId) -> Iterator[str]:
    """The event files from the day of its birth on; a day earlier for clocks that differ."""
    day = datetime.fromtimestamp(born_ms(message) // 1_000, UTC) - timedelta(days=1)
    for path in sorted(glob.glob(os.path.join(glob.escape(places.events), "**", "*.jsonl"), recursive=True)):
        date = path.removesuffix(".jsonl").rpartition(".")[2]
        if date >= f"{day:%Y%m%d}":
            yield path


def _records(paths: Iterable[str], message: MessageId) -> Iterator[Record]:
    family = message[:_FAMILY_CHARACTERS]
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    if family in line and (record := _parsed(line.rstrip("\n"))):
                        yield record
        except PermissionError as error:
            raise Refusal(f"{path}: {error.strerror}: run as the user who runs the stack") from error


def _parsed(line: str) -> Record | None:
    try:
        fields = json.loads(line)
    except ValueError:  # a line cut by a full disk
        return None
    if not isinstance(fields, dict):
        return None
    return Record(str(fields.get("time", "")), str(fields.get("service", "")), fields, line)
