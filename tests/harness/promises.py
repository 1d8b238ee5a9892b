"""What a clerk (tests/harness/clerk.py) promised, held against what the next owner found. Pure.

A line of a journal is a list: its first word says what it is about, its second mostly which message.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Lines = list[list[Any]]

_OF_MESSAGES = ("offered", "committed", "refused", "unknown", "asked", "resolved", "reporting", "reported")
# What came after an outcome, for each word of the clerk.
_CHILD = {"forwarded": "forward", "bounced": "bounce"}


@dataclass(slots=True)
class Told:
    """What was promised of one message."""

    offered: bool = False
    answers: list[str] = field(default_factory=list)
    tombstone: bool = False
    reporting: dict[int, str] = field(default_factory=dict)  # by recipient, what became of it
    reported: dict[int, str] = field(default_factory=dict)  # the same, once it was acknowledged
    texts: dict[int, str] = field(default_factory=dict)

    @property
    def committed(self) -> bool:
        return "committed" in self.answers

    @property
    def finished(self) -> bool:
        """Whether both recipients' ends were acknowledged."""
        return len(self.reported) == 2 and "deferred" not in self.reported.values()

    @property
    def may_be_finished(self) -> bool:
        return len(self.reporting) == 2 and "deferred" not in self.reporting.values()


def told(lines: Lines) -> dict[int, Told]:
    """Every promise, by the number of the message."""
    book: dict[int, Told] = {}
    for word, *rest in lines:
        if word not in _OF_MESSAGES:
            continue
        one = book.setdefault(rest[0], Told())
        match word:
            case "offered":
                one.offered = True
            case "committed" | "refused" | "unknown":
                one.answers.append(word)
            case "resolved" if rest[1] is False:
                one.tombstone = True
            case "resolved" if rest[1] is True:
                one.answers.append("committed")
            case "reporting":
                one.reporting[rest[1]] = rest[2]
            case "reported":
                one.reported[rest[1]], one.texts[rest[1]] = rest[2:]
    return book


def broken(said: Lines, found: Lines) -> list[str]:
    """What breaks a promise, one line each: `said` by all former owners, `found` by the one that looked."""
    places = {
        (number, kind): (standing, whole, states) for number, kind, standing, whole, states in _of("found", found)
    }
    faults = [f"an unknown message: {one}" for line in _of("strangers", found) for one in line]
    for number, one in told(said).items():
        if (number, "bounce") not in places:
            faults.append(f"{number}: the next owner did not come to it")
            continue
        standing, whole, states = places[number, ""]
        if not whole:
            faults.append(f"{number} is altered")
        faults += [f"{number}: {fault}" for fault in _standing_faults(one, standing)]
        faults += [f"{number}: {fault}" for fault in _state_faults(one, standing, states)]
        for word, kind in _CHILD.items():
            caused = one.reported.get(0, one.reporting.get(0)) == word
            child = places[number, kind][0]
            if (child != "unknown") != (caused and standing == "finished"):
                faults.append(f"{number} is {standing}, its {kind} is {child}")
            if not places[number, kind][1]:
                faults.append(f"the {kind} of {number} is altered")
    faults += _answer_faults(told(said), found)
    faults += _late(said)
    return faults


def _of(word: str, lines: Lines) -> Iterable[list[Any]]:
    return [rest for first, *rest in lines if first == word]


def _standing_faults(one: Told, standing: str) -> list[str]:
    if one.committed and one.tombstone:
        return ["both committed and refused"]
    if one.committed:
        wanted = {"finished"} if one.finished else {"live", "finished"} if one.may_be_finished else {"live"}
    elif one.tombstone:
        wanted = {"refused"}
    elif "refused" in one.answers:
        wanted = {"unknown", "refused"}
    else:  # never answered, or unknown
        wanted = {"unknown", "live", "refused"}
    return [] if standing in wanted else [f"{standing}, wanted {' or '.join(sorted(wanted))}"]


def _state_faults(one: Told, standing: str, states: list[list[Any]]) -> list[str]:
    faults = []
    for recipient, became in one.reported.items() if standing == "live" else ():
        state, attempts, report = states[recipient]
        if became == "deferred" and (state, attempts, report) != ("waiting", 1, one.texts[recipient]):
            faults.append(f"recipient {recipient} was deferred, and is {state} after {attempts} attempts")
        if became != "deferred" and state not in ("done", "failed"):
            faults.append(f"recipient {recipient} was {became}, and is {state}")
    for recipient, (state, attempts, _) in enumerate(states):
        if recipient not in one.reporting and (state, attempts) != ("waiting", 0):
            faults.append(f"nobody reported recipient {recipient}, which is {state}")
    return faults


def _answer_faults(book: dict[int, Told], found: Lines) -> list[str]:
    """Whether the one that looked answered for what it found, and for what was promised."""
    faults = []
    standings = {number: standing for number, kind, standing, *_ in _of("found", found) if not kind}
    for number, one in told(found).items():
        if number not in standings or (not one.answers and not one.tombstone):
            continue
        there = standings[number] in ("live", "finished")
        if there == one.tombstone or there != one.committed:
            faults.append(f"{number} was {standings[number]}, and was answered {one}")
        if number in book and book[number].committed and not one.committed:
            faults.append(f"{number} was committed once")
    return faults


def _late(said: Lines) -> list[str]:
    """What was promised after the process had been told to end because of its disk."""
    words = [line[0] for line in said]
    if "stopping" not in words:
        return []
    after = said[words.index("stopping") + 1 :]
    return [
        f"after the failure: {line}"
        for line in after
        if line[0] in ("committed", "reported") or (line[0] == "resolved" and line[2] is not None)
    ]
