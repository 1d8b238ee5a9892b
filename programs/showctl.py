"""qmail-showctl(8): what each file of the control directory means here, and what counts where there is none.

The table below is everything that Seapost reads there (tests/contract/programs/test_showctl.py compares it with the
code), with the sentences of qmail-showctl for the files of qmail. A file that the services refuse is trouble here.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mail import control
from mail.limits import MESSAGE_MAX_OCTETS
from programs import place
from programs.complaint import TEMPORARY
from programs.stdio import standard_output

# services/remote/config.py: concurrencyremote above this counts as this.
_CONCURRENCY_MAX = 500

_TROUBLE = "Oops! Trouble reading this file."
_FILE_MAX_OCTETS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A file whose first line counts; `default` None: that of `me`, or the file's own name where there is no `me`."""

    default: str | None
    before: str
    empty_counts: bool = False  # an empty file is an empty name, and not the default

    def lines(self, name: str, content: str | None, me: str) -> Iterator[str]:
        found = None if content is None else control.line(content)
        if found is None or not (found or self.empty_counts):
            said = (me or name) if self.default is None else self.default
            yield f"(Default.) {self.before}{_shown(said)}."
        else:
            yield f"{self.before}{_shown(found)}."


@dataclass(frozen=True, slots=True)
class Number:
    """A file of a number."""

    default: int
    before: str
    after: str = ""
    nothing: int | None = None  # what 0 stands for

    def lines(self, name: str, content: str | None, me: str) -> Iterator[str]:
        found = None if content is None else control.integer(content)
        if found is None and content is not None and control.line(content):
            yield _TROUBLE
            return
        number = self.default if found is None else found
        if number == 0 and self.nothing is not None:
            number = self.nothing
        yield f"{'(Default.) ' if found is None else ''}{self.before}{number}{self.after}."


@dataclass(frozen=True, slots=True)
class Listing:
    """A file whose every line counts."""

    default: str
    before: str
    after: str = ""

    def lines(self, name: str, content: str | None, me: str) -> Iterator[str]:
        if content is None:
            yield f"(Default.) {self.default}"
            return
        yield ""
        for entry in control.listing(content):
            yield f"{self.before}{_shown(entry)}{self.after}"


@dataclass(frozen=True, slots=True)
class Idle:
    """A file of qmail's that nobody reads here."""

    default: str
    why: str

    def lines(self, name: str, content: str | None, me: str) -> Iterator[str]:
        yield f"(Default.) {self.default}" if content is None else f"Not used: {self.why}."


Kind = Line | Number | Listing | Idle

TABLE: dict[str, Kind] = {
    "badmailfrom": Listing("Any MAIL FROM is allowed.", "", " not accepted in MAIL FROM."),
    "bouncefrom": Line("MAILER-DAEMON", "Bounce user name is "),
    "bouncehost": Line(None, "Bounce host name is "),
    "concurrencyincoming": Number(1_000, "SMTP server sessions are limited to "),
    "concurrencylocal": Number(10, "Local concurrency is "),
    "concurrencyperip": Number(50, "SMTP server sessions from one address are limited to "),
    "concurrencyremote": Number(20, "Remote concurrency is "),
    "databytes": Number(MESSAGE_MAX_OCTETS, "SMTP DATA limit is ", " bytes", nothing=MESSAGE_MAX_OCTETS),
    "defaultdelivery": Listing("Messages are delivered to ./Maildir/ where .qmail says nothing.", "Default delivery: "),
    "defaultdomain": Line(None, "Default domain name is ", empty_counts=True),
    "defaulthost": Line(None, "Default host name is ", empty_counts=True),
    "delaywarning": Number(0, "A sender is told of a delay after ", " seconds (0: never)"),
    "doublebouncehost": Line(None, "2B recipient host: "),
    "doublebounceto": Line("postmaster", "2B recipient user: "),
    "envnoathost": Line(None, "Presumed domain name is "),
    "helohost": Line(None, "SMTP client HELO host name is "),
    "idhost": Line(None, "Message-ID host name is ", empty_counts=True),
    "localiphost": Line(None, "Local IP address becomes "),
    "locals": Listing("Messages for me are delivered locally.", "Messages for ", " are delivered locally."),
    "me": Line("undefined! Uh-oh", "My name is "),
    "outputbytes": Number(20_000, "Of what a program says ", " bytes are kept"),
    "percenthack": Listing("The percent hack is not allowed.", "The percent hack is allowed for user%host@", "."),
    "plusdomain": Line(None, "Plus domain name is ", empty_counts=True),
    "qmqpservers": Idle("No QMQP servers.", "there is no QMQP here"),
    "queuelifetime": Number(604_800, "Message lifetime in the queue is ", " seconds"),
    "rcpthosts": Listing(
        "SMTP clients may send messages to recipients at local hosts and virtual domains.",
        "SMTP clients may send messages to recipients at ",
        ".",
    ),
    "morercpthosts": Listing("No effect.", "SMTP clients may send messages to recipients at ", "."),
    "morercpthosts.cdb": Idle("No effect.", "morercpthosts itself is read"),
    "smtpgreeting": Line(None, "SMTP greeting: 220 "),
    "smtproutes": Listing("No artificial SMTP routes.", "SMTP route: "),
    "softlimit": Listing("Programs have the limits of services/local/limits.py.", "Limits of programs: softlimit "),
    "tcp.smtp": Listing("Any host may connect, and none may relay.", "SMTP client rule: "),
    "timeoutconnect": Number(60, "SMTP client connection timeout is ", " seconds"),
    "timeoutprogram": Number(300, "A program is ended after ", " seconds"),
    "timeoutremote": Number(1_200, "SMTP client data timeout is ", " seconds"),
    "timeoutsmtpd": Number(1_200, "SMTP server data timeout is ", " seconds"),
    "virtualdomains": Listing("No virtual domains.", "Virtual domain: "),
}


def main(words: Sequence[str]) -> int:
    """0 when everything was shown; 111 when the control directory cannot be read."""
    directory = place.control()
    standard_output(os.fsencode(f"{line}\n") for line in _header(directory))
    try:
        names = sorted(os.listdir(directory))
        me = control.line(_content(directory, "me") or "")
    except OSError as error:
        standard_output([os.fsencode(f"Oops! Unable to read {error.filename or directory}.\n")])
        return TEMPORARY
    standard_output(os.fsencode(f"{line}\n") for line in _shown_files(directory, names, me))
    return 0


def _header(directory: str) -> Iterator[str]:
    yield f"qmail home directory: {os.path.dirname(os.path.abspath(directory))}."
    yield "user-ext delimiter: -."
    yield "paternalism (in decimal): 2."
    yield f"silent concurrency limit: {_CONCURRENCY_MAX}."


def _shown_files(directory: str, names: Sequence[str], me: str) -> Iterator[str]:
    for name, kind in TABLE.items():
        yield ""
        try:
            first, *rest = _told(name, kind, names)(name, _content(directory, name), me)
        except OSError:
            first, rest = _TROUBLE, []
        yield f"{name}: {first}"
        yield from rest
    for name in names:
        if name not in TABLE:
            yield ""
            yield f"{_shown(name)}: I have no idea what this file does."


def _told(name: str, kind: Kind, names: Sequence[str]) -> Callable[[str, str | None, str], Iterator[str]]:
    """morercpthosts counts beside rcpthosts only."""
    if name == "morercpthosts" and "rcpthosts" not in names:
        alone = "No rcpthosts; doesn't matter that morercpthosts has "
        return Listing("No rcpthosts; morercpthosts is irrelevant.", alone, ".").lines
    return kind.lines


def _content(directory: str, name: str) -> str | None:
    try:
        fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(_FILE_MAX_OCTETS).decode("utf-8", "surrogateescape")


def _shown(text: str) -> str:
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text)
