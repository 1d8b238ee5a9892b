"""Addresses that users/assign gives to accounts, through the real service: the spawner finds uid and home by itself."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mail import assign
from proto import work_pb2
from tests.harness.local_house import ALIAS_UID, HOST, ROOT, House, messages, open_house

DEFERRED, DELIVERED, FAILED = work_pb2.Outcome.DEFERRED, work_pb2.Outcome.DELIVERED, work_pb2.Outcome.FAILED
NO_MAILBOX = "Sorry, no mailbox here by that name. (#5.1.1)\n"
pytestmark = pytest.mark.asyncio(loop_scope="module")
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as found:
        yield found


def line(kind: str, home: Path, dash: str = "", ext: str = "", uid: int | None = None) -> str:
    owner = home.stat().st_uid if uid is None else uid
    return f"{kind}:{home.name}:{owner}:{owner}:{home}:{dash}:{ext}:\n"


async def test_an_address_that_passwd_does_not_know_is_somebodys(house: House) -> None:
    home = house.account()
    house.assign(line("=sales", home) + line("+sales-", home, "-", "team-") + ".\n")
    house.write(home / ".qmail-team-eu", "./EU/\n")
    assert (await house.queue.to(f"Sales@{HOST}")).kind == DELIVERED
    assert (await house.queue.to(f"sales-EU@{HOST}")).kind == DEFERRED  # EU/ is no Maildir: found, and obeyed
    assert (await house.queue.to(f"sales-us@{HOST}")).report == NO_MAILBOX
    assert messages(home / "Maildir")[0].startswith(
        f"Return-Path: <joe@far.example>\nDelivered-To: Sales@{HOST}".encode()
    )
    assert await house.check(f"sales@{HOST}", f"sales-eu@{HOST}", f"sales-us@{HOST}") == [
        "DELIVERABLE",
        "DELIVERABLE",
        "NOBODY",
    ]


async def test_an_assignment_comes_before_the_account_of_that_name(house: House) -> None:
    ann, other = house.account(), house.account()
    house.assign(line(f"={ann.name}", other) + ".\n")
    assert (await house.queue.to(f"{ann.name}@{HOST}")).kind == DELIVERED
    assert len(messages(other / "Maildir")) == 1
    assert not messages(ann / "Maildir")
    house.assign(".\n")
    assert (await house.queue.to(f"{ann.name}@{HOST}")).kind == DELIVERED
    assert len(messages(ann / "Maildir")) == 1


async def test_a_wildcard_for_all_takes_what_would_be_aliases(house: House) -> None:
    home = house.account()
    house.write(home / ".qmail-default", "./Maildir/\n")
    for folder in ("", "tmp", "new", "cur"):
        (home / "Maildir" / folder).mkdir()
        os.chown(home / "Maildir" / folder, home.stat().st_uid, -1)
    house.assign(line("+", home, "-") + ".\n")
    assert (await house.queue.to(f"nobody.at.all@{HOST}")).kind == DELIVERED
    assert len(messages(home / "Maildir")) == 1
    house.assign(".\n")
    assert (await house.queue.to(f"nobody.at.all@{HOST}")).report == NO_MAILBOX


async def test_virtual_users_are_assigned_by_their_prefix(house: House) -> None:
    home = house.account()
    house.write(home / ".qmail-shop-info", "#\n")
    house.assign(line("+vera-", home, "-", "shop-") + ".\n")
    assert (await house.queue.to("vera-info@virtual.test")).report == "did 0+0+0\n"
    assert await house.check("info@virtual.test", "other@virtual.test") == ["DELIVERABLE", "NOBODY"]


@as_root
async def test_many_addresses_of_one_account_are_one_process(house: House) -> None:
    home = house.account()
    house.assign("".join(line(f"=many{number}", home) for number in range(20)) + ".\n")
    outcomes = await house.queue.deliver(*(house.queue.delivery(f"many{number}@{HOST}") for number in range(20)))
    assert [one.kind for one in outcomes] == [DELIVERED] * 20
    assert {path.stat().st_uid for path in (home / "Maildir" / "new").iterdir()} == {home.stat().st_uid}


@as_root
@pytest.mark.parametrize(
    ("ids", "report"),
    [
        ("0:100", "Not allowed to perform deliveries as root.\n"),
        ("x:100", "Not allowed to perform deliveries as root.\n"),
        ("5:100", "Not allowed to perform deliveries as uid 5, gid 100 of users/assign: uid 5 is below UID_MIN.\n"),
        ("5000:0", "Not allowed to perform deliveries as uid 5000, gid 0 of users/assign: it is root's group.\n"),
        ("5000:100", "Home directory in users/assign does not belong to uid 5000. (#4.3.5)\n"),
    ],
)
async def test_an_assignment_that_may_not_be_is_deferred_and_never_passed_on(
    house: House, ids: str, report: str
) -> None:
    home = house.account()
    for name in ("wrong", home.name):
        house.assign(f"={name}:ann:{ids}:{home}:::\n.\n")
        for _ in range(2):  # found out by trying, and remembered
            outcome = await house.queue.to(f"{name}@{HOST}")
            assert (outcome.kind, outcome.report) == (DEFERRED, report)
            assert await house.check(f"{name}@{HOST}") == ["UNSURE"]
    assert not (home / "Maildir").exists()


async def test_a_home_that_is_not_there_is_deferred(house: House) -> None:
    missing = house.state / "homes" / "missing"
    house.assign(f"=gone:gone:5000:5000:{missing}:::\n.\n")
    outcome = await house.queue.to(f"gone@{HOST}")
    if ROOT:
        assert (outcome.kind, outcome.report) == (
            DEFERRED,
            f"Unable to switch to {missing}: file does not exist. (#4.3.0)\n",
        )
    assert await house.check(f"gone@{HOST}") == ["UNSURE"]


@as_root
async def test_qmails_alias_user_is_this_hosts_alias_account(house: House) -> None:
    house.write(house.state / "alias" / ".qmail-info", "#\n")
    house.assign("+:alias:64010:65534:/var/qmail/alias:-::\n.\n")
    assert (house.state / "alias").stat().st_uid == ALIAS_UID
    assert (await house.queue.to(f"info@{HOST}")).report == "did 0+0+0\n"
    assert (await house.queue.to(f"nobody@{HOST}")).report == NO_MAILBOX


async def test_a_spoilt_file_changes_nothing_and_alerts_once(house: House) -> None:
    home = house.account()
    whole = line("=spoilt", home)
    house.assign(whole + ".\n")
    assert (await house.queue.to(f"spoilt@{HOST}")).kind == DELIVERED
    before = len(house.named("alert"))
    for text in (whole, f"=spoilt:x\n{whole}.\n", ""):
        house.assign(text)
        for _ in range(2):
            assert (await house.queue.to(f"spoilt@{HOST}")).kind == DELIVERED
    assert [alert["text"].count("users/assign: ") for alert in house.named("alert")[before:]] == [1, 1, 1]
    house.assign(".\n")
    assert (await house.queue.to(f"spoilt@{HOST}")).report == NO_MAILBOX


async def test_without_any_whole_file_everything_waits() -> None:
    house = House()
    try:
        home = house.account()
        house.assign(line("=ann", home))
        await house.start()
        for address in (f"ann@{HOST}", f"{home.name}@{HOST}", f"nobody@{HOST}"):
            outcome = await house.queue.to(address)
            assert (outcome.kind, outcome.report.startswith("Trouble reading users/assign")) == (DEFERRED, True)
            assert await house.check(address) == ["UNSURE"]
    finally:
        await house.close()


async def test_a_copied_cdb_is_obeyed_where_there_is_no_text() -> None:
    house = House()
    try:
        home = house.account()
        (house.state / "users" / "cdb").write_bytes(assign.compiled(f"{line('=sales', home)}.\n".encode()))
        await house.start()
        assert (await house.queue.to(f"sales@{HOST}")).kind == DELIVERED
        assert await house.check(f"sales@{HOST}", f"sale@{HOST}") == ["DELIVERABLE", "NOBODY"]
    finally:
        await house.close()
