"""Which messages an operator means: does this one match? Pure.

In patterns * stands for anything and ? for one character; case does not matter. What is said of a recipient must be
true of one and the same.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from mail import address
from mail.ids import MessageId
from services.queue.message import Message

# The name of the state of a recipient (its position), for the operator.
NameState = Callable[[Message, int], str]


@dataclass(frozen=True, slots=True)
class Selection:
    """Those messages that match everything that is set. `ids`: any of these; empty means every message."""

    ids: tuple[MessageId, ...] = ()
    sender: re.Pattern[str] | None = None
    recipient: re.Pattern[str] | None = None
    domain: re.Pattern[str] | None = None
    older_ms: int = 0
    younger_ms: int = 0
    states: frozenset[str] = frozenset()

    def matches(self, message: Message, now_ms: int, name_state: NameState) -> bool:
        """Whether the message, which is one of `ids`, is meant."""
        age_ms = now_ms - message.arrived_ms
        if age_ms < self.older_ms or (self.younger_ms and age_ms >= self.younger_ms):
            return False
        if self.sender and not self.sender.match(message.sender):
            return False
        if not (self.recipient or self.domain or self.states):
            return True
        return any(self._is_meant(message, index, name_state) for index in range(len(message.recipients)))

    def _is_meant(self, message: Message, index: int, name_state: NameState) -> bool:
        if self.states and name_state(message, index) not in self.states:
            return False
        recipient = message.recipients[index]
        addresses = (recipient.route.address, recipient.address)
        if self.recipient and not any(map(self.recipient.match, addresses)):
            return False
        return not self.domain or any(self.domain.match(address.split(one)[1]) for one in addresses)


def pattern(text: str) -> re.Pattern[str]:
    """The pattern that `text` writes; it matches whole addresses, in a time that grows with their length only."""
    first, *rest = (re.escape(piece).replace(r"\?", ".") for piece in text.split("*"))
    if rest:
        # Each piece is taken where it is first found, and that is not tried again: stars cannot multiply.
        first += "".join(f"(?>.*?{piece})" for piece in rest[:-1]) + ".*" + rest[-1]
    return re.compile(first + r"\Z", re.IGNORECASE | re.DOTALL)
