"""Whose an address is, as the front can know it: the account files, and which accounts did not own their homes.

The front may not look into homes. It takes the best account by name, asks for its child, and is told when that home is
somebody else's: then the next best is tried, as qmail-getpw(8) goes on to the next. An address that users/assign gives
to an account is that account's or, for the time being, nobody's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mail.accounts import Account, candidates
from mail.assign import Assigned
from runtime.accounts import Accounts
from runtime.clock import Clock
from services.local import texts

# How long it is believed that an account owns its home, or does not. A chown(1) shows after that time.
REMEMBER_S = 60.0
_REMEMBERED_MAX = 10_000  # accounts; beyond it everything is asked anew


@dataclass(frozen=True, slots=True)
class Person:
    """The account that answers for a local part, with qmail's dash and extension."""

    account: Account
    dash: str
    ext: str


class Unserved(Exception):
    """users/assign gives the address to an account that may have no mail; `report` is what the deferral says."""

    def __init__(self, report: str) -> None:
        super().__init__(report)
        self.report = report


class Ownership:
    """Account files and what was learned about homes."""

    def __init__(self, accounts: Accounts, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._owns: dict[Account, tuple[bool, float]] = {}

    def persons(self, local: str) -> Iterator[Person]:
        """Who may answer for `local`, best first, without those known not to own their homes. AccountsError; Unserved,
        also when one is asked for after an assigned account."""
        assigned = self._accounts.assignment(local)
        if assigned is not None:
            yield from self._assigned(assigned)
        for candidate in candidates(local):
            account = self._accounts.find(candidate.name)
            if account is not None and self.owns_home(account) is not False:
                yield Person(account, candidate.dash, candidate.ext)

    def _assigned(self, assigned: Assigned) -> Iterator[Person]:
        account = self._accounts.find(assigned.key)
        if account is None:
            raise Unserved(texts.may_have_no_mail(assigned.uid, assigned.gid))
        if self.owns_home(account) is not False:
            yield Person(account, assigned.dash, assigned.ext)
        raise Unserved(texts.home_of_another(account.uid))

    def owns_home(self, account: Account) -> bool | None:
        """What was learned of late; None when nothing was."""
        owns, until = self._owns.get(account, (None, 0.0))
        return owns if until > self._clock.monotonic() else None

    def learn(self, account: Account, owns: bool) -> None:
        if len(self._owns) >= _REMEMBERED_MAX:
            self._owns.clear()
        self._owns[account] = (owns, self._clock.monotonic() + REMEMBER_S)
