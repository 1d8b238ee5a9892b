"""Which messages a command means: ids, or filters, read from the command line. Pure; the queue does the matching.

In `--sender`, `--recipient` and `--domain`, * stands for anything and ? for one character, and case does not matter.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cli.queued import STATES
from cli.refusal import EXIT_USAGE, Refusal
from mail.ids import parse_id

_AGE = re.compile(r"(\d{1,9})([smhdw]?)\Z")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_NULL_SENDER = "<>"


@dataclass(frozen=True, slots=True)
class Selection:
    """Those messages that match everything that is set; recipient, domain and states of one and the same recipient."""

    ids: tuple[str, ...] = ()
    sender: str | None = None
    recipient: str = ""
    domain: str = ""
    older_s: int = 0
    younger_s: int = 0
    states: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        return self == Selection()

    @property
    def filters(self) -> bool:
        """Whether anything but ids narrows it."""
        return replace(self, ids=()) != Selection()

    def still(self) -> "Selection":
        """What may have changed since a message was found: it is asked again, of the ids that were found."""
        return Selection(recipient=self.recipient, domain=self.domain, states=self.states)


class StateOption(argparse.Action):
    """`--state`: one or more states of recipients, comma between them, else the state directory.

    A directory that is called like a state is written ./held.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        text = str(values)
        if set(text.split(",")) <= set(STATES):
            namespace.states = (*getattr(namespace, "states", ()), *text.split(","))
        else:
            namespace.state = text


def add_filters(parser: argparse.ArgumentParser) -> None:
    """The options of a command that can mean many messages."""
    parser.add_argument("id", nargs="*", help="these messages")
    parser.add_argument("--sender", metavar="PATTERN", help="from this envelope sender; <> is the null sender")
    parser.add_argument("--recipient", metavar="PATTERN", default="", help="to this address, given or rewritten")
    parser.add_argument("--domain", metavar="PATTERN", default="", help="to an address at this domain")
    parser.add_argument("--older", metavar="AGE", default="", help="arrived at least so long ago: 90s 15m 2h 3d 1w")
    parser.add_argument("--younger", metavar="AGE", default="", help="arrived less long ago than this")


def of(options: argparse.Namespace) -> Selection:
    """What the options mean; Refusal (2) when they make no sense."""
    sender = options.sender
    return Selection(
        ids=tuple(dict.fromkeys(map(an_id, options.id))),
        sender="" if sender == _NULL_SENDER else sender,
        recipient=options.recipient,
        domain=options.domain,
        older_s=seconds(options.older, "--older"),
        younger_s=seconds(options.younger, "--younger"),
        states=tuple(dict.fromkeys(getattr(options, "states", ()))),
    )


def an_id(text: str) -> str:
    """The message id in `text`, with or without qmail-qread's #; Refusal (2) when there is none."""
    message = parse_id(text.removeprefix("#"))
    if message is None:
        raise Refusal(f"{text!r} is not a message id: take it from the 250 reply or from `queue list`", EXIT_USAGE)
    return message


def seconds(text: str, option: str) -> int:
    """A length of time such as 90, 15m or 3d, in seconds; 0 when there is none."""
    if not text:
        return 0
    found = _AGE.match(text)
    if found is None or not int(found[1]):
        raise Refusal(f"{option} {text}: write a length of time such as 90s, 15m, 2h, 3d or 1w", EXIT_USAGE)
    return int(found[1]) * _UNITS[found[2]]
