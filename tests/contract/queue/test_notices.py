"""What a sender is told, on a real disk: in the frame of its cause, once, and known to the next owner."""

import asyncio
import email
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from email.message import Message as Mail
from pathlib import Path

import pytest

from mail.dsn import DELAY, FAILURE, NEVER, NO_WISH, SUCCESS, Wish
from mail.outcome import Kind
from mail.routing import RoutingTable
from services.queue.bounce import BounceRules
from services.queue.commit import Commits
from services.queue.index import Index
from services.queue.ledger import Incoming, Ledger
from services.queue.log import INLINE_MAX_OCTETS
from services.queue.message import Message
from services.queue.rest import pack, unpack
from services.queue.rules import Rules
from services.queue.settlement import Forward, Reported, Settlement
from tests.harness.yard import Yard, an_id

NOW = 1_700_000_000_000
HOUR_MS = 3_600_000
RULES = Rules(
    RoutingTable(frozenset({"here.example"}), {}, frozenset(), "here.example"),
    BounceRules("MAILER-DAEMON", "here.example", "postmaster@here.example"),
    lifetime_s=604_800,
    scale=1.0,
    delaywarning_s=7_200,
)
TEXT = b"Received: x\nSubject: hello\n\nthe body\n"


@dataclass
class Desk:
    """A ledger, and answers awaited."""

    yard: Yard
    sender: str = "me@far.example"
    wishes: dict[str, Wish] = field(default_factory=dict)
    number: int = 0

    def open(self) -> "Desk":
        log = self.yard.create()
        self.commits = Commits(log, lambda error: None)
        self.ledger = Ledger(log, Index(), self.commits, RULES, lambda message, error: None)
        self.task = asyncio.create_task(self.commits.run())
        return self

    async def accept(self, *recipients: str, body: bytes = TEXT, **changes: str) -> Message:
        future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self.number += 1
        wishes = tuple(self.wishes.get(one, NO_WISH) for one in recipients)
        incoming = Incoming(an_id(self.number), self.sender, recipients, body, 7, wishes=wishes, **changes)
        await self.ledger.accept(incoming, NOW, future.set_result)
        message = await future
        assert message is not None
        return message

    async def settle(
        self, message: Message, recipient: int, kind: Kind, now_ms: int = NOW, **changes: object
    ) -> Settlement:
        future: asyncio.Future[Settlement | None] = asyncio.get_running_loop().create_future()
        attempt = message.recipients[recipient].attempts + 1
        reported = Reported(message.id, recipient, attempt, kind, "why (#4.2.1)\n")
        self.ledger.settle(replace(reported, **changes), now_ms, future.set_result)  # type: ignore[arg-type]
        settlement = await future
        assert settlement is not None
        return settlement

    def read(self, settlement: Settlement) -> Mail:
        """The one message that it caused."""
        (child,) = settlement.children
        assert (child.sender, [one.address for one in child.recipients]) == ("", [self.sender])
        return email.message_from_bytes(self.ledger.body(child))


@pytest.fixture
async def desk(yard: Yard) -> AsyncIterator[Desk]:
    found = Desk(yard).open()
    yield found
    found.task.cancel()
    found.commits.close()


def parts(mail: Mail) -> list[Mail]:
    """The parts of a report, or the groups of its second part."""
    found = mail.get_payload()
    assert isinstance(found, list)
    return [one for one in found if isinstance(one, Mail)]


def status(mail: Mail) -> list[tuple[str, str]]:
    """(recipient, action) of each group."""
    return [(group["Final-Recipient"], group["Action"]) for group in parts(parts(mail)[1])[1:]]


def kinds(mail: Mail) -> list[str]:
    return [part.get_content_type() for part in parts(mail)]


async def test_a_bounce_names_envelope_and_original_recipient(desk: Desk) -> None:
    desk.wishes["a@here.example"] = Wish(FAILURE, "rfc822;old+40x@far.example")
    message = await desk.accept("a@here.example", envid="QQ+3D1", ret="HDRS")
    settlement = await desk.settle(message, 0, Kind.FAILED)
    mail = desk.read(settlement)
    assert settlement.bounced_to == settlement.children[0].id
    assert mail["Subject"] == "failure notice"
    about, recipient = parts(parts(mail)[1])
    assert about["Original-Envelope-Id"] == "QQ=1"
    assert recipient["Original-Recipient"] == "rfc822;old@x@far.example"
    assert kinds(mail)[2] == "text/rfc822-headers"


async def test_the_bounce_of_a_large_message_is_small(desk: Desk) -> None:
    message = await desk.accept("a@here.example", body=TEXT + b"x" * INLINE_MAX_OCTETS, ret="FULL")
    assert message.large
    settlement = await desk.settle(message, 0, Kind.FAILED)
    assert kinds(desk.read(settlement))[2] == "text/rfc822-headers"
    assert settlement.children[0].size < 2_000
    assert b"\nSubject: hello\n" in desk.ledger.body(settlement.children[0])


async def test_never_means_that_nobody_is_told_and_the_message_ends(desk: Desk) -> None:
    desk.wishes["a@here.example"] = Wish(NEVER)
    message = await desk.accept("a@here.example")
    settlement = await desk.settle(message, 0, Kind.FAILED)
    assert (settlement.finished, settlement.children, settlement.discarded) == (True, [], False)
    desk.sender = ""
    again = await desk.settle(await desk.accept("a@here.example"), 0, Kind.FAILED)
    assert (again.finished, again.children) == (True, [])


async def test_success_is_told_in_the_frame_of_the_outcome_and_known_to_the_next_owner(desk: Desk) -> None:
    desk.wishes = {one: Wish(SUCCESS) for one in ("a@here.example", "b@here.example", "c@far.example", "d@far.example")}
    message = await desk.accept(*desk.wishes, "e@here.example")
    assert not (await desk.settle(message, 0, Kind.DELIVERED)).children
    assert not (await desk.settle(message, 4, Kind.DELIVERED)).children
    settlement = await desk.settle(message, 1, Kind.DELIVERED)
    assert status(desk.read(settlement)) == [
        ("rfc822;a@here.example", "delivered"),
        ("rfc822;b@here.example", "delivered"),
    ]
    (notice,) = settlement.children
    assert settlement.notices == {notice.id: "success"}
    assert not (await desk.settle(message, 2, Kind.DELIVERED, relayed=True)).children
    relayed = await desk.settle(message, 3, Kind.DELIVERED, relayed=False)
    assert status(desk.read(relayed)) == [("rfc822;c@far.example", "relayed")]
    assert relayed.finished
    assert {notice.id, relayed.children[0].id} == set(desk.yard.index().ids())


async def test_what_was_handed_on_is_known_to_the_next_owner(desk: Desk) -> None:
    desk.wishes = {one: Wish(SUCCESS, "rfc822;x") for one in ("a@far.example", "b@far.example")}
    message = await desk.accept(*desk.wishes, envid="7", ret="FULL")
    await desk.settle(message, 0, Kind.DELIVERED, relayed=True)
    found = desk.yard.index().get(message.id)
    assert found is not None
    for known in (found, unpack(found.id, pack(found))):
        assert (known.ret, known.envid) == ("FULL", "7")
        assert [(one.wish, one.relayed) for one in known.recipients] == [
            (Wish(SUCCESS, "rfc822;x"), True),
            (Wish(SUCCESS, "rfc822;x"), False),
        ]


async def test_a_delay_is_told_once_and_the_next_owner_knows_it(desk: Desk) -> None:
    message = await desk.accept("a@far.example", "b@far.example")
    for recipient in (0, 1):
        assert not (await desk.settle(message, recipient, Kind.DEFERRED)).children
    settlement = await desk.settle(message, 0, Kind.DEFERRED, NOW + 2 * HOUR_MS)
    mail = desk.read(settlement)
    assert mail["Subject"] == "delay notice"
    assert status(mail) == [("rfc822;a@far.example", "delayed"), ("rfc822;b@far.example", "delayed")]
    assert settlement.notices == {settlement.children[0].id: "delay"}
    assert [one.warned for one in unpack(message.id, pack(message)).recipients] == [True, True]
    for recipient in (0, 1):
        assert not (await desk.settle(message, recipient, Kind.DEFERRED, NOW + 3 * HOUR_MS)).children
    found = desk.yard.index().get(message.id)
    assert found is not None
    assert [one.warned for one in found.recipients] == [True, True]


async def test_a_message_that_is_given_up_is_not_warned_of(desk: Desk) -> None:
    message = await desk.accept("a@far.example")
    settlement = await desk.settle(message, 0, Kind.DEFERRED, NOW + 604_800_001)
    assert desk.read(settlement)["Subject"] == "failure notice"


async def test_a_notice_that_cannot_be_delivered_is_forgotten_and_a_bounce_is_not(desk: Desk) -> None:
    desk.wishes["a@here.example"] = Wish(SUCCESS)
    told = await desk.settle(await desk.accept("a@here.example"), 0, Kind.DELIVERED)
    gone = await desk.settle(told.children[0], 0, Kind.FAILED)
    assert (gone.finished, gone.children) == (True, [])
    bounced = await desk.settle(await desk.accept("b@here.example"), 0, Kind.FAILED)
    (double,) = (await desk.settle(bounced.children[0], 0, Kind.FAILED)).children
    assert (double.sender, double.recipients[0].address) == ("#@[]", "postmaster@here.example")
    triple = await desk.settle(double, 0, Kind.FAILED)
    assert (triple.finished, triple.children, triple.discarded) == (True, [], True)


async def test_a_list_is_told_at_its_owners_address(desk: Desk) -> None:
    desk.sender = "list-owner-@here.example-@[]"
    message = await desk.accept("a@far.example")
    settlement = await desk.settle(message, 0, Kind.FAILED)
    (child,) = settlement.children
    assert child.recipients[0].address == "list-owner-@here.example"


async def test_a_forward_starts_anew_and_the_address_counts_as_delivered(desk: Desk) -> None:
    desk.wishes = {"a@here.example": Wish(SUCCESS | DELAY), "b@here.example": Wish(NEVER)}
    message = await desk.accept(*desk.wishes, envid="7", ret="HDRS")
    forward = Forward(desk.sender, ("c@far.example",), "Delivered-To: x@here.example\n", 0)
    first = await desk.settle(message, 0, Kind.DELIVERED, forwards=(forward,))
    second = await desk.settle(message, 1, Kind.DELIVERED, forwards=(forward,))
    (asked,) = first.children
    assert (asked.envid, asked.ret, asked.recipients[0].wish) == ("", "", NO_WISH)
    silent, notice = sorted(second.children, key=lambda child: child.sender == "")
    assert silent.recipients[0].wish == Wish(NEVER)
    assert notice.id in second.notices
    assert b"Final-Recipient: rfc822;a@here.example\nAction: delivered\n" in desk.ledger.body(notice)


async def test_while_the_disk_is_nearly_full_notices_are_small_and_warnings_wait(desk: Desk) -> None:
    desk.wishes["a@here.example"] = Wish(SUCCESS)
    failed = await desk.accept("c@here.example", "d@here.example")
    await desk.settle(failed, 0, Kind.FAILED)
    message = await desk.accept("a@here.example", "b@far.example")
    desk.ledger.cramped = True
    bounce = desk.read(await desk.settle(failed, 1, Kind.DELIVERED))
    assert kinds(bounce)[2] == "message/rfc822", "what failed before is told as ever"
    mail = desk.read(await desk.settle(message, 0, Kind.DELIVERED))
    assert kinds(mail) == ["text/plain", "message/delivery-status"]
    assert not (await desk.settle(message, 1, Kind.DEFERRED, NOW + 3 * HOUR_MS)).children
    desk.ledger.cramped = False
    assert desk.read(await desk.settle(message, 1, Kind.DEFERRED, NOW + 4 * HOUR_MS))["Subject"] == "delay notice"


async def test_a_damaged_message_still_has_its_bounce(desk: Desk) -> None:
    message = await desk.accept("a@here.example")
    log = desk.ledger.log
    path = Path(log.path, str(log.current))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"the body", b"THE BODY"))
    mail = desk.read(await desk.settle(message, 0, Kind.FAILED))
    assert kinds(mail) == ["text/plain", "message/delivery-status"]
