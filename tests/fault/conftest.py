"""What the fault tests start: a stack whose retry curve is short, a sink as its world."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import sink
from tests.harness.sink import Sink


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where a test makes its stack."""
    return tmp_path / "state"


@pytest.fixture
def world() -> Iterator[Sink]:
    with sink.running() as server:
        yield server
