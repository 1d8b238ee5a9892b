"""A message goes out: the words of the outcome, the octets on the wire, the choice of the connection."""

from dataclasses import replace

import pytest

from mail.dsn import NO_WISH, SUCCESS, Wish
from mail.outcome import Deferred, Delivered, Failed, word
from services.remote import body
from services.remote.config import RemoteControls
from tests.contract.remote.conftest import Stage
from tests.harness.mailhost import CLOSE, RESET, Answer


async def test_a_message_arrives_whole_and_the_report_quotes_the_server(stage: Stage) -> None:
    host = await stage.host()
    assert await stage.say() == ("success", "127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n")
    assert host.messages == [b"Subject: hello\r\n\r\n..dots\r\nand text\r\n"]
    assert host.commands == [
        "EHLO here.example",
        "MAIL FROM:<me@here.example> SIZE=35",
        "RCPT TO:<you@there.example>",
        "DATA",
    ]
    (connected,) = stage.happened("connected")
    assert connected["host"] == "mx.there.example"
    assert connected["ip"] == "127.0.0.1"
    assert connected["tls"] == ""


@pytest.mark.parametrize(
    ("answers", "outcome", "report"),
    [
        (
            {"MAIL": "550 5.7.1 not you"},
            "failure",
            "Connected to 127.0.0.1 but sender was rejected.\nRemote host said: 550 5.7.1 not you\n",
        ),
        (
            {"MAIL": "451 later"},
            "deferral",
            "Connected to 127.0.0.1 but sender was rejected.\nRemote host said: 451 later\n",
        ),
        (
            {"RCPT": "550-no such\r\n550 user"},
            "failure",
            "127.0.0.1 does not like recipient.\nRemote host said: 550-no such\n550 user\nGiving up on 127.0.0.1.\n",
        ),
        (
            {"RCPT": "450 grey"},
            "deferral",
            "127.0.0.1 does not like recipient.\nRemote host said: 450 grey\nGiving up on 127.0.0.1.\n",
        ),
        ({"DATA": "554 no"}, "failure", "127.0.0.1 failed on DATA command.\nRemote host said: 554 no\n"),
        ({"DATA": "451 no"}, "deferral", "127.0.0.1 failed on DATA command.\nRemote host said: 451 no\n"),
        ({"dot": "554 spam"}, "failure", "127.0.0.1 failed after I sent the message.\nRemote host said: 554 spam\n"),
        ({"dot": "451 full"}, "deferral", "127.0.0.1 failed after I sent the message.\nRemote host said: 451 full\n"),
        ({"greeting": "554 no"}, "deferral", "Connected to 127.0.0.1 but greeting failed.\nRemote host said: 554 no\n"),
        (
            {"EHLO": "421 no"},
            "deferral",
            "Connected to 127.0.0.1 but my name was rejected.\nRemote host said: 421 no\n",
        ),
        (
            {"EHLO": "502 what", "HELO": "550 no"},
            "deferral",
            "Connected to 127.0.0.1 but my name was rejected.\nRemote host said: 550 no\n",
        ),
        ({"MAIL": RESET}, "deferral", "Connected to 127.0.0.1 but connection died. (#4.4.2)\n"),
    ],
)
async def test_each_way_it_can_go_has_qmails_words(
    stage: Stage, answers: dict[str, Answer], outcome: str, report: str
) -> None:
    host = await stage.host()
    host.answers.update(answers)
    assert await stage.say() == (outcome, report)


@pytest.mark.parametrize("ehlo", ["250-mx\r\n250 PIPELINING", "250 mx"])
async def test_each_recipient_has_an_outcome_of_its_own(stage: Stage, ehlo: str) -> None:
    host = await stage.host()
    host.answers.update(
        {
            "EHLO": ehlo,
            "RCPT b@there.example": "450 later",
            "RCPT c@there.example": "550 no",
            "RCPT d@there.example": "552 too many",
        }
    )
    results = await stage.send(*(f"{name}@there.example" for name in "abcde"))
    accepted = Delivered("127.0.0.1 accepted message.\nRemote host said: 250 2.0.0 taken\n")
    unliked = "127.0.0.1 does not like recipient.\nRemote host said: "
    assert [result.outcome for result in results] == [
        accepted,
        Deferred(unliked + "450 later\n"),
        Failed(unliked + "550 no\n"),
        Deferred(unliked + "552 too many\n"),
        accepted,
    ]
    assert len(host.messages) == 1


async def test_a_refused_recipient_stays_refused_when_the_message_is_deferred(stage: Stage) -> None:
    host = await stage.host()
    host.answers.update({"RCPT b@there.example": "550 no", "dot": "451 full"})
    accepted, refused = await stage.send("a@there.example", "b@there.example")
    assert isinstance(accepted.outcome, Deferred)
    assert refused.outcome == Failed("127.0.0.1 does not like recipient.\nRemote host said: 550 no\n")


async def test_a_refused_recipient_stays_refused_when_the_connection_dies(stage: Stage) -> None:
    host = await stage.host()
    host.answers.update({"EHLO": "250 lockstep", "RCPT a@there.example": "550 no", "RCPT b@there.example": RESET})
    refused, died = await stage.send("a@there.example", "b@there.example")
    assert refused.outcome == Failed("127.0.0.1 does not like recipient.\nRemote host said: 550 no\n")
    assert died.outcome == Deferred("Connected to 127.0.0.1 but connection died. (#4.4.2)\n")


async def test_data_accepted_for_nobody_sends_no_message(stage: Stage) -> None:
    host = await stage.host()
    host.answers.update({"RCPT": "550 no"})
    assert (await stage.say())[0] == "failure"
    assert host.messages == [b""]


async def test_more_recipients_than_servers_must_take_go_in_several_transactions(stage: Stage) -> None:
    host = await stage.host()
    results = await stage.send(*(f"u{n}@there.example" for n in range(250)))
    assert {word(result.outcome) for result in results} == {"success"}
    assert len(host.messages) == 3
    assert host.connections == 1


async def test_recipients_of_different_domains_go_to_their_own_hosts(stage: Stage) -> None:
    host = await stage.host()
    results = await stage.send("a@there.example", "b@nowhere.example", "c@THERE.example")
    assert [word(result.outcome) for result in results] == ["success", "failure", "success"]
    assert [line for line in host.commands if line.startswith("RCPT")] == [
        "RCPT TO:<a@there.example>",
        "RCPT TO:<c@THERE.example>",
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no end",
        b"a\r\nb\rc\n.\n",
        b".\n" * 1_000,
        b"x" * 1_200_000,
        bytes(range(256)) * 3_000 + b"\n",
        b"From: a\n\n" + b"line\r\n.\r\nMAIL FROM:<>\n" * 60_000,
    ],
)
@pytest.mark.parametrize("ehlo", ["250-mx\r\n250 PIPELINING", "250 mx"])
async def test_every_body_arrives_as_one_message_octet_by_octet(stage: Stage, content: bytes, ehlo: str) -> None:
    host = await stage.host()
    host.answers["EHLO"] = ehlo
    assert (await stage.say(body=content))[0] == "success"
    assert host.messages == [b"".join(body.pieces(content))]
    assert len([line for line in host.commands if line.startswith("MAIL")]) == 1


async def test_eight_bit_and_utf8_are_announced_where_they_are_known(stage: Stage) -> None:
    host = await stage.host()
    host.answers["EHLO"] = "250-mx\r\n250-8BITMIME\r\n250 SMTPUTF8"
    await stage.say(body="Subject: hi\n\nü\n".encode())
    await stage.say("ü@there.example")
    await stage.say(body="Subject: ü\n\nhi\n".encode())
    assert [line.partition("> ")[2] for line in host.commands if line.startswith("MAIL")] == [
        "BODY=8BITMIME",
        "SMTPUTF8",
        "BODY=8BITMIME SMTPUTF8",
    ]


async def test_an_address_beyond_ascii_needs_a_server_that_knows_it(stage: Stage) -> None:
    await stage.host()
    foreign, plain = await stage.send("ü@there.example", "a@there.example")
    assert foreign.outcome == Failed("127.0.0.1 does not take addresses outside ASCII. (#5.6.7)\n")
    assert isinstance(plain.outcome, Delivered)
    assert (await stage.say(sender="ü@here.example"))[0] == "failure"


async def test_a_domain_beyond_ascii_goes_out_as_a_label(stage: Stage) -> None:
    host = await stage.host()
    stage.dns.records[("xn--bcher-kva.example", "MX")] = ["0 mx.there.example."]
    assert (await stage.say("leser@Bücher.example"))[0] == "success"
    assert "RCPT TO:<leser@xn--bcher-kva.example>" in host.commands


@pytest.mark.parametrize("recipient", ["a b@there.example> X", "a@there.example\r\nRSET", "a\x00@there.example"])
async def test_an_address_that_smtp_cannot_carry_fails_alone(stage: Stage, recipient: str) -> None:
    host = await stage.host()
    bad, good = await stage.send(recipient, "you@there.example")
    assert isinstance(bad.outcome, Failed)
    assert isinstance(good.outcome, Delivered)
    assert not any("RSET" in line for line in host.commands)


# -- one connection for several messages ------------------------------------------------------------------------------


async def test_the_next_message_takes_the_same_connection(stage: Stage) -> None:
    host = await stage.host()
    for _ in range(5):
        assert (await stage.say())[0] == "success"
    assert host.connections == 1
    assert len(host.messages) == 5


async def test_an_idle_connection_says_quit_after_a_moment(stage: Stage) -> None:
    stage.time_scale = 0.01
    host = await stage.host()
    assert (await stage.say())[0] == "success"
    await host.until(lambda: host.open_now == 0)
    assert host.commands[-1] == "QUIT"


@pytest.mark.parametrize("farewell", [CLOSE, RESET, "421 idle too long"])
async def test_a_connection_that_was_closed_meanwhile_costs_no_attempt(stage: Stage, farewell: Answer) -> None:
    host = await stage.host()
    host.answers["MAIL"] = ["250 ok", farewell, "250 ok"]
    assert (await stage.say())[0] == "success"
    assert (await stage.say())[0] == "success"
    assert host.connections == 2


async def test_a_transaction_that_failed_ends_its_connection(stage: Stage) -> None:
    host = await stage.host()
    host.answers.update({"RCPT": ["550 no", "250 ok"], "DATA": ["554 for nobody", "354 go"]})
    assert (await stage.say())[0] == "failure"
    assert (await stage.say())[0] == "success"
    assert host.connections == 2


async def test_a_server_that_speaks_out_of_turn_is_not_used_again(stage: Stage) -> None:
    host = await stage.host()
    host.answers["dot"] = b"250 taken\r\n421 and good bye\r\n"
    assert (await stage.say())[0] == "success"
    assert (await stage.say())[0] == "success"
    assert host.connections == 2


# -- routes -----------------------------------------------------------------------------------------------------------


async def test_a_route_is_used_without_asking_for_mx_and_may_be_private(stage: Stage) -> None:
    host = await stage.host("127.0.0.7", "relay.example")
    stage.allowed = ""
    stage.dns.records.clear()
    stage.dns.records[("relay.example", "A")] = ["127.0.0.7"]
    stage.set(smtproutes={"": "relay.example", "lit.example": f"[127.0.0.7]:{host.port}", "local.example": "127.0.0.7"})
    for domain in ("there.example", "lit.example", "local.example"):
        assert (await stage.say(f"you@{domain}"))[0] == "success"
    assert not [kind for _, kind, _ in stage.dns.asked if kind == "MX"]


async def test_a_relay_that_the_dns_does_not_know_defers(stage: Stage) -> None:
    stage.set(smtproutes={"": "relay.example"})
    assert await stage.say() == ("deferral", "Sorry, I couldn't find any host by that name. (#4.1.2)\n")


@pytest.mark.parametrize("reports", [True, False])
async def test_what_the_sender_wishes_goes_on_and_a_server_that_does_not_report_is_named(
    stage: Stage, reports: bool
) -> None:
    host = await stage.host()
    host.answers["EHLO"] = "250-mx\r\n250 DSN" if reports else "250 mx"
    plain = stage.delivery("a@there.example", "b@there.example")
    wishes = (Wish(SUCCESS, "rfc822;old@here.example"), NO_WISH)
    targets = tuple(replace(target, wish=wish) for target, wish in zip(plain.targets, wishes, strict=True))
    results = await stage.build().deliver(replace(plain, targets=targets, envid="QQ+3D1", ret="HDRS"))
    assert [word(result.outcome) for result in results] == ["success", "success"]
    assert [result.relayed for result in results] == [not reports] * 2
    assert host.commands[1:4] == [
        "MAIL FROM:<me@here.example>" + " RET=HDRS ENVID=QQ+3D1" * reports,
        "RCPT TO:<a@there.example>" + " NOTIFY=SUCCESS ORCPT=rfc822;old@here.example" * reports,
        "RCPT TO:<b@there.example>",
    ]


async def test_new_control_files_count_from_the_next_delivery_on(stage: Stage) -> None:
    host = await stage.host()
    stage.build()
    stage.set(helohost="other.example")
    assert stage.attempts
    stage.attempts.reread(_Files(stage.controls))  # type: ignore[arg-type]
    await stage.say()
    assert host.commands[0] == "EHLO other.example"


class _Files:
    """A control directory that holds what the given controls say."""

    def __init__(self, said: RemoteControls) -> None:
        self._said = said

    def me(self) -> str:
        return self._said.me

    def line(self, name: str, default: str) -> str:
        return self._said.helohost if name == "helohost" else default

    def integer(self, name: str, default: int) -> int:
        return default

    def mapping(self, name: str) -> dict[str, str]:
        return dict(self._said.smtproutes)
