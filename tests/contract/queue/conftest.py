"""A spool in a temporary folder, and a queue service on one."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.queue.spool import Spool
from tests.harness.queue_house import QueueHouse, open_queue
from tests.harness.yard import Yard


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[QueueHouse]:
    """A queue service in a process of its own."""
    async with open_queue(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    spool = Spool(str(tmp_path / "spool"), Disk())
    (tmp_path / "spool").mkdir()
    spool.prepare("mail.example", "0" * 32)
    found = Yard(spool)
    yield found
    for log in found.open_logs:
        log.close()
