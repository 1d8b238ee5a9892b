"""The commands of bin/seapost and their options. What a command does is in a module of its own, imported when it runs.

Every error is one line on standard error naming the fix; the exit status is the error's.
"""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from cli import queue_commands, user_commands
from cli.places import DEFAULT_STATE, Places, find
from cli.refusal import EXIT_FAILED, Refusal
from cli.topology import EXAMPLE_NAME
from runtime.config import EXIT_CONFIG, ConfigError

Command = Callable[[Places, argparse.Namespace], int]


def run(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit status."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal's encoding has no sign for is shown as an escape
        sys.stdout.reconfigure(errors="backslashreplace")
    command: Command = options.command
    try:
        return command(find(options.state, os.environ), options)
    except Refusal as refusal:
        return _say(str(refusal), refusal.status)
    except ConfigError as error:
        return _say("\n".join(error.mistakes), EXIT_CONFIG)
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        return _say(f"{error.filename or 'seapost'}: {error.strerror or error}", EXIT_FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _say(text: str, status: int) -> int:
    for line in text.splitlines():
        print(f"seapost: {line}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--state", metavar="DIR", help=f"the state directory (else SEAPOST_STATE, else {DEFAULT_STATE}/)"
    )
    parser = argparse.ArgumentParser(prog="seapost", description="Runs Seapost and asks it questions.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command | None, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    up = add("up", _up, "run the whole stack in the foreground until SIGTERM or SIGINT")
    up.add_argument("--replicas", default="", metavar="queue=2,remote=3", help="how many of a service (default 1)")
    add("init", _init, "make what a state directory lacks; what is there is never changed")
    add("certs", _certs, "make the CA, the certificates and the Redis users that are missing").add_argument(
        "--renew", action="store_true", help="make every service's key and certificate anew"
    )
    add("config-fast", _config_fast, "write the control files of a host").add_argument("name", help="its full name")
    _add_questions(add)
    return parser


def _add_questions(add: Callable[[str, Command | None, str], argparse.ArgumentParser]) -> None:
    add("status", _status, "which processes run, and what is queued")
    queue_commands.add(add("queue", None, "ask the queue, and tell it what to do"))
    add("qmail-qread", _qread, "what is queued, as qmail-qread prints it")
    add("qmail-qstat", _qstat, "how much is queued, as qmail-qstat prints it")
    trace = add("trace", _trace, "every event of a message and of its bounces and forwards")
    trace.add_argument("id", help="the message id, as in the 250 reply")
    trace.add_argument("--json", action="store_true", help="the events as they were written")
    add("doctor", _doctor, "name what is missing")
    _add_broadcast(add("broadcast", _broadcast, "make an alias that reaches every mail account"))
    user_commands.add(add("user", None, "accounts that have mail: make, change, end and list them"))


def _add_broadcast(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", default="all", metavar="NAME", help="the alias (default: all)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="WHO",
        help="a sender's address, or an account whose programs hand in mail on this machine; may be repeated",
    )
    parser.add_argument("--owner", default="postmaster", metavar="ADDRESS", help="who gets the bounces")
    parser.add_argument(
        "--without", action="append", default=[], metavar="ACCOUNT", help="an account to leave out; may be repeated"
    )


def _broadcast(places: Places, options: argparse.Namespace) -> int:
    from cli import broadcast

    wish = broadcast.Wish(options.address, options.allow, options.owner, options.without)
    print("\n".join(broadcast.set_up(places, wish)))
    return 0


def _status(places: Places, options: argparse.Namespace) -> int:
    from cli import status

    return status.show(places)


def _qread(places: Places, options: argparse.Namespace) -> int:
    from cli import qread

    return qread.read(places)


def _qstat(places: Places, options: argparse.Namespace) -> int:
    from cli import qread

    return qread.stat(places)


def _trace(places: Places, options: argparse.Namespace) -> int:
    from cli import trace

    return trace.show(places, options.id, options.json)


def _doctor(places: Places, options: argparse.Namespace) -> int:
    from cli import doctor

    return doctor.show(places)


def _up(places: Places, options: argparse.Namespace) -> int:
    from cli import up

    return up.run(places, os.environ, options.replicas)


def _init(places: Places, options: argparse.Namespace) -> int:
    from cli import state

    owners = state.Owners.choose(
        drops=True, redis_uid=_redis_uid(), operator_uid=_uid("OPERATOR_UID", "the cli's user")
    )
    prepared = state.prepare(places, os.environ, owners)
    print(f"state directory {places.state} of {prepared.mail_name} is ready")
    if prepared.mail_name == EXAMPLE_NAME:
        print(
            f"warning: this host calls itself {EXAMPLE_NAME}: set MAIL_NAME before the first start, "
            f"or write its full name into {os.path.join(places.control, 'me')}, locals and rcpthosts",
            file=sys.stderr,
        )
    if prepared.demo_password:
        print(f"account demo, password {prepared.demo_password} (kept in {places.demo_password})")
    return 0


def _redis_uid() -> int | None:
    """REDIS_UID: whose the ACL file is, where an image of Redis has a uid of its own."""
    return _uid("REDIS_UID", "Redis")


def _uid(variable: str, whose: str) -> int | None:
    value = os.environ.get(variable, "")
    if value and not value.isdecimal():
        raise Refusal(
            f"environment variable {variable}={value!r} is not a number: set it to the uid of {whose}", EXIT_CONFIG
        )
    return int(value) if value else None


def _certs(places: Places, options: argparse.Namespace) -> int:
    from cli import certs, embedded
    from runtime.clock import SystemClock

    made = certs.ensure(places.tls, SystemClock(), options.renew)
    embedded.ensure_users(places.tls, _redis_uid())
    print(
        f"{places.tls}: made certificates for {', '.join(made)}" if made else f"{places.tls}: every certificate is good"
    )
    return 0


def _config_fast(places: Places, options: argparse.Namespace) -> int:
    from cli import configfast

    print("\n".join(configfast.write(places.control, options.name)))
    return 0
