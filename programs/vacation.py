"""vacation(1): answers a person's mail while he is away, once a week to each sender, called from `.qmail`.

Takes the options of the classic program, of BSD's and of qmail's own. Whether to answer and what an answer looks like
is `mail/autoreply.py`, whom it has answered `programs/correspondents.py`; here are the options, the files and the exit
status: 0 when it answered or had a reason not to, 111 when something is in the way, so that the message comes again.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mail import fields, limits
from mail.autoreply import Arrival, Person, Stamp, addressed, answer, correspondent, why_not
from mail.mbox import NOBODY
from programs.complaint import TEMPORARY, Fatal, because, die, octets, reported, say
from programs.correspondents import Correspondents, Unreadable
from programs.submit import NotQueued, submit

USAGE = (
    "vacation: usage: vacation [ -j ] [ -a alias ] [ -t N[smhdw] | -r days ] [ -m file ] [ -f file ] user,"
    " or vacation -I, -s or -x"
)

WEEK_S = 7 * 86_400
FOR_EVER = float("inf")

TEXT_MAX_OCTETS = 64 * limits.KIB
_EXCLUDED = ".vacation.noanswer"
_EXCLUDED_MAX_OCTETS = limits.MIB

_WITH_WORD = "afmrtCR"
_ALONE = "IijlsnxzdU"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": WEEK_S}
_INTERVAL = re.compile(r"(\d{1,9})([smhdw]?)\Z")


@dataclass(slots=True)
class Wish:
    """What the command line says."""

    user: str = ""
    aliases: list[str] = field(default_factory=list)
    mode: str = ""
    whoever: bool = False
    interval_s: float | None = None
    text: str = ".vacation.msg"
    database: str = ".vacation.answered"


def main(words: Sequence[str]) -> int:
    """0 when the message was answered or nobody is to answer it; 111 with a reason."""
    try:
        wish = _wish(words)
    except ValueError:
        return die(TEMPORARY, USAGE)
    modes = {"clear": _clear, "show": _show, "exclude": _exclude, "": _vacation}
    return reported("vacation", lambda _: modes[wish.mode](wish), words)


def _wish(words: Sequence[str]) -> Wish:
    """Raises ValueError for what no vacation knows. -z, -n, -d, -U, -C and -R ask for nothing that is not so anyway."""
    wish, rest = Wish(), list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        letters = rest.pop(0)[1:]
        if letters == "-":
            break
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in _WITH_WORD:
                if not letters and not rest:
                    raise ValueError(letter)
                _take(wish, letter, letters or rest.pop(0))
                letters = ""
            elif letter in _ALONE:
                _take(wish, letter, "")
            else:
                raise ValueError(letter)
    if not rest and not wish.mode and "SENDER" in os.environ:
        rest = [os.environ.get("USER", "")]
    if len(rest) > 1 or (not wish.mode and not (rest and rest[0])):
        raise ValueError("user")
    wish.user = rest[0] if rest else ""
    return wish


def _take(wish: Wish, letter: str, word: str) -> None:
    if letter == "a":
        wish.aliases.append(word)
    elif letter == "j":
        wish.whoever = True
    elif letter in "Iilsx":
        wish.mode = {"I": "clear", "i": "clear", "l": "show", "s": "show", "x": "exclude"}[letter]
    elif letter == "t":
        found = _INTERVAL.match(word)
        if not found:
            raise ValueError(word)
        wish.interval_s = int(found[1]) * _UNITS[found[2]]
    elif letter == "r":
        found = _INTERVAL.match(word)
        wish.interval_s = int(found[1]) * 86_400 if found and not found[2] else FOR_EVER
    elif letter == "m":
        wish.text = word
    elif letter == "f":
        wish.database = word


def _vacation(wish: Wish) -> int:
    arrival = _arrival()
    person = _person(wish)
    if arrival is None or why_not(arrival, person) or _is_excluded(arrival.sender):
        return 0
    own = addressed(arrival, person)
    if not own and not wish.whoever:
        return 0
    text = _file(wish.text, TEXT_MAX_OCTETS)
    if text is None:
        raise Fatal(TEMPORARY, f"unable to open {wish.text}: file does not exist")
    if b"@" not in own:
        own = person.recipients[0] if person.recipients else octets(wish.user) + b"@" + person.host
    return _answer_once(arrival, text, own, wish)


def _answer_once(arrival: Arrival, text: bytes, own: bytes, wish: Wish) -> int:
    from runtime.clock import SystemClock  # late, as everything that a declined message does not need

    now_s = SystemClock().wall_ms() // 1_000
    answered, who = Correspondents(_at_home(wish.database)), correspondent(arrival.sender)
    try:
        if not answered.claim(who, now_s, wish.interval_s, WEEK_S):
            return 0
    except (OSError, Unreadable) as error:
        raise _unusable(wish, error) from error
    host = own.rpartition(b"@")[2]
    stamp = Stamp(now_s, b"%d.%d.vacation@%b" % (now_s, os.getpid(), host))
    # A circle of answers, should there ever be one, ends where it comes by a second time.
    circle = os.environb.get(b"DTLINE", b"")
    try:
        name = submit(b"", [arrival.sender], [circle, answer(text, arrival, own, stamp)])
    except NotQueued as refusal:
        if refusal.permanent:
            say(f"vacation: warning: the answer was refused: {refusal.text}")
            return 0  # and so would be the next one to this sender
        try:
            answered.forget(who)
        except (OSError, Unreadable) as error:
            raise _unusable(wish, error) from error
        raise Fatal(TEMPORARY, refusal.text) from refusal
    say(f"vacation: qp {name}")
    return 0


def _arrival() -> Arrival | None:
    """The message on standard input; None when its header is larger than anybody may judge."""
    with open(0, "rb", closefd=False) as message:
        try:
            lines = iter(lambda: message.readline(limits.HEADER_MAX_OCTETS), b"")
            header, _ = fields.split(lines, limits.HEADER_MAX_OCTETS)
        except fields.TooLarge:
            return None
        except OSError as error:
            raise because("unable to read message: ", error) from error
    if len(header) > limits.HEADER_FIELDS_MAX:
        return None
    sender = os.environb.get(b"SENDER")
    return Arrival(_written_sender(header) if sender is None else sender, header)


def _written_sender(header: Sequence[bytes]) -> bytes:
    """Without an environment of qmail-command(8): what preline(1) or another mailer wrote on top."""
    for line in header:
        if fields.name(line) == b"return-path":
            return fields.value(line).strip().removeprefix(b"<").removesuffix(b">")
    for line in header:
        if line.startswith(fields.MBOX_LINE + b"From "):
            word = line.removeprefix(fields.MBOX_LINE + b"From ").split(b" ", 1)[0]
            return b"" if word == NOBODY else word
    raise Fatal(TEMPORARY, "SENDER not set, and no Return-Path or From line on top of the message")


def _person(wish: Wish) -> Person:
    """The user's names, and the addresses of this delivery: the recipient, and what a virtual domain was sent to."""
    host = os.environb.get(b"HOST", b"")
    ext = os.environb.get(b"EXT", b"")
    recipients = [os.environb.get(b"RECIPIENT", b""), ext + b"@" + host if ext else b""]
    names = [octets(name) for name in (wish.user, *wish.aliases)]
    return Person(names, [address for address in recipients if address], host or _me())


def _me() -> bytes:
    from mail import control
    from programs import place

    try:
        return os.fsencode(control.line(os.fsdecode(place.control_text("me") or b"me")))
    except OSError as error:
        raise because("unable to read controls: ", error) from error


# -- whom never to answer, and files ----------------------------------------------------------------------------------


def _is_excluded(sender: bytes) -> bool:
    """Whether the user's own list names the sender, or `@` and its host."""
    sender = correspondent(sender)
    return any(entry in (sender, b"@" + sender.rpartition(b"@")[2]) for entry in _excluded())


def _excluded() -> Iterator[bytes]:
    for line in (_file(_EXCLUDED, _EXCLUDED_MAX_OCTETS) or b"").lower().splitlines():
        if line.strip() and not line.startswith(b"#"):
            yield line.strip()


def _exclude(wish: Wish) -> int:
    """The addresses on standard input, one a line, are never answered from now on."""
    from runtime.durable import Disk

    with open(0, "rb", closefd=False) as lines:
        more = lines.read(_EXCLUDED_MAX_OCTETS)
    every = [*_excluded(), *(line.strip().lower() for line in more.splitlines() if line.strip())]
    try:
        Disk().replace_file(_at_home(_EXCLUDED), b"".join(entry + b"\n" for entry in dict.fromkeys(every)))
    except OSError as error:
        raise because(f"unable to write {_EXCLUDED}: ", error) from error
    return 0


def _clear(wish: Wish) -> int:
    try:
        Correspondents(_at_home(wish.database)).clear(wish.interval_s)
    except (OSError, Unreadable) as error:
        raise _unusable(wish, error) from error
    return 0


def _show(wish: Wish) -> int:
    from mail.header import date

    try:
        everybody = Correspondents(_at_home(wish.database)).everybody()
    except (OSError, Unreadable) as error:
        raise _unusable(wish, error) from error
    for address, time_s in everybody.items():
        sys.stdout.buffer.write(date(time_s).encode() + b" " + address + b"\n")
    sys.stdout.buffer.flush()
    return 0


def _unusable(wish: Wish, error: Exception) -> Fatal:
    what = f"unable to use {wish.database}: "
    return because(what, error) if isinstance(error, OSError) else Fatal(TEMPORARY, f"{what}{error}")


def _at_home(name: str) -> str:
    return os.path.join(os.environ.get("HOME") or ".", name)


def _file(name: str, max_octets: int) -> bytes | None:
    """A file of the user's, None when there is none; Fatal when it cannot be read or is larger than allowed."""
    try:
        fd = os.open(_at_home(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise because(f"unable to open {name}: ", error) from error
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Fatal(TEMPORARY, f"unable to read {name}: it is not a file")
        text = file.read(max_octets + 1)
    if len(text) > max_octets:
        raise Fatal(TEMPORARY, f"unable to read {name}: file too big")
    return text
