"""One delivery as qmail-local decides it: instructions in order, the first failure stops, forwards go last.

Pure: the child asks `next_step` what to do, says how it went, and takes the result. What an earlier attempt finished
is skipped and counted, which qmail did not do: it repeated everything.
"""

from dataclasses import dataclass

from mail import address
from mail.ids import MessageId, child_id
from mail.limits import ADDRESS_MAX_OCTETS, REPORT_MAX_OCTETS
from mail.outcome import Deferred, Delivered, Failed, Outcome
from services.local import texts
from services.local.dotqmail import Forward, Instruction, Maildir, Mbox, Program, Stop

DELIVERED_TO = "Delivered-To: "
# Stands in `done` beside a program that said 99: the lines after it are to be ignored at every later attempt too.
# Larger than the number of any line (dotqmail.FILE_MAX_OCTETS).
LAST = 1 << 20
# qmail-command(8): these exit codes mean never; 0 and 99 mean done; all others mean later.
PERMANENT_CODES = frozenset({64, 65, 70, 76, 77, 78, 100, 112})
_DONE_AND_LAST = 99
_NOT_FOUND = 127  # of sh(1), which then says so in these words; a program may exit so for reasons of its own
_NOT_FOUND_WORDS = b"not found"
_LSPAWN_SPARES = 3  # octets that qmail-lspawn leaves free of its limit

Step = Maildir | Mbox | Program


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


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended: its exit code or the signal that killed it, and what it said. `trouble` is the report when
    it could not be run, or was not let run to its end."""

    code: int = 0
    signal: int = 0
    output: bytes = b""
    trouble: str = ""


class Attempt:
    """The state of one delivery while it is carried out. `new_sender` and `default` are what programs are told as
    $NEWSENDER and $DEFAULT."""

    def __init__(
        self, job: Job, instructions: tuple[Instruction, ...], new_sender: str = "", default: str | None = None
    ) -> None:
        self.job = job
        self.new_sender = new_sender
        self.default = default
        self.outcome: Outcome | None = None
        self.is_set_aside = False  # the next step takes too long for where this attempt is made
        self.done = list(job.done)
        self.published: list[tuple[str, str]] = []  # Maildir and file name, for events and the sweep
        self._instructions = instructions
        self._position = 0
        self._files = 0
        self._programs = 0
        self._forwards: list[Forward] = []
        self._output = b""

    def next_step(self) -> Step | None:
        """What is to be done next; None when the attempt has its outcome."""
        while self.outcome is None and self._position < len(self._instructions):
            instruction = self._instructions[self._position]
            match instruction:
                case Maildir() | Mbox() | Program() if instruction.index not in self.done:
                    return instruction
                case Maildir() | Mbox() | Program():
                    self._count(instruction)
                case Forward():
                    self._forwards.append(instruction)
                case Stop():
                    self.defer(instruction.report)
            self._position += 1
        if self.outcome is None:
            self._end_well()
        return None

    def copies_before(self, mbox: Mbox) -> int:
        """How many earlier lines append to the same mbox."""
        return sum(1 for one in self._instructions[: self._position] if isinstance(one, Mbox) and one.path == mbox.path)

    def maildir_is_published(self, maildir: Maildir, name: str) -> None:
        self.published.append((maildir.path, name))
        self._advance(maildir)

    def mbox_is_appended(self, mbox: Mbox) -> None:
        self._advance(mbox)

    def program_has_ended(self, program: Program, ending: Ending) -> None:
        self._output += ending.output
        if ending.trouble:
            self.defer(ending.trouble)
        elif ending.signal:
            self.defer(texts.killed(ending.signal))
        elif ending.code in (0, _DONE_AND_LAST):
            if ending.code == _DONE_AND_LAST:
                self.done.append(LAST + program.index)
            self._advance(program)
        elif ending.code in PERMANENT_CODES:
            self.outcome = Failed(self._report(""))
        else:
            missing = ending.code == _NOT_FOUND and _NOT_FOUND_WORDS in ending.output
            self.defer(texts.not_found(program.command) if missing else "")

    def set_aside(self) -> None:
        self.is_set_aside = True

    def defer(self, report: str) -> None:
        """Nothing more happens in this attempt, and nothing is forwarded."""
        self.outcome = Deferred(self._report(report))

    def wants_to_forward(self) -> bool:
        return isinstance(self.outcome, Delivered) and any(forward.address for forward in self._forwards)

    def forwarding(self) -> Forwarding:
        """What to send on, from whom (dot-qmail(5), NEWSENDER)."""
        return Forwarding(
            sender=self.new_sender,
            recipients=tuple(forward.address for forward in self._forwards if forward.address),
            header=self.job.delivered_to(),
            instruction=self._forwards[0].index,
        )

    def _advance(self, instruction: Maildir | Mbox | Program) -> None:
        self.done.append(instruction.index)
        self._count(instruction)
        self._position += 1

    def _count(self, instruction: Maildir | Mbox | Program) -> None:
        """Counts what is done, now or by an earlier attempt."""
        if not isinstance(instruction, Program):
            self._files += 1
            return
        self._programs += 1
        if LAST + instruction.index in self.done:
            self._instructions = self._instructions[: self._position + 1]

    def _end_well(self) -> None:
        """qmail learns of an address that cannot be forwarded to when it hands the message in: after everything else.
        One without any address, a line `&`, it forwards into nothing."""
        addresses = [forward.address for forward in self._forwards if forward.address]
        if any(len(one.encode("utf-8", "surrogateescape")) > ADDRESS_MAX_OCTETS for one in addresses):
            self.outcome = Failed(self._report(texts.FORWARD_TOO_LONG))
        elif not all(map(address.acceptable, addresses)):
            self.defer(texts.FORWARD_UNFIT)
        else:
            report = texts.did(self._files, len(self._forwards), self._programs)
            self.outcome = Delivered(self._report(report + self._queued(addresses)))

    def _queued(self, addresses: list[str]) -> str:
        """qmail's line with the number of the forward; ours is the id that the queue gives it."""
        if not addresses:
            return ""
        parent, first = MessageId(self.job.message), self._forwards[0].index
        return texts.queued(child_id(parent, self.job.recipient, first, "\n".join(addresses)))

    def _report(self, text: str) -> str:
        return report_of(self._output + text.encode("utf-8", "surrogateescape"))


def report_of(said: bytes) -> str:
    """A report as qmail-lspawn makes it of what qmail-local and its programs said: cut when it is too long, and then
    before the first NUL."""
    if len(said) > REPORT_MAX_OCTETS:
        cut = texts.REPORT_TOO_LONG.encode()
        said = said[: REPORT_MAX_OCTETS - len(cut) - _LSPAWN_SPARES] + cut
    return said.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def new_sender(job: Job, owner: Owner) -> str:
    """The envelope sender of forwards: the original one, or the list's owner, or the owner with a place for VERP."""
    if not owner.owner or job.sender in ("", "#@[]"):
        return job.sender
    if owner.owner_default:
        return f"{job.local}-owner-@{job.host}-@[]"
    return f"{job.local}-owner@{job.host}"


def _one_line(text: str) -> str:
    return text.replace("\n", "_").replace("\r", "_")
