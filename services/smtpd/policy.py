"""What smtpd decides, and the words it decides in: who may connect, which sender and which recipient is taken.

Pure. Knows the control files as values (Rules) and a client as what was decided when it connected; asks nobody. The
order at RCPT is qmail-smtpd's, with one question more: RELAYCLIENT or rcpthosts, then the keeper of accounts.
"""

from dataclasses import dataclass
from enum import StrEnum

from mail import address, control
from mail.limits import ADDRESS_MAX_OCTETS, MESSAGE_MAX_OCTETS, RECIPIENTS_MAX
from services.smtpd import tcprules

BAD_SENDER = "553 5.7.1 sorry, your envelope sender is in my badmailfrom list"
NOT_HERE = "553 5.7.1 sorry, that domain isn't in my list of allowed rcpthosts"
NOBODY = "550 5.1.1 sorry, no mailbox here by that name"
UNSURE = "451 4.3.0 sorry, I can't look up that mailbox now, try again later"
TOO_MANY = f"452 4.5.3 sorry, that is more than {RECIPIENTS_MAX} recipients: send the rest in another message"
TOO_LONG = "553 5.1.3 sorry, that address is too long"
TOO_BIG = "552 5.3.4 sorry, that message size exceeds my databytes limit"
NO_QUEUE = "451 4.3.2 sorry, the queue takes no mail now, try again later"
TROUBLE = "451 4.3.0 sorry, I have trouble here, try again later"


class Verdict(StrEnum):
    """What the keeper of accounts says of an address."""

    UNSURE = "unsure"
    DELIVERABLE = "deliverable"
    NOBODY = "nobody"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Rules:
    """The control files, as qmail-control(5) describes them. `rcpthosts` None: there is no such file."""

    me: str
    greeting: str
    localiphost: str
    rcpthosts: frozenset[str] | None
    badmailfrom: frozenset[str]
    databytes: int
    timeout_s: int
    connections: int
    connections_per_ip: int
    peers: tcprules.Rules


@dataclass(frozen=True, slots=True)
class Client:
    """A peer that may speak to us. `relay` is RELAYCLIENT's value, None when it is not set."""

    ip: str
    relay: str | None
    limit: int  # octets a message


def greet(rules: Rules, ip: str) -> Client | None:
    """What tcp.smtp says of a peer; None when it is denied. DATABYTES is stronger than control/databytes.

    Neither raises the limit above what the queue takes: the number in EHLO is one that holds.
    """
    rule = rules.peers.find(ip)
    if not rule.allow:
        return None
    databytes = int(rule.variables.get("DATABYTES", rules.databytes))
    return Client(ip, rule.variables.get("RELAYCLIENT"), min(databytes or MESSAGE_MAX_OCTETS, MESSAGE_MAX_OCTETS))


def addressed(rules: Rules, client: Client, recipient: str, our_ip: str) -> str:
    """The recipient as it goes into the envelope: our own address literal named, RELAYCLIENT appended (qmail-smtpd)."""
    local, domain = address.split(recipient)
    if domain.startswith("[") and tcprules.plain(domain[1:-1].removeprefix("IPv6:")) == our_ip:
        recipient = f"{local}@{rules.localiphost}"
    return recipient + (client.relay or "")


def refuse_sender(client: Client, size: int, queue_available: bool) -> str | None:
    """The refusal of MAIL, None when the sender may go on. badmailfrom waits for RCPT, as in qmail."""
    if size > client.limit:
        return TOO_BIG
    return None if queue_available else NO_QUEUE


def refuse_recipient(rules: Rules, client: Client, sender: str, recipient: str, taken: int) -> str | None:
    """What can be said of a recipient without asking anybody; `taken` is how many this message already has."""
    if taken >= RECIPIENTS_MAX:
        return TOO_MANY
    if is_bad_sender(rules, sender):
        return BAD_SENDER
    if len(recipient) > ADDRESS_MAX_OCTETS:
        return TOO_LONG
    if client.relay is None and rules.rcpthosts is not None and not is_listed(rules.rcpthosts, recipient):
        return NOT_HERE
    return None


def refuse_verdict(rules: Rules, client: Client, verdict: Verdict) -> str | None:
    """What the keeper's answer means for a recipient that `refuse_recipient` let pass.

    Without rcpthosts nothing is taken but what is local: qmail relayed for everybody then.
    """
    match verdict:
        case Verdict.DELIVERABLE:
            return None
        case Verdict.NOBODY:
            return NOBODY
        case Verdict.UNSURE:
            return UNSURE
        case Verdict.ELSEWHERE:
            return NOT_HERE if client.relay is None and rules.rcpthosts is None else None


def is_listed(rcpthosts: frozenset[str], recipient: str) -> bool:
    """Whether rcpthosts names the domain or one of its suffixes; an address without a domain is always ours."""
    _, domain = address.split(recipient)
    if not domain:
        return True
    return domain.lower() in rcpthosts or any(suffix in rcpthosts for suffix in control.suffixes(domain))


def is_bad_sender(rules: Rules, sender: str) -> bool:
    """Whether badmailfrom names the address or its @host; never the null sender."""
    if not sender or not rules.badmailfrom:
        return False
    _, domain = address.split(sender.lower())
    return sender.lower() in rules.badmailfrom or f"@{domain}" in rules.badmailfrom


def is_reply(text: str) -> bool:
    """Whether a text from another service may be given to a client as a refusal."""
    return text[:1] in ("4", "5") and text.isprintable() and text.isascii()
