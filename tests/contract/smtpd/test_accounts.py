"""Asking the keeper of accounts: a real gRPC server with real certificates, and none at all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli import certs
from proto import accounts_pb2, accounts_pb2_grpc
from runtime.clock import SystemClock
from runtime.config import Address
from runtime.rpc import Identity, Server
from services.smtpd import limits
from services.smtpd.accounts import Accounts
from services.smtpd.policy import Verdict

REPLY = accounts_pb2.CheckReply


@dataclass
class Clock(SystemClock):
    """The machine's clock, set forward by hand."""

    ahead: float = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class Keeper(accounts_pb2_grpc.AccountsServicer):
    """Answers by the first letter; waits at the gate; keeps what it was asked."""

    asked: list[list[str]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    cut: int = 0

    async def Check(self, request, context):  # type: ignore[no-untyped-def]
        self.asked.append(list(request.recipients))
        self.entered.set()
        await self.gate.wait()
        letters = {"d": REPLY.DELIVERABLE, "n": REPLY.NOBODY, "e": REPLY.ELSEWHERE}
        verdicts = [letters.get(recipient[0], REPLY.UNSURE) for recipient in request.recipients]
        return REPLY(verdicts=verdicts[self.cut :])


@dataclass
class Stage:
    keeper: Keeper
    server: Server
    clock: Clock
    accounts: Accounts


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    clock = Clock()
    certs.ensure(str(tmp_path), clock)
    server = Server(Identity.load(str(tmp_path), "local"), Address("127.0.0.1", 0))
    keeper = Keeper()
    keeper.gate.set()
    accounts_pb2_grpc.add_AccountsServicer_to_server(keeper, server.grpc)
    await server.start()
    accounts = Accounts((server.address,), Identity.load(str(tmp_path), "smtpd"), clock)
    yield Stage(keeper, server, clock, accounts)
    await accounts.close()
    await server.stop(0)


@pytest.mark.parametrize(
    ("recipient", "expected"),
    [
        ("d@x", Verdict.DELIVERABLE),
        ("n@x", Verdict.NOBODY),
        ("e@x", Verdict.ELSEWHERE),
        ("u@x", Verdict.UNSURE),
    ],
)
async def test_a_verdict_is_what_the_keeper_says(recipient: str, expected: Verdict, stage: Stage) -> None:
    assert stage.accounts.known(recipient) is None
    assert await stage.accounts.verdict(recipient) is expected
    assert stage.accounts.known(recipient) is expected


async def test_an_answer_is_believed_for_a_while(stage: Stage) -> None:
    await stage.accounts.verdict("d@x")
    await stage.accounts.verdict("n@x")
    stage.clock.ahead = limits.NOBODY_KEPT_S + 0.1
    assert stage.accounts.known("d@x") is Verdict.DELIVERABLE
    assert stage.accounts.known("n@x") is None
    stage.clock.ahead = limits.VERDICT_KEPT_S + 0.1
    assert await stage.accounts.verdict("d@x") is Verdict.DELIVERABLE
    assert stage.keeper.asked == [["d@x"], ["n@x"], ["d@x"]]


async def test_questions_that_gather_during_a_call_go_together_and_equal_ones_share(stage: Stage) -> None:
    stage.keeper.gate.clear()
    first = asyncio.create_task(stage.accounts.verdict("d0@x"))
    await stage.keeper.entered.wait()
    others = [asyncio.create_task(stage.accounts.verdict(name)) for name in ("d1@x", "n1@x", "d1@x", "d0@x")]
    await asyncio.sleep(0)
    others[0].cancel()  # who gives up does not take the answer of another along
    stage.keeper.gate.set()
    assert await first is Verdict.DELIVERABLE
    assert await asyncio.gather(*others[1:]) == [Verdict.NOBODY, Verdict.DELIVERABLE, Verdict.DELIVERABLE]
    assert stage.keeper.asked == [["d0@x"], ["d1@x", "n1@x"]]


async def test_an_answer_of_the_wrong_length_is_no_answer(stage: Stage) -> None:
    stage.keeper.cut = 1
    assert await stage.accounts.verdict("d@x") is Verdict.UNSURE


async def test_what_is_remembered_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VERDICTS_MAX", 10)
    await asyncio.gather(*(stage.accounts.verdict(f"d{number}@x") for number in range(250)))
    assert max(map(len, stage.keeper.asked)) <= limits.QUESTIONS_MAX
    assert [stage.accounts.known(f"d{number}@x") for number in (0, 239)] == [None, None]
    assert stage.accounts.known("d249@x") is Verdict.DELIVERABLE


async def test_without_a_keeper_everybody_is_unsure(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHECK_S", 0.2)
    await stage.server.stop(0)
    assert await stage.accounts.verdict("d@x") is Verdict.UNSURE
    assert stage.accounts.known("d@x") is Verdict.UNSURE


async def test_who_still_waits_at_the_end_is_unsure(stage: Stage) -> None:
    stage.keeper.gate.clear()
    waiting = asyncio.create_task(stage.accounts.verdict("d@x"))
    await stage.keeper.entered.wait()
    await stage.accounts.close()
    assert await waiting is Verdict.UNSURE
