"""The commands `queue …` and their options. What a command does is in a module of its own, imported when it runs.

Exit status: 0 done; 1 not done (an id that is not queued, an answer of no, a message that cannot be changed now, a
wait that was too long); 2 usage; 75 a replica that does not answer.
"""

import argparse
import os
from collections.abc import Callable

from cli.places import Places
from cli.refusal import EXIT_USAGE, Refusal

Command = Callable[[Places, argparse.Namespace], int]

_TOP = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Gives the parser of `queue` its commands."""
    from cli.selection import StateOption, add_filters

    parser.epilog = (
        "Exit status: 0 done, or nothing to do; 1 not done; 2 usage, also when an action would have to ask and cannot; "
        "75 a replica does not answer, or nobody answers for a log. docs/operations.md says more."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--state", metavar="DIR", default=argparse.SUPPRESS, help="the state directory")
    parent.add_argument("--json", action="store_true", help="for programs: one object a line")
    filtering = argparse.ArgumentParser(add_help=False)
    filtering.add_argument(
        "--state",
        action=StateOption,
        metavar="STATE",
        default=argparse.SUPPRESS,
        help="with a recipient that is waiting, held, delivering, done or failed; anything else: the state directory",
    )
    filtering.add_argument("--json", action="store_true", help="for programs: one object a line")
    add_filters(filtering)

    def make(name: str, command: Command, text: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=list(parents), help=text, description=text)
        made.set_defaults(command=command)
        return made

    make("list", _list, "every queued message, as qmail-qread shows it, and why it waits", filtering)
    show = make("show", _show, "all that is known of a message", parent)
    show.add_argument("id", nargs="+", help="the message id")
    show.add_argument("--headers", action="store_true", help="instead: its header")
    show.add_argument(
        "--body", action="store_true", help="instead: its body; with --headers the message, octet by octet"
    )
    stats = make("stats", _stats, "how much is queued, where to, and who is at work on it", filtering)
    stats.add_argument("--top", type=int, default=_TOP, metavar="N", help=f"the N largest destinations ({_TOP})")
    for name, text in (
        ("retry", "try them now, past the back-off of their destinations"),
        ("hold", "start nothing of them until they are released"),
        ("release", "end a hold"),
        ("remove", "end them without a bounce"),
    ):
        acting = make(name, _act, text, filtering)
        acting.set_defaults(action=name, force=False)
        acting.add_argument("--all", action="store_true", help="every message")
        acting.add_argument("--yes", action="store_true", help="do not ask")
        acting.add_argument("--dry-run", action="store_true", help="only show what would be done")
        if name == "retry":
            acting.add_argument(
                "--force",
                action="store_true",
                help="also what a worker that is away may be at work on: it may be delivered twice",
            )
    idle = make("wait-idle", _wait_idle, "wait until nothing is queued", parent)
    idle.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds; then the exit status is 1")


def _list(places: Places, options: argparse.Namespace) -> int:
    from cli import listing, selection

    return listing.show(places, selection.of(options), options.json)


def _show(places: Places, options: argparse.Namespace) -> int:
    from cli import particulars, selection

    ids = tuple(dict.fromkeys(map(selection.an_id, options.id)))
    return particulars.show(places, ids, particulars.Wish(options.headers, options.body, options.json))


def _stats(places: Places, options: argparse.Namespace) -> int:
    from cli import backlog, selection
    from runtime.clock import SystemClock

    shape = backlog.Shape(options.json, max(0, options.top))
    return backlog.stats(places, selection.of(options), shape, SystemClock())


def _act(places: Places, options: argparse.Namespace) -> int:
    from cli import actions, selection
    from cli.admin import Action

    chosen = selection.of(options)
    if bool(chosen.ids) + chosen.filters + options.all != 1:
        raise Refusal(f"queue {options.action}: name ids, or filters, or --all: one of the three", EXIT_USAGE)
    wish = actions.Wish(
        Action(options.action), chosen, options.yes, options.dry_run, force=options.force, as_json=options.json
    )
    return actions.run(places, wish, os.environ)


def _wait_idle(places: Places, options: argparse.Namespace) -> int:
    from cli import backlog
    from runtime.clock import SystemClock

    return backlog.wait_idle(places, options.timeout, options.json, SystemClock())
