"""Counting what is queued: by channel, by state, by what it waits for, by destination. Pure."""

from collections import Counter
from collections.abc import Sequence

from mail import address
from mail.routing import Channel
from services.queue.message import Message

# Destinations that are told; the rest are one figure.
DESTINATIONS_TOLD_MAX = 1_000
# Destinations that are counted apart: 10 MB. What comes when there are so many is counted together.
_DESTINATIONS_MAX = 100_000
ELSEWHERE = ""


class Census:
    """The figures of the messages that were counted; of recipients unless it says otherwise."""

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0
        self.oldest: Message | None = None
        self.channels: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._destinations: Counter[str] = Counter()

    def count(self, message: Message, states: Sequence[str], reasons: Sequence[str]) -> None:
        """Adds a message, with the state of each of its recipients and what it waits for."""
        self.messages += 1
        self.octets += message.size
        if self.oldest is None or message.arrived_ms < self.oldest.arrived_ms:
            self.oldest = message
        self.states.update(states)
        for recipient, reason in zip(message.recipients, reasons, strict=True):
            if recipient.settled:
                continue
            self.reasons[reason] += 1
            self.channels[recipient.route.channel.value] += 1
            local, domain = address.split(recipient.route.address)
            where = (local if recipient.route.channel is Channel.LOCAL else domain).lower()
            known = where in self._destinations or len(self._destinations) < _DESTINATIONS_MAX
            self._destinations[where if known else ELSEWHERE] += 1

    def destinations(self) -> dict[str, int]:
        """The largest destinations; what is not among them is under ELSEWHERE."""
        told = dict(self._destinations.most_common(DESTINATIONS_TOLD_MAX))
        told.pop(ELSEWHERE, None)
        rest = self._destinations.total() - sum(told.values())
        return told | ({ELSEWHERE: rest} if rest else {})
