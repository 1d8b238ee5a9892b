"""How far a batch has got, as its child tells: what the front knows when the child is lost before it has answered."""

from collections.abc import Sequence

from mail.ids import MessageId
from runtime.events import Events
from services.local.batch import Note
from services.local.sweep import called
from services.local.underway import Underway


class Progress:
    """Of the jobs with these messages and recipients, in the order of the question."""

    def __init__(self, jobs: Sequence[tuple[MessageId, int]], underway: Underway, events: Events) -> None:
        self._jobs = jobs
        self._underway = underway
        self._events = events
        self._begun: list[set[int]] = [set() for _ in jobs]
        self._done: list[list[int]] = [[] for _ in jobs]

    def told(self, note: Note) -> None:
        """Notes what the child says. Whatever begins for the second time since a loss is window W2."""
        again = self._underway.begin((self._called(job), index) for job, index in note.begins)
        messages = {self._called(job): self._jobs[job][0] for job, _ in note.begins}
        for what, _ in again:
            self._events.possible_duplicate("W2", messages[what])
        for job, index in note.begins:
            self._begun[job].add(index)
        for job, index in note.done:
            self._done[job].append(index)

    def lost(self, job: int) -> tuple[int, ...]:
        """The child is gone: what this job is known to have done. What it was at is noted as lost."""
        self._underway.lose((self._called(job), index) for index in self._begun[job] - set(self._done[job]))
        return tuple(self._done[job])

    def _called(self, job: int) -> str:
        return called(*self._jobs[job])
