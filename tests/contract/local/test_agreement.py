"""What smtpd is told at RCPT and what becomes of the mail agree: for random people, homes, .qmail files, users/assign
and addresses, through one real service.

NOBODY is said if and only if the delivery fails with qmail's words for it; where it is unsure the delivery waits.
"""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proto import work_pb2
from tests.harness.local_house import HOST, ROOT, House, open_house

DEFERRED, DELIVERED, FAILED = work_pb2.Outcome.DEFERRED, work_pb2.Outcome.DELIVERED, work_pb2.Outcome.FAILED
NO_MAILBOX = "Sorry, no mailbox here by that name. (#5.1.1)\n"
EXPECTED = {DELIVERED: {"DELIVERABLE"}, FAILED: {"NOBODY"}, DEFERRED: {"DELIVERABLE", "UNSURE"}}
WORLDS = int(os.environ.get("WORLDS", "25"))
_numbers = itertools.count()

PIECES = ("list", "List", "default", "owner", "a.b", "a:b", "x/y", "..", "", "joe", "\u00dc", "\u212a", "z" * 260)
EXTENSIONS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("-".join)
CONTENTS = ("", "./Maildir/\n", "#\n", "&friend@far.example\n", "\n", "./No/\n")


@dataclass(frozen=True)
class File:
    """A .qmail file or what is in its place."""

    name: str
    kind: str
    content: str


@dataclass(frozen=True)
class Home:
    state: str
    files: tuple[File, ...]


FILES = st.builds(
    File,
    st.one_of(st.just(".qmail"), EXTENSIONS.map(lambda ext: f".qmail-{ext.lower().replace('.', ':')}")),
    st.sampled_from(
        ("file", "file", "file", "file", "writable", "fifo", "directory", "loop", "dangling", "unreadable")
    ),
    st.sampled_from(CONTENTS),
)
HOMES = st.builds(
    Home,
    st.sampled_from(("good", "good", "good", "writable", "sticky", "missing", "of root", "a file")),
    st.lists(FILES, max_size=5).map(tuple),
)
Line = tuple[str, str, str, str, str]
World = tuple[dict[str, Home], list[Line], list[str]]
# Who: ann, ann-list (a name with a break), an account that is only assigned; and what users/assign says.
ASSIGNED = st.lists(
    st.tuples(
        st.sampled_from(("=", "+")),
        st.sampled_from(("ANN", "ann-", "ann-list", "ann-LIST-", "ghost", "ghost-", "ann-o")),
        st.sampled_from(("ann", "ann-list", "ghost", "root")),
        st.sampled_from(("", "-")),
        st.sampled_from(("", "list", "list-", "a.b")),
    ),
    max_size=3,
)
LOCALS = st.tuples(st.sampled_from(("ann", "Ann", "ann-list", "ghost", "nobody", "alias")), EXTENSIONS | st.none()).map(
    lambda parts: parts[0] if parts[1] is None else f"{parts[0]}-{parts[1]}"
)


class Town:
    """Worlds beside each other in one service."""

    def __init__(self, house: House) -> None:
        self.house = house

    def furnish(self, homes: dict[str, Home], assigned: list[Line]) -> str:
        """A world of its own, told from all others by a number before every name; returns that."""
        mark = f"w{next(_numbers)}"
        for name, home in homes.items():
            self._settle(f"{mark}{name}", home)
        self.house.assign("".join(self._line(mark, *one) for one in assigned) + ".\n")
        return mark

    def _settle(self, name: str, home: Home) -> None:
        place = self.house.account(name)
        for file in home.files:
            _make(place, file)
        if home.state == "of root" and ROOT:
            os.chown(place, 0, 0)
        elif home.state in ("missing", "a file"):
            place.rename(place.with_name(f"{name}.gone"))
            if home.state == "a file":
                place.write_text("")
        else:
            place.chmod({"writable": 0o702, "sticky": 0o1700}.get(home.state, 0o700))

    def _line(self, mark: str, kind: str, address: str, who: str, dash: str, ext: str) -> str:
        home = self.house.state / "homes" / f"{mark}{who}"
        uid = home.stat().st_uid if home.exists() else 0
        return f"{kind}{mark}{address}:{mark}{who}:{uid}:{uid}:{home}:{dash}:{ext}:\n"


def _make(home: Path, file: File) -> None:
    path = home / file.name
    try:
        path.parent.mkdir(exist_ok=True)
        owner = home.stat()
        if os.path.lexists(path):
            return
        if file.kind == "fifo":
            os.mkfifo(path)
        elif file.kind == "directory":
            path.mkdir()
        elif file.kind in ("loop", "dangling"):
            path.symlink_to(path if file.kind == "loop" else "nowhere")
        else:
            path.write_text(file.content)
            path.chmod({"writable": 0o666, "unreadable": 0o000}.get(file.kind, 0o600))
        for made in (path.parent, path):
            os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)
    except OSError:  # too long a name, or one that is taken: then there is no such file
        return


@given(
    homes=st.fixed_dictionaries({"ann": HOMES, "ann-list": HOMES, "ghost": HOMES}),
    assigned=ASSIGNED,
    locals_=st.lists(LOCALS, min_size=8, max_size=20, unique=True),
)
def worlds(into: list[World], homes: dict[str, Home], assigned: list[Line], locals_: list[str]) -> None:
    """Hypothesis calls plain functions only: the worlds are drawn first and tried then."""
    into.append((homes, assigned, locals_))


async def test_what_smtpd_is_told_is_what_becomes_of_the_mail() -> None:
    drawn: list[World] = []
    settings(max_examples=WORLDS, deadline=None, database=None, suppress_health_check=list(HealthCheck))(worlds)(drawn)
    async with open_house() as house:
        for homes, assigned, locals_ in drawn:
            mark = Town(house).furnish(homes, assigned)
            addresses = [f"{mark}{local}@{HOST}" for local in locals_]
            before = await house.check(*addresses)
            outcomes = await house.queue.deliver(*(house.queue.delivery(address) for address in addresses))
            after = await house.check(*addresses)
            for address, verdict, outcome in zip(addresses * 2, before + after, outcomes * 2, strict=True):
                assert verdict in EXPECTED[outcome.kind], (address, verdict, outcome.report, homes, assigned)
                if outcome.kind == FAILED:
                    assert outcome.report == NO_MAILBOX, address
