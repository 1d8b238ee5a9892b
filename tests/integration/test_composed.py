"""The walk of a message through the composed stack: docker compose up, in by SMTP, out by POP3, on to another host."""

import json
import re
from collections.abc import Iterator

import pytest

from tests.conftest import free_port
from tests.harness import walk
from tests.harness.composed import ELSEWHERE, ComposedStack
from tests.harness.walk import House, mail

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposedStack]:
    """Up and healthy; taken down with its volumes at the end."""
    running = ComposedStack(engine, tmp_path_factory.mktemp("composed"), free_port(), free_port())
    running.prepare()
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.fixture
def house(stack: ComposedStack) -> House:
    return stack.house()


def test_every_octet_arrives(house: House) -> None:
    walk.check_every_octet_arrives(house)


def test_pop3_hands_out_what_lies_in_the_maildir(house: House) -> None:
    walk.check_pop3_hands_out_what_lies_in_the_maildir(house)


def test_one_id_leads_from_the_reply_to_the_maildir(house: House) -> None:
    walk.check_one_id_leads_from_the_reply_to_the_maildir(house)


def test_mail_for_nobody_is_refused_at_rcpt(house: House) -> None:
    walk.check_mail_for_nobody_is_refused_at_rcpt(house)


def test_a_message_reaches_a_host_elsewhere(stack: ComposedStack, house: House) -> None:
    house.send(mail("far away"), f"friend@{ELSEWHERE}")
    house.wait_idle()
    assert "Subject: far away" in stack.logs("elsewhere")


def test_everybody_has_the_privilege_that_it_needs_and_no_more(stack: ComposedStack) -> None:
    """What the processes have in fact: CapEff of process 1, and no way to write beside the volumes."""
    for service in ("smtpd", "queue", "remote", "local", "pop3"):
        status = stack.compose("exec", "-T", service, "cat", "/proc/1/status")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(facts["CapEff"], 16) == 0, f"{service}: {facts['CapEff']}"
        assert facts["Uid"].split()[0] != "0", f"{service}: {facts['Uid']}"
        assert facts["NoNewPrivs"] == "1"
        written = stack.compose("exec", "-T", service, "sh", "-c", "touch /here /srv/seapost/here 2>&1 || echo refused")
        assert written.endswith("refused\n"), f"{service} has a root that can be written"


def test_who_starts_as_root_has_one_root_with_two_rights(stack: ComposedStack, house: House) -> None:
    """Every process of local and pop3: a front without rights, a spawner with two, whoever else is a user."""
    house.send(mail("somebody's child stays for a while"))
    house.wait_idle()
    none = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb"), 0)
    spawner = none | {"CapPrm": 0xC0, "CapEff": 0xC0}
    for service, front in (("local", "7794"), ("pop3", "7795")):
        said = stack.compose("exec", "-T", service, "sh", "-c", "exec cat /proc/[0-9]*/status")
        tables = (dict(re.findall(r"(?m)^(\w+):\t(.*)$", one)) for one in said.split("Name:\t")[1:] if one[:3] != "cat")
        by_uid = {table["Uid"].split()[0]: table for table in tables}
        may = {uid: {name: int(table[name], 16) for name in none} for uid, table in by_uid.items()}
        assert may.pop("0") == spawner, service
        assert may[front] == none, service
        assert all(rights == none for rights in may.values()), service
        assert {int(table["CapBnd"], 16) & ~0xC0 for table in by_uid.values()} == {0}, service
        assert {(table["NoNewPrivs"], table["Seccomp"]) for table in by_uid.values()} == {("1", "2")}, service


def test_replicas_share_the_work(stack: ComposedStack, house: House) -> None:
    stack.up("--no-build", "--no-recreate", "--scale", "queue=2", "--scale", "remote=3")
    replicas = [json.loads(line) for line in stack.compose("ps", "--format", "json").splitlines()]
    services = [one["Service"] for one in replicas if one["Health"] == "healthy"]
    assert (services.count("queue"), services.count("remote")) == (2, 3)
    messages = [house.send(mail(f"shared {number}")) for number in range(10)]
    house.wait_idle()
    assert [len(house.copies(message)) for message in messages] == [1] * 10
