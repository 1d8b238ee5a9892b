"""Where a recipient goes: qmail-send's rewriting of addresses (qmail-send(8), section 2.4 of the qmail reference).

The queue routes by it when a message comes in; local answers smtpd's question at RCPT by it: one function for both.
"""

from dataclasses import dataclass
from enum import StrEnum

from mail import address, control


class Channel(StrEnum):
    LOCAL = "local"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Route:
    channel: Channel
    address: str  # as rewritten: with the prepend of virtualdomains, with a host


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """control/locals, virtualdomains, percenthack, envnoathost. Keys in lower case."""

    locals: frozenset[str]
    virtualdomains: dict[str, str]
    percenthack: frozenset[str]
    envnoathost: str

    def route(self, recipient: str) -> Route:
        """The channel of a recipient and its rewritten address. The address keeps its case."""
        if "@" not in recipient:
            recipient = f"{recipient}@{self.envnoathost}"
        recipient = self._without_percents(recipient)
        local, domain = address.split(recipient)
        if domain.lower() in self.locals:
            return Route(Channel.LOCAL, recipient)
        prepend = self._prepend(recipient.lower(), domain)
        if prepend:
            return Route(Channel.LOCAL, f"{prepend}-{local}@{domain}")
        return Route(Channel.REMOTE, recipient)

    def without_prepend(self, rewritten: str) -> str:
        """A rewritten address as a bounce shows it: without the prepend of a virtual domain (qmail-send.c)."""
        _, domain = address.split(rewritten)
        if domain.lower() in self.locals:
            return rewritten
        for key in (domain.lower(), *control.suffixes(domain), ""):
            if key in self.virtualdomains:
                prepend = f"{self.virtualdomains[key]}-"
                return rewritten.removeprefix(prepend) if len(prepend) > 1 else rewritten
        return rewritten

    def _without_percents(self, recipient: str) -> str:
        at = recipient.rfind("@")
        while recipient[at + 1 :].lower() in self.percenthack:
            percent = recipient.rfind("%", 0, at)
            if percent < 0:
                break
            # What follows the new @ is the next domain to look at, with whatever @ there is in it.
            recipient, at = f"{recipient[:percent]}@{recipient[percent + 1 : at]}", percent
        return recipient

    def _prepend(self, recipient: str, domain: str) -> str:
        """The virtual user's prefix; "" when no entry, or an empty one, says that the address is remote."""
        for key in (recipient, domain.lower(), *control.suffixes(domain), ""):
            if key in self.virtualdomains:
                return self.virtualdomains[key]
        return ""
