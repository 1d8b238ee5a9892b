"""One delivery as qmail-local decides it: instructions in order, the first failure stops, forwards go last.

Pure: the child asks `next_file` what to publish, says how it went, and takes the result. What an earlier attempt
finished is skipped and counted, which qmail did not do: it repeated everything.
"""

from dataclasses import dataclass

from mail import address
from mail.limits import ADDRESS_MAX_OCTETS
from mail.outcome import Deferred, Delivered, Failed, Outcome
from services.local import texts
from services.local.dotqmail import Forward, Instruction, Maildir, Mbox, Program, Stop

DELIVERED_TO = "Delivered-To: "


@dataclass(frozen=True, slots=True)
class Job:
    """One message for one recipient. `start` and `end` bound the message within its batch's bodies."""

    message: str
    recipient: int
    arrived_s: int
    cluster: str
    sender: str
    local: str
    host: str
    dash: str
    ext: str
    done: tuple[int, ...]
    start: int
    end: int

    def delivered_to(self) -> str:
        """qmail's DTLINE; with a virtual user's prefix, as qmail writes it."""
        return f"{DELIVERED_TO}{self._here()}\n"

    def return_path(self) -> str:
        """qmail's RPLINE."""
        return f"Return-Path: <{_one_line(address.quoted(self.sender))}>\n"

    def _here(self) -> str:
        return _one_line(f"{self.local}@{self.host}")


@dataclass(frozen=True, slots=True)
class Forwarding:
    """One message to all targets, sent when everything else has succeeded."""

    sender: str
    recipients: tuple[str, ...]
    header: str
    instruction: int


@dataclass(slots=True)
class Owner:
    """Whether `…-owner` and `…-owner-default` exist beside the address's .qmail file."""

    owner: bool = False
    owner_default: bool = False


class Attempt:
    """The state of one delivery while it is carried out."""

    def __init__(self, job: Job, instructions: tuple[Instruction, ...]) -> None:
        self.job = job
        self.outcome: Outcome | None = None
        self.done = list(job.done)
        self.published: list[tuple[str, str]] = []  # Maildir and file name, for events and the sweep
        self._instructions = instructions
        self._position = 0
        self._files = 0
        self._forwards: list[Forward] = []

    def next_file(self) -> Maildir | None:
        """The next Maildir to publish into; None when the attempt has its outcome."""
        while self.outcome is None and self._position < len(self._instructions):
            instruction = self._instructions[self._position]
            match instruction:
                case Maildir() if instruction.index not in self.done:
                    return instruction
                case Maildir():
                    self._files += 1
                case Forward():
                    self._collect(instruction)
                case Mbox():
                    self.outcome = Deferred(texts.NO_MBOX_YET)
                case Program():
                    self.outcome = Deferred(texts.NO_PROGRAM_YET)
                case Stop():
                    self.outcome = Deferred(instruction.report)
            self._position += 1
        if self.outcome is None:
            self.outcome = Delivered(texts.did(self._files, len(self._forwards), 0))
        return None

    def file_is_published(self, maildir: Maildir, name: str) -> None:
        self.published.append((maildir.path, name))
        self.done.append(maildir.index)
        self._files += 1
        self._position += 1

    def defer(self, report: str) -> None:
        """Nothing more happens in this attempt, and nothing is forwarded."""
        self.outcome = Deferred(report)

    def wants_to_forward(self) -> bool:
        return bool(self._forwards) and isinstance(self.outcome, Delivered)

    def forwarding(self, owner: Owner) -> Forwarding:
        """What to send on, from whom (dot-qmail(5), NEWSENDER)."""
        return Forwarding(
            sender=new_sender(self.job, owner),
            recipients=tuple(forward.address for forward in self._forwards),
            header=self.job.delivered_to(),
            instruction=self._forwards[0].index,
        )

    def _collect(self, forward: Forward) -> None:
        if len(forward.address.encode("utf-8", "surrogateescape")) > ADDRESS_MAX_OCTETS:
            self.outcome = Failed(texts.FORWARD_TOO_LONG)
        elif not address.acceptable(forward.address):
            self.outcome = Deferred(texts.FORWARD_UNFIT)
        else:
            self._forwards.append(forward)


def new_sender(job: Job, owner: Owner) -> str:
    """The envelope sender of forwards: the original one, or the list's owner, or the owner with a place for VERP."""
    if not owner.owner or job.sender in ("", "#@[]"):
        return job.sender
    if owner.owner_default:
        return f"{job.local}-owner-@{job.host}-@[]"
    return f"{job.local}-owner@{job.host}"


def _one_line(text: str) -> str:
    return text.replace("\n", "_").replace("\r", "_")
