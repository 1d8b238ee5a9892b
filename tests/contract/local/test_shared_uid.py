"""Hundreds of names with one uid, as users/assign makes them for virtual domains."""

import os
from pathlib import Path

import pytest

from services.local.pool import UID_WARM_MAX
from tests.harness import inspection
from tests.harness.local_house import HOST, ROOT, open_house
from tests.harness.stack import patience

UID, NAMES = 18_798, UID_WARM_MAX + 8


@pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user")
async def test_names_that_share_a_uid_leave_room_for_their_programs() -> None:
    async with open_house() as house:
        lines = []
        for number in range(NAMES):
            home = Path(house.state / "homes" / f"n{number}")
            home.mkdir(mode=0o700)
            os.chown(home, UID, UID)
            lines.append(f"n{number}:x:{UID}:{UID}::{home}:/bin/false\n")
        (house.state / "accounts" / "passwd").write_text("".join(lines))
        for number in range(NAMES):
            assert (await house.queue.to(f"n{number}@{HOST}")).report == "did 1+0+0\n"
        assert house.process
        for _ in patience(10.0):  # who was told to end is still ending
            living = inspection.of_uid(inspection.below(house.process.pid), UID)
            if len(living) <= UID_WARM_MAX:
                break
        assert 0 < len(living) <= UID_WARM_MAX
