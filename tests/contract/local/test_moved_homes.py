"""A home that becomes another directory while a child stands in it: mail goes where the home is now."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proto import work_pb2
from tests.harness.local_house import HOST, ROOT, House, messages, open_house

DEFERRED, DELIVERED = work_pb2.Outcome.DEFERRED, work_pb2.Outcome.DELIVERED
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as found:
        yield found


def again(home: Path) -> None:
    """A new, empty home of the same owner under the old name."""
    owner = home.with_name(f"{home.name}.old").stat()
    home.mkdir(mode=0o700)
    if ROOT:
        os.chown(home, owner.st_uid, owner.st_gid)


async def test_a_home_that_was_restored_gets_the_mail(house: House) -> None:
    home = house.account()
    old = home.with_name(f"{home.name}.old")
    assert (await house.queue.to(f"{home.name}@{HOST}")).kind == DELIVERED
    home.rename(old)
    again(home)
    for count in (1, 2):
        assert (await house.queue.to(f"{home.name}@{HOST}")).kind == DELIVERED
        assert len(messages(home / "Maildir")) == count
    assert len(messages(old / "Maildir")) == 1
    house.write(home / ".qmail-new", "#\n")
    assert await house.check(f"{home.name}-new@{HOST}", f"{home.name}-old@{HOST}") == ["DELIVERABLE", "NOBODY"]


@pytest.mark.skipif(not ROOT, reason="needs root: without it a missing home is homes/<name>")
async def test_a_home_that_is_gone_is_waited_for(house: House) -> None:
    home = house.account()
    assert (await house.queue.to(f"{home.name}@{HOST}")).kind == DELIVERED
    home.rename(home.with_name(f"{home.name}.old"))
    outcome = await house.queue.to(f"{home.name}@{HOST}")
    assert (outcome.kind, outcome.report) == (DEFERRED, f"Unable to switch to {home}: file does not exist. (#4.3.0)\n")
    again(home)
    assert (await house.queue.to(f"{home.name}@{HOST}")).kind == DELIVERED
    assert len(messages(home / "Maildir")) == 1
