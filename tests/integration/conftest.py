"""One stack of processes for all tests that leave it as they found it; a sink is its world."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.harness import sink
from tests.harness.sink import Sink
from tests.harness.stack import MAIL_NAME, PASSWORD, Stack, running
from tests.harness.walk import House

# A minute of qmail's retry curve is less than a second: 400 s until a remote's second try are 0.8 s.
TIME_SCALE = "0.002"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its stack said last."""
    report = yield
    used = getattr(item, "funcargs", {}).values()
    if report.failed:
        report.sections += [
            (f"the stack in {one.directory}", one.said.tail()) for one in used if isinstance(one, Stack)
        ]
    return report


@pytest.fixture(scope="session")
def world() -> Iterator[Sink]:
    with sink.running() as server:
        yield server


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, world: Sink) -> Iterator[Stack]:
    """Up and ready, with the accounts demo and friend; mail for *.far.example goes to the sink."""
    made = Stack(
        tmp_path_factory.mktemp("integration") / "state",
        accounts=("demo", "friend"),
        environment={"TIME_SCALE": TIME_SCALE, "LOG_FORMAT": "qmail"},
        controls={"smtproutes": f".far.example:127.0.0.1:{world.port}\n"},
    )
    with running(made) as up:
        yield up


def house_of(stack: Stack, account: str = "demo") -> House:
    """What a check needs to know of a stack of processes."""
    return House(
        smtp_port=stack.ports["smtp"],
        pop3_port=stack.ports["pop3"],
        account=account,
        password=PASSWORD,
        domain=MAIL_NAME,
        new_mail=stack.home(account) / "Maildir" / "new",
        seapost=stack.seapost,
    )


@pytest.fixture
def house(stack: Stack) -> House:
    return house_of(stack)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where a test makes a stack of its own."""
    return tmp_path / "state"
