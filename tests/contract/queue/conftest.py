"""A spool in a temporary folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.durable import Disk
from services.queue.spool import Spool
from tests.harness.yard import Yard


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    spool = Spool(str(tmp_path / "spool"), Disk())
    (tmp_path / "spool").mkdir()
    spool.prepare("mail.example", "0" * 32)
    found = Yard(spool)
    yield found
    for log in found.open_logs:
        log.close()
