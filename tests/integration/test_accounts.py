"""Accounts that are made, changed and ended while the stack runs: mail and POP3 follow at once."""

import os
import poplib
from collections.abc import Iterator

import pytest

from tests.harness.stack import MAIL_NAME, Stack
from tests.harness.walk import House, mail


@pytest.fixture
def newcomer(stack: Stack) -> Iterator[str]:
    """The password of a new account `newcomer`, which has another home in each test."""
    yield stack.seapost("user", "add", "newcomer", "--random").split()[-1]
    stack.seapost("user", "del", "newcomer", "--remove-home", "--yes")


def logs_in(house: House, name: str, password: str) -> bool:
    client = poplib.POP3("127.0.0.1", house.pop3_port, timeout=60)
    try:
        client.user(name)
        client.pass_(password)
    except poplib.error_proto:
        return False
    finally:
        client.close()
    return True


def test_a_new_account_gets_mail_and_reads_it_with_its_password_alone(
    stack: Stack, house: House, newcomer: str
) -> None:
    message = house.send(mail("welcome"), f"newcomer@{MAIL_NAME}")
    house.wait_idle()
    [name] = os.listdir(stack.home("newcomer") / "Maildir" / "new")
    assert message in name
    assert logs_in(house, "newcomer", newcomer)
    changed = stack.seapost("user", "passwd", "newcomer", "--random").split()[-1]
    assert logs_in(house, "newcomer", changed)
    assert not logs_in(house, "newcomer", newcomer)
    stack.seapost("user", "del", "newcomer")
    assert not logs_in(house, "newcomer", changed)
    stack.seapost("user", "add", "newcomer", "--random")
    assert not logs_in(house, "newcomer", changed)
    assert os.listdir(stack.home("newcomer") / "Maildir" / "new") == [name]


def test_an_assignment_is_obeyed_while_everything_runs(stack: Stack, house: House, newcomer: str) -> None:
    home = stack.home("newcomer")
    owner = home.stat()
    draft = stack.directory / "users" / "assign.draft"
    draft.write_text(f"+Boss.:newcomer:{owner.st_uid}:{owner.st_gid}:{home}:-::\n.\n")
    (home / ".qmail-default").write_text("./Maildir/\n")
    os.chown(home / ".qmail-default", owner.st_uid, owner.st_gid)
    draft.rename(stack.directory / "users" / "assign")
    try:
        message = house.send(mail("assigned"), f"boss.of.all@{MAIL_NAME}")
        house.wait_idle()
        [name] = os.listdir(home / "Maildir" / "new")
        assert message in name
    finally:
        (stack.directory / "users" / "assign").write_text(".\n")
