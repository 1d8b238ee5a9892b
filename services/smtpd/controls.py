"""The control files that smtpd goes by, read again when one of them changes, as qmail-smtpd does at each connection.

Knows which files there are and their defaults; what they mean is policy.py. A mistake at the start is ConfigError; one
made while running keeps the rules in force and is an alert, because a half-written file must not open a relay.
"""

import os

from mail.limits import MESSAGE_MAX_OCTETS
from runtime.clock import Clock
from runtime.config import ConfigError
from runtime.controls import Controls, read_all
from runtime.events import Events
from services.smtpd import limits, tcprules
from services.smtpd.policy import Rules

_NAMES = (
    "me",
    "smtpgreeting",
    "localiphost",
    "rcpthosts",
    "morercpthosts",
    "badmailfrom",
    "databytes",
    "timeoutsmtpd",
    "concurrencyincoming",
    "concurrencyperip",
    "tcp.smtp",
)


# Number files and what counts without them.
_NUMBERS = {
    "databytes": MESSAGE_MAX_OCTETS,
    "timeoutsmtpd": limits.TIMEOUT_S,
    "concurrencyincoming": limits.CONNECTIONS_MAX,
    "concurrencyperip": limits.CONNECTIONS_PER_IP_MAX,
}


class CurrentRules:
    """The rules in force. Raises ConfigError when made from wrong files."""

    def __init__(self, directory: str, clock: Clock, events: Events) -> None:
        self._paths = tuple(os.path.join(directory, name) for name in _NAMES)
        self._directory = directory
        self._clock = clock
        self._events = events
        self._looked = self._clock.monotonic()
        self._seen = self._signature()
        self._rules = self._read()

    def now(self) -> Rules:
        """The rules for a new connection; looks for changed files, at most once a second."""
        if self._clock.monotonic() - self._looked >= limits.CONTROLS_LOOK_S:
            self.look()
        return self._rules

    def look(self) -> None:
        """Reads the files again if one of them has changed."""
        self._looked = self._clock.monotonic()
        seen = self._signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._rules = self._read()
        except ConfigError as error:
            for mistake in error.mistakes:
                self._events.alert(f"{mistake}; the rules of before stay in force")

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_identity(path) for path in self._paths)

    def _read(self) -> Rules:
        files = Controls(self._directory)
        mistakes: list[str] = []
        peers = tcprules.Rules()
        try:
            read_all(
                files.me,
                lambda: _greeting(files, self._directory),
                *(lambda n=n: files.text(n) for n in _NAMES),
                *(lambda n=n: files.integer(n, _NUMBERS[n]) for n in _NUMBERS),
            )
        except ConfigError as error:
            mistakes.extend(error.mistakes)
        try:
            peers = tcprules.parse(files.text("tcp.smtp") or "")
        except ConfigError:
            pass  # found above
        except tcprules.RulesError as error:
            mistakes.append(f"{self._paths[-1]}: {error}")
        if mistakes:
            raise ConfigError(list(dict.fromkeys(mistakes)))
        for doubt in peers.doubts:
            self._events.warning(f"{self._paths[-1]}: {doubt}")
        return _rules(files, self._directory, peers)


def _rules(files: Controls, directory: str, peers: tcprules.Rules) -> Rules:
    me = files.me()
    hosts = files.listing("rcpthosts")
    more = files.listing("morercpthosts") or ()
    numbers = {name: files.integer(name, default) for name, default in _NUMBERS.items()}
    return Rules(
        me=me,
        greeting=_greeting(files, directory),
        localiphost=files.line("localiphost", me),
        # morercpthosts counts only beside rcpthosts, as in qmail
        rcpthosts=None if hosts is None else frozenset(name.lower() for name in (*hosts, *more)),
        badmailfrom=frozenset(entry.lower() for entry in files.listing("badmailfrom") or ()),
        databytes=numbers["databytes"] or MESSAGE_MAX_OCTETS,
        timeout_s=max(1, numbers["timeoutsmtpd"]),
        connections=numbers["concurrencyincoming"],
        connections_per_ip=numbers["concurrencyperip"],
        peers=peers,
    )


def _greeting(files: Controls, directory: str) -> str:
    greeting = files.line("smtpgreeting", files.line("me", ""))
    if greeting.isascii() and greeting.isprintable():
        return greeting
    path = os.path.join(directory, "smtpgreeting")
    raise ConfigError(
        [f"{path}: {greeting[:60]!r} is not printable ASCII: SMTP greets in ASCII, begin with the host name"]
    )


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
