"""Where mail goes: what the DNS says, what it cannot say, and who must not be reached (reliability.md E9, E10)."""

import dns.rcode
import pytest

from services.remote.mx import has_address
from tests.contract.remote.conftest import Stage
from tests.harness.mailhost import RESET

NO_SUCH_HOST = ("failure", "Sorry, I couldn't find any host named {}. (#5.1.2)\n")
DNS_FAILED = ("deferral", "Sorry, I couldn't find any host by that name. (#4.1.2)\n")
NO_EXCHANGER = ("failure", "Sorry, I couldn't find a mail exchanger or IP address. (#5.4.4)\n")
AMBIGUOUS = (
    "failure",
    "Sorry. Although I'm listed as a best-preference MX or A for that host,\n"
    "it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n",
)
FORBIDDEN = (
    "failure",
    "Sorry, that host's mail exchangers are at private addresses, where I don't send mail. (#5.4.4)\n",
)


async def test_a_domain_that_does_not_exist_fails(stage: Stage) -> None:
    assert await stage.say("you@nowhere.example") == (NO_SUCH_HOST[0], NO_SUCH_HOST[1].format("nowhere.example"))


@pytest.mark.parametrize("domain", ["", "-", "a..b", "a b", "x" * 64 + ".example", "..", "a/b.example"])
async def test_what_is_no_domain_is_not_asked_for(stage: Stage, domain: str) -> None:
    word, report = await stage.say(f"you@{domain}")
    assert word == "failure"
    assert "(#5.1." in report
    assert stage.dns.asked == []


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_a_name_server_in_trouble_defers(stage: Stage, rcode: dns.rcode.Rcode) -> None:
    stage.lookup_s = 1.0
    stage.dns.rcodes["there.example"] = rcode
    assert await stage.say() == DNS_FAILED


async def test_a_silent_name_server_defers(stage: Stage) -> None:
    stage.lookup_s = 0.4
    stage.dns.silent.add("there.example")
    assert await stage.say() == DNS_FAILED


async def test_an_exchanger_whose_address_is_not_told_defers(stage: Stage) -> None:
    stage.lookup_s = 0.4
    stage.dns.records[("there.example", "MX")] = ["10 mx.there.example."]
    stage.dns.silent.add("mx.there.example")
    assert await stage.say() == DNS_FAILED


async def test_a_null_mx_fails_at_once(stage: Stage) -> None:
    stage.dns.records[("there.example", "MX")] = ["0 ."]
    stage.dns.records[("there.example", "A")] = ["127.0.0.1"]
    assert await stage.say() == ("failure", "Sorry, that domain says that it takes no mail. (#5.1.10)\n")


async def test_without_mx_the_address_of_the_domain_is_the_exchanger(stage: Stage) -> None:
    host = await stage.host()
    stage.dns.records = {("there.example", "A"): ["127.0.0.1"]}
    assert (await stage.say())[0] == "success"
    assert len(host.messages) == 1


async def test_a_domain_with_neither_mx_nor_address_fails(stage: Stage) -> None:
    stage.dns.records[("there.example", "TXT")] = ['"nothing"']
    assert await stage.say() == NO_EXCHANGER


@pytest.mark.parametrize("target", ["gone.example.", "192.0.2.1.", "127.0.0.1."])
async def test_an_mx_without_address_does_not_fall_back_to_the_domain(stage: Stage, target: str) -> None:
    stage.dns.records[("there.example", "MX")] = [f"10 {target}"]
    stage.dns.records[("there.example", "A")] = ["127.0.0.1"]
    assert await stage.say() == NO_EXCHANGER


async def test_an_alias_is_followed_and_the_address_stays_as_it_was(stage: Stage) -> None:
    host = await stage.host()
    stage.dns.records[("alias.example", "CNAME")] = ["there.example."]
    stage.dns.records[("there.example", "MX")] = ["10 mxalias.example."]
    stage.dns.records[("mxalias.example", "CNAME")] = ["mx.there.example."]
    assert (await stage.say("you@alias.example"))[0] == "success"
    assert "RCPT TO:<you@alias.example>" in host.commands


async def test_exchangers_are_tried_best_first(stage: Stage) -> None:
    worse = await stage.host("127.0.0.3", "worse.example", 20)
    better = await stage.host("127.0.0.2", "better.example", 5)
    assert (await stage.say())[0] == "success"
    assert (worse.connections, better.connections) == (0, 1)


async def test_equal_exchangers_share_the_mail(stage: Stage) -> None:
    hosts = [await stage.host(f"127.0.0.{n}", f"mx{n}.example", 10) for n in (2, 3)]
    for host in hosts:
        host.answers["dot"] = "451 so that no connection is kept, and the next choice is free"
    for _ in range(40):
        stage.build()
        assert stage.pool
        stage.pool.close()
        await stage.say()
    assert all(host.connections for host in hosts)  # that one gets all has a probability of 2^-39


async def test_a_big_answer_comes_over_tcp(stage: Stage) -> None:
    await stage.host()
    stage.dns.udp_max = 512
    stage.dns.records[("there.example", "MX")] += [f"20 {n}{'x' * 50}.there.example." for n in range(80)]
    assert (await stage.say())[0] == "success"
    assert ("there.example", "MX", "udp") in stage.dns.asked
    assert ("there.example", "MX", "tcp") in stage.dns.asked


async def test_a_hundred_exchangers_cost_a_bounded_number_of_questions(stage: Stage) -> None:
    stage.dns.records[("there.example", "MX")] = [f"{n} mx{n}.there.example." for n in range(100)]
    assert (await stage.say())[0] == "failure"
    assert len(stage.dns.asked) <= 1 + 1 + 2 * 10


async def test_answers_are_kept_as_long_as_they_may(stage: Stage) -> None:
    await stage.host()
    for _ in range(3):
        assert (await stage.say())[0] == "success"
    assert len(stage.dns.asked) == 3


async def test_that_there_is_nothing_is_not_remembered_for_long(stage: Stage) -> None:
    """The name server here sends no SOA, so the absence has no TTL of its own."""
    stage.dns.records[("there.example", "TXT")] = ['"nothing"']
    assert await stage.say() == NO_EXCHANGER
    directory = stage.build()._world.directory
    now_s = directory._around.clock.wall_ms() / 1000
    assert directory._kept
    assert all(until_s <= now_s + 60 for until_s, records in directory._kept.values() if not records)


# -- ourselves, and what must not be reached --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ip", ["10.0.0.5", "192.168.1.1", "169.254.169.254", "100.64.1.1", "172.17.0.1", "224.0.0.1", "192.0.2.1"]
)
async def test_an_exchanger_inside_our_walls_is_refused(stage: Stage, ip: str) -> None:
    stage.dns.records[("there.example", "MX")] = ["10 mx.there.example."]
    stage.dns.records[("mx.there.example", "A")] = [ip]
    assert await stage.say() == FORBIDDEN
    assert await stage.say(f"you@[{ip}]") == FORBIDDEN


@pytest.mark.parametrize("ip", ["fe80::1", "fd00::1", "::ffff:10.0.0.1", "2002:0a00:1::", "64:ff9b::10.0.0.1"])
async def test_the_same_walls_stand_for_ipv6(stage: Stage, ip: str) -> None:
    stage.dns.records[("there.example", "MX")] = ["10 mx.there.example."]
    stage.dns.records[("mx.there.example", "AAAA")] = [ip]
    assert await stage.say() == FORBIDDEN
    assert await stage.say(f"you@[IPv6:{ip}]") == FORBIDDEN


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.8.8", "0.0.0.0"])
async def test_an_exchanger_on_loopback_means_ourselves_and_is_never_connected_to(stage: Stage, ip: str) -> None:
    host = await stage.host()
    stage.allowed = ""
    stage.dns.records[("mx.there.example", "A")] = [ip]
    assert await stage.say() == AMBIGUOUS
    assert await stage.say(f"you@[{ip}]") == AMBIGUOUS
    assert host.connections == 0


async def test_a_forbidden_address_beside_an_allowed_one_is_left_out(stage: Stage) -> None:
    host = await stage.host()
    stage.dns.records[("mx.there.example", "A")] = ["10.0.0.5", "127.0.0.1"]
    assert (await stage.say())[0] == "success"
    assert host.connections == 1


@pytest.mark.parametrize("preference", [10, 5])
async def test_exchangers_not_better_than_ourselves_are_not_used(stage: Stage, preference: int) -> None:
    host = await stage.host()
    stage.ours = ("127.0.0.9", "198.18.0.1")
    stage.dns.records[("there.example", "MX")] += [f"{preference} us.example."]
    stage.dns.records[("us.example", "A")] = ["198.18.0.1"]
    assert await stage.say() == AMBIGUOUS
    assert host.connections == 0


async def test_an_exchanger_better_than_ourselves_is_used(stage: Stage) -> None:
    await stage.host()
    stage.ours = ("198.18.0.1",)
    stage.dns.records[("there.example", "MX")] += ["20 us.example."]
    stage.dns.records[("us.example", "A")] = ["198.18.0.1"]
    assert (await stage.say())[0] == "success"


async def test_an_exchanger_with_our_name_is_ourselves_wherever_it_is(stage: Stage) -> None:
    await stage.host(name="here.example")
    assert await stage.say() == AMBIGUOUS


async def test_the_kernel_knows_which_addresses_are_ours() -> None:
    assert has_address("127.0.0.1")
    assert not has_address("8.8.8.8")
    assert not has_address("2001:4860:4860::8888")


# -- the next exchanger -----------------------------------------------------------------------------------------------


async def test_the_next_exchanger_is_tried_when_one_is_down(stage: Stage) -> None:
    await stage.host("127.0.0.3", preference=20)
    stage.dns.records[("there.example", "MX")] += ["10 down.example."]
    stage.dns.records[("down.example", "A")] = ["127.0.0.4"]
    assert (await stage.say())[0] == "success"


@pytest.mark.parametrize(
    "answers",
    [
        {"greeting": "421 busy"},
        {"greeting": "554 no"},
        {"greeting": RESET},
        {"greeting": b"garbage\r\n"},
        {"EHLO": "421 busy"},
        {"EHLO": RESET},
        {"EHLO": "550 no", "HELO": "550 no"},
    ],
)
async def test_the_next_exchanger_is_tried_when_one_does_not_want_to_talk(
    stage: Stage, answers: dict[str, str]
) -> None:
    first = await stage.host("127.0.0.2", "one.example", 10)
    second = await stage.host("127.0.0.3", "two.example", 20)
    first.answers.update(answers)
    assert (await stage.say())[0] == "success"
    assert (first.connections, len(second.messages)) == (1, 1)


async def test_the_next_exchanger_is_not_asked_to_overrule_a_refusal(stage: Stage) -> None:
    first = await stage.host("127.0.0.2", "one.example", 10)
    second = await stage.host("127.0.0.3", "two.example", 20)
    first.answers["RCPT"] = "550 no"
    assert (await stage.say())[0] == "failure"
    assert second.connections == 0


async def test_when_nobody_answers_it_is_deferred(stage: Stage) -> None:
    host = await stage.host()
    await host.stop()
    stage.hosts.clear()
    assert await stage.say() == ("deferral", "Sorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n")
