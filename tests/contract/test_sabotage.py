"""The lists of tests/sabotage fit the code: who changes a line that keeps a rule says again how the rule is broken."""

from collections import Counter

import pytest

from tests.sabotage import rules, survivors
from tests.sabotage.census import ROOT, SUBJECTS, Kind, census


def test_every_rule_is_found_once_and_can_be_broken() -> None:
    found, wrong = rules.sabotages()
    assert not wrong, "tests/sabotage/rules.txt:\n" + "\n".join(wrong)
    for one in found:
        assert one.applied((ROOT / one.path).read_bytes()) != (ROOT / one.path).read_bytes()


@pytest.mark.parametrize("path", SUBJECTS)
def test_every_sabotage_is_python_that_says_something_else(path: str) -> None:
    source = (ROOT / path).read_bytes()
    for one in census(path):
        assert one.applied(source) != source, one.key


def test_every_listed_survivor_is_a_sabotage_that_there_is() -> None:
    known = {one.key for path in SUBJECTS for one in census(path)} | {one.key for one in rules.sabotages()[0]}
    unknown = [key for key in survivors.read() if key not in known]
    assert not unknown, "tests/sabotage/survivors.txt: no such sabotage any more:\n" + "\n".join(unknown)


def test_the_enumeration_sees_what_it_is_for() -> None:
    """A census that has become blind would have nobody to answer to."""
    kinds = Counter(one.kind for path in SUBJECTS for one in census(path))
    assert kinds.keys() == set(Kind) - {Kind.RULE}
    assert kinds[Kind.SYNC] > 30
    assert kinds[Kind.RECHECK] > 5
    assert kinds[Kind.ORDER] > 30
    assert kinds[Kind.GUARD] > 100
    assert len(rules.read()) > 100
