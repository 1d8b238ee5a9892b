"""System accounts as mail accounts: the lines of passwd(5), shadow(5) and group(5), and whose an address is.

Knows the rules (qmail-getpw(8), architecture section 6); does not know files, and cannot see who owns a home: the
spawner's child checks that, and an account that does not own its home is none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from mail.address import lowered

ALIAS = "alias"
BREAK = "-"
# The first ordinary uid where login.defs(5) says nothing.
UID_MIN_DEFAULT = 1_000
# qmail-getpw takes names below 32 octets, as useradd(8) does.
NAME_MAX_OCTETS = 31

# Homes that say "this account has none"; any other missing home may be a file system that is not mounted.
_HOMELESS = frozenset({"/nonexistent", "/dev/null", "/var/empty", "/"})
# getpwnam(3) finds any name; these cannot be taken for a path, a key of users/assign or a line of NIS.
_NAME = re.compile(r"[a-z0-9_][!-.0-9;-@\[-~]{0,30}\Z")
_UID_MIN = re.compile(r"^UID_MIN[ \t]+(\d{1,10})", re.MULTILINE)
_ID_MAX = 0xFFFF_FFFE  # (uid_t) -1 means "leave it" to setresuid(2): such an id is no account


@dataclass(frozen=True, slots=True)
class Account:
    """A line of passwd(5), with the supplementary groups of group(5); or whom users/assign names in its place.

    Accounts are equal when a process of one may do the other's work: same name, ids and home.
    """

    name: str
    uid: int
    gid: int
    home: str
    shell: str = field(default="", compare=False)
    groups: tuple[int, ...] = ()
    assigned: str = field(default="", compare=False)  # the key of its line in users/assign; "" when passwd has it

    @property
    def key(self) -> str:
        """What a spawner is asked for to become this account."""
        return self.assigned or self.name


@dataclass(frozen=True, slots=True)
class Shadow:
    """A line of shadow(5): the hash as crypt(5) writes it, and the day since 1970 on which the account ends."""

    name: str
    password_hash: str
    expires_day: int | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An account that a local part may belong to, and what would be left as dash and extension."""

    name: str
    dash: str
    ext: str


def parse_passwd(text: str) -> dict[str, Account]:
    """Accounts by name. A line that is not one is passed over; the first of equal names counts, as for getpwnam(3)."""
    accounts: dict[str, Account] = {}
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) != 7 or not _is_id(fields[2]) or not _is_id(fields[3]) or not _NAME.match(fields[0]):
            continue
        account = Account(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6])
        accounts.setdefault(account.name, account)
    return accounts


def parse_shadow(text: str) -> dict[str, Shadow]:
    """Shadow lines by name; the first of equal names counts."""
    entries: dict[str, Shadow] = {}
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) != 9:
            continue
        expires = int(fields[7]) if fields[7].isdecimal() else None
        entries.setdefault(fields[0], Shadow(fields[0], fields[1], expires))
    return entries


def parse_group(text: str) -> dict[str, tuple[int, ...]]:
    """The supplementary groups of each name that group(5) lists."""
    groups: dict[str, tuple[int, ...]] = {}
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) != 4 or not _is_id(fields[2]):
            continue
        for member in filter(None, fields[3].split(",")):
            groups[member] = (*groups.get(member, ()), int(fields[2]))
    return groups


def with_groups(account: Account, groups: dict[str, tuple[int, ...]]) -> Account:
    """The account with what group(5) adds to it. Group 0 is never added."""
    added = tuple(sorted({gid for gid in groups.get(account.name, ()) if gid not in (0, account.gid)}))
    return replace(account, groups=added)


def parse_uid_min(text: str) -> int:
    """UID_MIN of login.defs(5)."""
    found = _UID_MIN.search(text)
    return int(found.group(1)) if found else UID_MIN_DEFAULT


def may_have_mail(account: Account, uid_min: int) -> bool:
    """Never root, never group root, never a system account except alias, never an account declared homeless."""
    if account.uid == 0 or account.gid == 0 or account.home in _HOMELESS:
        return False
    return account.uid >= uid_min or account.name == ALIAS


def candidates(local: str) -> Iterator[Candidate]:
    """Whose `local` may be, best first: the longest name up to a break character; alias, which takes all, comes last.

    Names are compared in lower case; the extension keeps its case (qmail-getpw(8)).
    """
    name = lowered(local)
    if _NAME.match(name):
        yield Candidate(name, "", "")
    at = local.rfind(BREAK)
    while at >= 0:
        name = lowered(local[:at])
        if _NAME.match(name):
            yield Candidate(name, BREAK, local[at + 1 :])
        at = local.rfind(BREAK, 0, at)
    yield Candidate(ALIAS, BREAK, local)


def _is_id(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) <= 10 and int(field) < _ID_MAX
