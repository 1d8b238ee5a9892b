"""What a compiled qmail made of a delivery is what we make of it, to the octet (tests/cases/README.md)."""

import asyncio
import os
import shutil
import signal
from itertools import count
from pathlib import Path

import pytest

from proto import work_pb2
from tests.harness import recorded
from tests.harness.local_house import ROOT, House, open_house
from tests.harness.oracle import holding
from tests.harness.recorded import CASES, Case, Line, Places

UID = 18_799
KINDS = {
    work_pb2.Outcome.DELIVERED: "delivered",
    work_pb2.Outcome.DEFERRED: "deferred",
    work_pb2.Outcome.FAILED: "failed",
}
_numbers = count(1)


async def replayed(house: House, case: Case) -> list[Line]:
    """What becomes of a case here."""
    places = Places(house.state / "homes" / str(next(_numbers)) / "ann", house.state / "alias")
    places.ann.mkdir(parents=True)
    if ROOT:
        os.chown(places.ann, UID, UID)
    for path in places.alias.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    recorded.furnish(case, places)
    _account(house, places.ann)
    await _default(house, case.default)
    before = recorded.look(places)
    with holding(case, places):
        outcome = await house.queue.to(case.recipient, sender=case.sender, body=case.message)
    report = places.normal(outcome.report.encode("utf-8", "surrogateescape"))
    found = [Line(KINDS[outcome.kind], "", report or None)]
    for forward in outcome.forwards:
        envelope = "".join(f"{one}\n" for one in (forward.sender, *forward.recipients))
        found.append(Line("envelope", "", envelope.encode()))
        found.append(Line("forwarded", "", places.normal(forward.header.encode() + case.message)))
    return found + recorded.changes(before, recorded.look(places))


def _account(house: House, home: Path) -> None:
    """Another home each time, and so another child."""
    passwd = house.state / "accounts" / "passwd"
    passwd.with_suffix(".new").write_text(f"ann:x:{UID}:{UID}::{home}:/bin/false\n")
    passwd.with_suffix(".new").replace(passwd)


async def _default(house: House, default: str) -> None:
    path = house.state / "control" / "defaultdelivery"
    if path.exists() and path.read_text() == f"{default}\n":
        return
    path.write_text(f"{default}\n")
    told = len(house.named("reread"))
    assert house.process
    house.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(30):
        while len(house.named("reread")) == told:
            await asyncio.sleep(0.005)


def difference(case: Case, found: list[Line]) -> str:
    """A case that came out otherwise, told; "" when it did not."""
    wanted = case.wanted
    if found == wanted:
        return ""
    told = [f"== {case.name}", "wanted:", *recorded.told(wanted), "found:", *recorded.told(found)]
    return "\n".join(told)


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("*.txt")))
async def test_recorded_deliveries_come_out_alike(name: str) -> None:
    cases = recorded.read(CASES / name)
    only = os.environ.get("CASE", "")
    async with open_house(TIME_SCALE="0.01") as house:
        told = [difference(case, await replayed(house, case)) for case in cases if only in case.name]
    wrong = [one for one in told if one]
    assert not wrong, f"{len(wrong)} of {len(told)}\n" + "\n\n".join(wrong)
