"""How long nothing was heard of the owner of a log, and whether what a worker began under it is still the worker's.

Pure: seconds of one monotonic clock in, an answer out. What counts is a word: a stream may look alive for long after
its connection was cut off.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

# After this much silence what was begun is given up though its owner is there again: it may have been given to another.
# Shorter than the queue's REATTACH_S, asserted there, by more than it takes to say what is held.
LAPSE_S = 25.0


@dataclass(slots=True)
class Silence:
    """The silences of all logs. After `patience_s` nothing is ended without a word; LAPSE_S is too long."""

    patience_s: float
    _since: dict[str, float] = field(default_factory=dict)  # logs for which nobody speaks
    _lapsed_until: dict[str, float] = field(default_factory=dict)

    def begin(self, logs: Iterable[str], since: float) -> None:
        """Nobody speaks for these logs; the last word was heard then."""
        self._since.update(dict.fromkeys(logs, since))

    def end(self, logs: Iterable[str], since: float | None, now: float) -> None:
        """An owner of these logs is heard again; `since` is None when nobody spoke for them."""
        for log in logs:
            heard = self._since.get(log, now) if since is None else since
            if now - heard >= LAPSE_S:
                self._lapsed_until[log] = now

    def is_bearable(self, log: str, heard_at: float | None, begun_at: float, now: float) -> bool:
        """Whether what was begun then may still be ended, though its owner, perhaps, was silent for a while."""
        since = self._since.get(log) if heard_at is None else heard_at
        return (
            since is not None and now - since < self.patience_s and begun_at >= self._lapsed_until.get(log, -math.inf)
        )
