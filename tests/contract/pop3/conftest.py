"""The service that the tests of this folder talk to."""

from collections.abc import Iterator

import pytest

from tests.harness.pop3_house import House


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """Delays of penalties are 20 times shorter."""
    found = House(TIME_SCALE="0.05").start()
    yield found
    found.close()


@pytest.fixture
def own_house() -> Iterator[House]:
    """Not started, and nobody else's."""
    found = House(TIME_SCALE="0.05")
    yield found
    found.close()
