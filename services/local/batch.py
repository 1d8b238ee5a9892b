"""What the front and a user's child say to each other: a batch of work one way, one answer the other.

Each is four octets of length and JSON; the bodies of a batch travel beside it in one sealed memory file. Before what
cannot be done exactly once the child says so (`Note`), and waits for the front to have noted it (GO). Both ends are our
own code, but the child is a user: the front believes nothing of an answer that does not fit its question.
"""

import json
import struct
from dataclasses import astuple, dataclass
from typing import Any

from mail import address
from mail.outcome import Deferred, Delivered, Failed, Outcome
from services.local.delivery import DELIVERED_TO, LAST, Forwarding, Job
from services.local.limits import ProgramLimits
from services.local.sweep import NOTHING_SETTLED, Settled

LENGTH = struct.Struct("<I")
MOVED = b""  # what a child says instead of an answer when its home is another directory now
# 64 jobs with addresses of 900 octets, escaped; and their answers with reports and forwards to 100 addresses each.
FRAME_MAX_OCTETS = 16 * 1024 * 1024

GO = b"\n"  # the front's answer to a note of what begins
_APART = "A"

_KINDS: dict[str, type[Delivered] | type[Deferred] | type[Failed]] = {"K": Delivered, "Z": Deferred, "D": Failed}
_LETTERS = {kind: letter for letter, kind in _KINDS.items()}
_DONE_AT = 9  # of `done` in a row of a job: JSON has no tuples


class BadFrame(Exception):
    """The other end said something that it may not say."""


@dataclass(frozen=True, slots=True)
class Question:
    """Jobs to deliver, addresses (dash, extension) to look up, Maildirs to sweep: any of them may be empty. `crowded`:
    many users' children write to the disk now. `limits`: the one job is to be carried on in this child, which was made
    for it, programs included, within these."""

    jobs: tuple[Job, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    sweep: tuple[str, ...] = ()
    settled: Settled = NOTHING_SETTLED
    default_delivery: str = ""
    crowded: bool = False
    limits: ProgramLimits | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one job; no outcome: it is to be carried on in a child of its own. `published` are (Maildir, file
    name); `forgotten` names window W5."""

    outcome: Outcome | None
    done: tuple[int, ...] = ()
    forwardings: tuple[Forwarding, ...] = ()
    published: tuple[tuple[str, str], ...] = ()
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One `Done` a job; for an address True (somebody's), False (nobody's) or None (cannot be said); for a Maildir how
    many elections stay."""

    done: tuple[Done, ...] = ()
    found: tuple[bool | None, ...] = ()
    stay: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """Said before the answer: which instructions begin now and which are done, as (number of the job, instruction).
    `program`: what begins may take as long as a program."""

    begins: tuple[tuple[int, int], ...] = ()
    done: tuple[tuple[int, int], ...] = ()
    program: bool = False


def frame(value: object) -> bytes:
    payload = json.dumps(value, separators=(",", ":")).encode()
    return LENGTH.pack(len(payload)) + payload


def question_frame(question: Question) -> bytes:
    settled = question.settled
    return frame(
        {
            "jobs": [_job_row(job) for job in question.jobs],
            "addresses": question.addresses,
            "sweep": question.sweep,
            "settled": (settled.since_s, settled.until_s, sorted(settled.but)),
            "default": question.default_delivery,
            "crowded": question.crowded,
            "limits": astuple(question.limits) if question.limits else None,
        }
    )


def read_question(payload: bytes) -> Question:
    said = json.loads(payload)
    since_s, until_s, but = said["settled"]
    return Question(
        jobs=tuple(_job(row) for row in said["jobs"]),
        addresses=tuple((dash, ext) for dash, ext in said["addresses"]),
        sweep=tuple(said["sweep"]),
        settled=Settled(since_s, until_s, frozenset(but)),
        default_delivery=said["default"],
        crowded=said["crowded"],
        limits=ProgramLimits(*said["limits"]) if said["limits"] else None,
    )


def note_frame(note: Note) -> bytes:
    return frame({"begins": note.begins, "ends": note.done, "program": note.program})


def answer_frame(answer: Answer) -> bytes:
    rows = [
        (
            _LETTERS[type(done.outcome)] if done.outcome else _APART,
            done.outcome.report if done.outcome else "",
            done.done,
            [(one.sender, one.recipients, one.header, one.instruction) for one in done.forwardings],
            done.published,
            done.forgotten,
        )
        for done in answer.done
    ]
    return frame({"done": rows, "found": answer.found, "stay": answer.stay})


def read_said(payload: bytes, question: Question) -> Answer | Note:
    """The answer, which fits its question, or what is noted before; BadFrame otherwise."""
    try:
        said = json.loads(payload)
        if "begins" in said:
            return _note(said, question)
        answer = Answer(
            done=tuple(_done(row) for row in said["done"]),
            found=tuple(None if one is None else bool(one) for one in said["found"]),
            stay=tuple(int(one) for one in said["stay"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFrame(repr(error)) from error
    counts = (len(answer.done), len(answer.found), len(answer.stay))
    if counts != (len(question.jobs), len(question.addresses), len(question.sweep)):
        raise BadFrame("the answer has not as many parts as the question")
    if question.limits and any(done.outcome is None for done in answer.done):
        raise BadFrame("a child that was made for a job hands it on")
    return answer


def _job_row(job: Job) -> tuple[object, ...]:
    return (
        job.message,
        job.recipient,
        job.arrived_s,
        job.cluster,
        job.sender,
        job.local,
        job.host,
        job.dash,
        job.ext,
        job.done,
        job.start,
        job.end,
    )


def _job(row: list[Any]) -> Job:
    row[_DONE_AT] = tuple(row[_DONE_AT])
    return Job(*row)


def _note(said: dict[str, Any], question: Question) -> Note:
    note = Note(_steps(said["begins"]), _steps(said["ends"]), bool(said["program"]))
    if any(not 0 <= job < len(question.jobs) for job, _ in (*note.begins, *note.done)):
        raise BadFrame("a note of a job that was not asked for")
    return note


def _steps(rows: list[Any]) -> tuple[tuple[int, int], ...]:
    return tuple((int(job), _instruction(index)) for job, index in rows)


def _instruction(said: object) -> int:
    number = int(str(said))
    if not 0 <= number < 2 * LAST:
        raise ValueError("no line has this number")
    return number


def _done(row: list[Any]) -> Done:
    kind, report, done, forwardings, published, forgotten = row
    return Done(
        outcome=None if kind == _APART else _KINDS[kind](str(report)),
        done=tuple(_instruction(one) for one in done),
        forwardings=tuple(_forwarding(*one) for one in forwardings),
        published=tuple((str(path), str(name)) for path, name in published),
        forgotten=bool(forgotten),
    )


def _forwarding(sender: str, recipients: list[str], header: str, instruction: int) -> Forwarding:
    here = header.removeprefix(DELIVERED_TO).removesuffix("\n")
    if len(header) != len(DELIVERED_TO) + len(here) + 1 or not all(
        map(address.acceptable, (sender, here, *recipients))
    ):
        raise ValueError("a forward that may not enter an envelope")
    return Forwarding(sender, tuple(recipients), header, _instruction(instruction))
