"""What the programs of a compiled qmail did with a call is what ours do, to the octet (tests/cases/programs)."""

from pathlib import Path

import pytest

from tests.harness import called
from tests.harness.called import CASES, Bench
from tests.harness.recorded import told
from tests.harness.warm import Warm

BIN = Path(__file__).resolve().parents[3] / "bin"


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("*.txt")))
def test_a_call_does_what_it_did_in_a_compiled_qmail(name: str, tmp_path: Path) -> None:
    called.furnish_controls(tmp_path / "control")
    different = []
    with Warm(tmp_path) as warm:
        bench = Bench(BIN, tmp_path / "work", {"SEAPOST_CONTROL": str(tmp_path / "control")}, warm)
        for call in called.read(CASES / name):
            wanted, found = (list(told(lines)) for lines in (call.ours or call.qmail, bench.make(call)))
            if wanted != found:
                lines = [f"== {call.name}", *told(call.given), "-- wanted", *wanted, "-- found", *found]
                different.append("\n".join(lines))
    assert not different, f"{len(different)} calls went otherwise:\n" + "\n\n".join(different[:20])


def test_every_case_that_is_different_says_why() -> None:
    calls = [call for path in CASES.glob("*.txt") for call in called.read(path)]
    assert len(calls) > 200
    assert [call.name for call in calls if call.ours and not call.reason] == []
    assert [call.name for call in calls if not call.qmail] == []
