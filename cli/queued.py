"""A queued message as the queue tells it, as a value: what `queue list --json` writes, and how people read it. Pure.

Times are Unix seconds, None for never. What a message is and why it waits, the queue knows.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from cli import escape

# The states that a recipient can be in, as `--state` names them.
STATES = ("waiting", "held", "delivering", "done", "failed")

# What a recipient waits for when it may be under way at a worker that is away (services/queue/reason.py).
AWAY = "reattach"


class QueuedRecipient(TypedDict):
    """One recipient; `report` and `given` only in `queue show`."""

    address: str
    channel: str
    state: str
    attempts: int
    next_attempt: float | None
    why: str
    reason: str
    report: NotRequired[str]
    given: NotRequired[str]


class Queued(TypedDict):
    """One message; `uid`, `envid` and `parent` only in `queue show`."""

    id: str
    log: str
    sender: str
    size: int
    arrived: float | None
    recipients: list[QueuedRecipient]
    held_by: str | None
    held_since: float | None
    uid: NotRequired[int]
    envid: NotRequired[str]
    parent: NotRequired[str | None]


def date(seconds: float | None) -> str:
    """As qmail writes it: the day without a leading zero."""
    when = datetime.fromtimestamp(seconds or 0, UTC)
    return f"{when.day} {when:%b} {when.year} {when:%H:%M:%S} GMT"


def ago(seconds: float) -> str:
    """A length of time in one unit, rounded down."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def head(queued: Queued) -> str:
    """The first line of a message, as qmail-qread shows it."""
    line = f"{date(queued['arrived'])}  #{queued['id']}  {queued['size']}  <{escape.plain(queued['sender'])}> "
    return line + " bouncing" if is_bouncing(queued) else line


def is_bouncing(queued: Queued) -> bool:
    """Whether somebody will get a bounce of it: a recipient has failed."""
    return any(recipient["state"] == "failed" for recipient in queued["recipients"])


def lines(queued: Queued) -> list[str]:
    """A message as qmail-qread shows it, and under every recipient that is not settled, why it waits."""
    shown = [head(queued)]
    if queued["held_by"]:
        shown.append(f"\t\t{_held(queued)}")
    for recipient in queued["recipients"]:
        settled = recipient["state"] in ("done", "failed")
        shown.append(f"{'  done' * settled}\t{recipient['channel']}\t{escape.plain(recipient['address'])}")
        if not settled and recipient["state"] != "held":
            shown.append(f"\t\t{_tries(recipient)}{escape.plain(recipient['why'])}")
    return shown


def particulars(queued: Queued) -> list[str]:
    """Everything that is known of a message, for `queue show`."""
    shown = [
        f"id         {queued['id']}",
        f"log        {queued['log']}",
        f"sender     <{escape.plain(queued['sender'])}>",
        f"arrived    {date(queued['arrived'])}",
        f"size       {queued['size']} octets",
        f"from uid   {queued.get('uid', 0)}",
    ]
    if queued.get("envid"):
        shown.append(f"envid      {escape.plain(queued.get('envid', ''))}")
    if queued.get("parent"):
        shown.append(f"caused by  {queued.get('parent')}")
    if queued["held_by"]:
        shown.append(f"hold       {_held(queued)}")
    for recipient in queued["recipients"]:
        shown += _recipient(recipient)
    return shown


def _recipient(recipient: QueuedRecipient) -> Sequence[str]:
    given = recipient.get("given", "")
    as_given = f" (given as {escape.plain(given)})" if given and given != recipient["address"] else ""
    shown = [
        f"recipient  {escape.plain(recipient['address'])}{as_given}",
        f"  channel      {recipient['channel']}",
        f"  state        {recipient['state']}",
        f"  attempts     {recipient['attempts']}",
    ]
    if recipient["next_attempt"]:
        shown.append(f"  next         {date(recipient['next_attempt'])}")
    if recipient["why"]:
        shown.append(f"  why          {escape.plain(recipient['why'])}")
    if recipient.get("report"):
        report = [escape.plain(line) for line in recipient.get("report", "").rstrip("\n").split("\n")]
        shown.append("\n               ".join([f"  last report  {report[0]}", *report[1:]]))
    return shown


def _held(queued: Queued) -> str:
    return f"held by {escape.plain(queued['held_by'] or '')} since {date(queued['held_since'])}"


def _tries(recipient: QueuedRecipient) -> str:
    """How often it was tried; nothing when it was not."""
    if not recipient["attempts"]:
        return ""
    return f"{recipient['attempts']} {'try' if recipient['attempts'] == 1 else 'tries'}: "
