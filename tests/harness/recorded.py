"""Recorded deliveries: what a home, an address and a message were, and what a compiled qmail made of them.

Reads and writes the files of tests/cases (its README.md says what they look like), and knows how a home is made as a
case wants it and what is found there afterwards. Who delivers is not known here: a qmail recorded, ours is compared.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

CASES = Path(__file__).resolve().parents[1] / "cases"
MESSAGE = b"Subject: case\n\nhello\n"
_GIVEN = ("to", "from", "default", "home", "file", "directory", "maildir", "fifo", "link", "locked", "message")
_FOUND = ("delivered", "deferred", "failed", "envelope", "forwarded", "file", "directory", "fifo", "link", "gone")


class BadCase(Exception):
    """A file of cases says what nobody understands; the text says where."""


@dataclass(frozen=True, slots=True)
class Line:
    """A word, what follows it, and the octets below it."""

    word: str
    rest: str = ""
    octets: bytes | None = None


@dataclass(slots=True)
class Recording:
    """What was asked and what came of it. `ours` is what we do when that is not what qmail did; `reason` says why."""

    name: str
    given: list[Line] = field(default_factory=list)
    qmail: list[Line] = field(default_factory=list)
    ours: list[Line] = field(default_factory=list)
    reason: str = ""


R = TypeVar("R", bound=Recording)


@dataclass(slots=True)
class Case(Recording):
    """One delivery."""

    def one(self, word: str, otherwise: str) -> str:
        return next((line.rest for line in self.given if line.word == word), otherwise)

    @property
    def recipient(self) -> str:
        return decoded(self.one("to", "ann@d.test")).decode("utf-8", "surrogateescape")

    @property
    def sender(self) -> str:
        return decoded(self.one("from", "joe@far.example")).decode("utf-8", "surrogateescape")

    @property
    def default(self) -> str:
        lines = [line.rest for line in self.given if line.word == "default"]
        return "\n".join(lines) if lines else "./Maildir/"

    @property
    def message(self) -> bytes:
        return next((line.octets or b"" for line in self.given if line.word == "message"), MESSAGE)

    @property
    def wanted(self) -> list[Line]:
        """What must come out here."""
        return self.ours or self.qmail


# -- the octets of a line -------------------------------------------------------------------------------------------

_ESCAPE = re.compile(rb"\\(?:x([0-9a-f]{2})|\{(\d+):((?:[^\\}]|\\.)*)\}|(.))", re.S)
_ESCAPED = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\", b"}": b"}"}
_SAME_LINES = re.compile(rb"([^\n]{0,80}\n)\1{19,}")
_RUNS = re.compile(_SAME_LINES.pattern + rb"|([^\n]{1,8}?)\2{29,}")


def decoded(text: str) -> bytes:
    """The octets that a text of a case file stands for."""

    def one(match: re.Match[bytes]) -> bytes:
        number, count, repeated, letter = match.groups()
        if number:
            return bytes([int(number, 16)])
        return decoded(repeated.decode()) * int(count) if count else _ESCAPED[letter]

    return _ESCAPE.sub(one, text.encode("utf-8", "surrogateescape"))


def encoded(octets: bytes) -> str:
    """One line of octets as a case file writes it."""
    found, at = [], 0
    for run in _RUNS.finditer(octets):
        unit = run[1] or run[2]
        repeated = _escaped(unit).replace("}", "\\}")
        found += [_escaped(octets[at : run.start()]), f"\\{{{len(run[0]) // len(unit)}:{repeated}}}"]
        at = run.end()
    return "".join(found) + _escaped(octets[at:])


def _escaped(octets: bytes) -> str:
    text = octets.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return re.sub(rb"[^ -~]", lambda one: b"\\x%02x" % one[0][0], text).decode()


def _lines_of(octets: bytes) -> Iterator[str]:
    """As many lines as the octets have; one that does not end says so by a backslash."""
    at = 0
    for run in _SAME_LINES.finditer(octets):
        yield from _plain_lines(octets[at : run.start()])
        yield f"|{encoded(run[0])}\\"
        at = run.end()
    yield from _plain_lines(octets[at:])


def _plain_lines(octets: bytes) -> Iterator[str]:
    for line in re.findall(rb"[^\n]*\n|[^\n]+", octets):
        if line.endswith(b"\n"):
            yield "|" + re.sub(r" $", r"\\x20", encoded(line[:-1]))
        else:
            yield f"|{encoded(line)}\\"


# -- files of cases -------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Case]:
    """The cases of a file; BadCase says which line is none."""
    return read_as(Case, path, _GIVEN, _FOUND)


def read_as(kind: type[R], path: Path, given: Sequence[str], found: Sequence[str]) -> list[R]:
    """What a file has recorded, with the words that may be given and found; BadCase says which line is none."""
    cases: list[R] = []
    part: list[Line] = []
    words = given
    for number, raw in enumerate(path.read_text().split("\n"), 1):
        where = f"{path.name} line {number}"
        if raw.startswith("== "):
            cases.append(kind(raw[3:]))
            part, words = cases[-1].given, given
        elif raw == "-> qmail":
            part, words = cases[-1].qmail, found
        elif raw.startswith("-> seapost: "):
            cases[-1].reason = raw.removeprefix("-> seapost: ")
            part, words = cases[-1].ours, found
        elif raw.startswith("|"):
            last = part[-1]
            open_end = (len(raw) - len(raw.rstrip("\\"))) % 2 == 1
            octets = decoded(raw[1:-1]) if open_end else decoded(raw[1:]) + b"\n"
            part[-1] = Line(last.word, last.rest, (last.octets or b"") + octets)
        elif raw and not raw.startswith("#"):
            word, _, rest = raw.partition(" ")
            if not cases or word not in words:
                raise BadCase(f"{where}: nobody knows what {word!r} means here")
            part.append(Line(word, rest))
    return cases


def written(case: Recording) -> str:
    """A recording as its file has it, without comments."""
    text = [f"== {case.name}", *told(case.given), "-> qmail", *told(case.qmail)]
    if case.ours:
        text += [f"-> seapost: {case.reason}", *told(case.ours)]
    return "\n".join(text) + "\n"


def told(lines: Sequence[Line]) -> Iterator[str]:
    """Lines as a file of cases has them."""
    for line in lines:
        yield f"{line.word} {line.rest}" if line.rest else line.word
        if line.octets:
            yield from _lines_of(line.octets)


# -- homes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Places:
    """Where the homes of a case are. Who owns them owns what is made in them."""

    ann: Path
    alias: Path

    def path(self, name: str) -> Path:
        name = os.fsdecode(decoded(name))
        return self.alias / name.removeprefix("~alias/") if name.startswith("~alias/") else self.ann / name

    def told(self, octets: bytes) -> bytes:
        """With the place of the home written into it."""
        return octets.replace(b"{home}", os.fsencode(self.ann))

    def normal(self, octets: bytes) -> bytes:
        """Without what no two deliveries have alike: the place of the home, the date, the number of a message."""
        octets = octets.replace(os.fsencode(self.ann), b"{home}").replace(os.fsencode(self.alias), b"{alias}")
        octets = re.sub(rb"[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\b", b"{date}", octets)
        return re.sub(rb"\bqp \S+", b"qp {qp}", octets)


def furnish(case: Case, places: Places) -> None:
    """Makes the home as the case wants it, out of two empty folders."""
    for line in case.given:
        if line.word == "maildir":
            _make_maildir(places, line.rest)
        if line.word not in ("file", "directory", "fifo", "link"):
            continue
        name, _, rest = line.rest.partition(" ")
        path = places.path(name)
        if line.word == "link":
            path.symlink_to(rest)
        elif line.word == "fifo":
            os.mkfifo(path)
        elif line.word == "directory":
            path.mkdir()
        else:
            path.write_bytes(places.told(line.octets or b""))
        _give(path, places, name)
    for line in case.given:
        if line.word in ("file", "directory", "fifo"):
            name, _, mode = line.rest.partition(" ")
            places.path(name).chmod(int(mode or "0600", 8))
    home = case.one("home", "0700")
    if home == "missing":
        places.ann.rmdir()
    else:
        places.ann.chmod(int(home, 8))


def _make_maildir(places: Places, name: str) -> None:
    for part in ("", "tmp", "new", "cur"):
        path = places.path(name) / part
        path.mkdir(mode=0o700)
        _give(path, places, name)


def _give(path: Path, places: Places, name: str) -> None:
    home = places.path("~alias/" if name.startswith("~alias/") else "").stat()
    os.chown(path, home.st_uid, home.st_gid, follow_symlinks=False)


def look(places: Places) -> dict[str, Line]:
    """Everything in the homes, by name."""
    found: dict[str, Line] = {}
    for root, prefix in ((places.ann, ""), (places.alias, "~alias/")):
        for path in sorted(root.rglob("*")) if root.exists() else ():
            name = prefix + encoded(os.fsencode(path.relative_to(root))).replace(" ", r"\x20")
            found[name] = _seen(path, _without_its_name(name), places)
    return found


def _seen(path: Path, name: str, places: Places) -> Line:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Line("link", f"{name} {path.readlink()}")
    words = f"{name} {stat.S_IMODE(mode):04o}"
    if stat.S_ISDIR(mode):
        return Line("directory", words)
    if stat.S_ISFIFO(mode):
        return Line("fifo", words)
    return Line("file", words, places.normal(path.read_bytes()) or None)


def _without_its_name(name: str) -> str:
    """A message in a Maildir is called as its server likes."""
    return re.sub(r"(^|/)(new|cur)/[^/]+$", r"\1\2/*", name)


def changes(before: dict[str, Line], after: dict[str, Line]) -> list[Line]:
    """What is new or altered, then what is gone."""
    changed = [line for name, line in after.items() if before.get(name) != line and not _is_left_over(name)]
    changed.sort(key=lambda line: (line.rest, line.octets or b""))
    return changed + [Line("gone", name) for name in before if name not in after]


def _is_left_over(name: str) -> bool:
    """Ours keeps an election in tmp/ for a while (services/local/publish.py)."""
    return bool(re.search(r"(^|/)tmp/[^/]+$", name))
