"""`doctor`: names what is missing for the stack to run here, each with the fix. Changes nothing."""

import importlib
import os
import sys
from collections.abc import Iterator

from cli import embedded, lock, privileges
from cli.places import Places
from cli.refusal import EXIT_FAILED
from cli.topology import ROLES
from runtime.accounts import Accounts, AccountsError
from runtime.accounts import Places as AccountPlaces
from runtime.config import ConfigError
from runtime.controls import Controls
from runtime.passwords import PasswordError, make_hash

_NEEDED = ("aiosmtpd", "cryptography", "dns", "grpc", "google.protobuf", "prometheus_client", "redis", "uvloop")


def show(places: Places) -> int:
    """Prints a line for each thing found; 0 when nothing is missing."""
    problems = [*_machine(), *_state(places)]
    for problem in problems:
        print(problem)
    if not problems:
        print(f"nothing is missing: {sys.executable}, {places.state}")
    return EXIT_FAILED if problems else 0


def _machine() -> Iterator[str]:
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield f"Python package {name}: {error}: run `make setup`"
    if not os.environ.get("REDIS_URL") and embedded.find_server() is None:
        yield "no Redis server: run `make setup`, or apt-get install redis-server (mail goes on without)"
    try:
        made = make_hash("doctor")
    except PasswordError as error:
        yield str(error)
    else:
        if not made.startswith("$y$"):
            yield "libcrypt does not know yescrypt: accounts that use it cannot log in: apt-get install libcrypt1"


def _state(places: Places) -> Iterator[str]:
    try:
        Controls(places.control).me()
    except ConfigError as error:
        yield from error.mistakes
    try:  # an assign that is not whole stops the mail of everybody at the next start
        Accounts(AccountPlaces(places.accounts, places.homes, users_dir=places.users)).assignment("")
    except AccountsError as error:
        yield str(error)
    for role in ROLES:
        path = os.path.join(places.tls, role, "certificate.pem")
        if not os.path.exists(path):
            yield f"{path}: missing: run `bin/seapost certs`"
    if os.path.isdir(places.run):
        yield from _processes(places)


def _processes(places: Places) -> Iterator[str]:
    for process in lock.noted(places):
        if not process.runs:
            yield f"{process.name}: not running: see {os.path.join(places.log, process.name)}.log"
    warning = privileges.Attempt(places).result().warning
    if warning:
        yield warning
