"""Servers that break, lie or stall (reliability.md E1-E8): the right deferral, and W3 only after the final dot."""

import asyncio
import contextlib
import socket
import ssl

import pytest

from mail.outcome import Deferred, Delivered, word
from tests.contract.remote.conftest import Stage
from tests.harness.mailhost import CLOSE, RESET, SILENCE, Act, Answer

DIED = ("deferral", "Connected to 127.0.0.1 but connection died. (#4.4.2)\n")
DIED_AFTER_DOT = ("deferral", "Connected to 127.0.0.1 but connection died. Possible duplicate! (#4.4.2)\n")
STOPPED = "I stopped before the message was sent: the queue is out of reach. (#4.3.0)\n"
LOCKSTEP = "250 mx"


@pytest.mark.parametrize("act", [RESET, CLOSE])
@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "RCPT", "RCPT b@there.example", "DATA"])
@pytest.mark.parametrize("ehlo", ["250-mx\r\n250 PIPELINING", LOCKSTEP])
async def test_a_connection_lost_before_the_dot_defers_and_doubles_nothing(
    stage: Stage, act: Act, phase: str, ehlo: str
) -> None:
    host = await stage.host()
    host.answers.update({"EHLO": ehlo, phase: act})
    results = await stage.send("a@there.example", "b@there.example")
    assert [(word(one.outcome), one.outcome.report) for one in results] == [DIED] * 2
    assert not any(one.possible_duplicate for one in results)
    assert stage.happened("possible-duplicate") == []


@pytest.mark.parametrize("answer", [RESET, CLOSE, b"garbage\r\n", "354 what", b"250-half a reply\r\n"])
async def test_a_connection_lost_after_the_dot_is_a_possible_duplicate(stage: Stage, answer: Answer) -> None:
    stage.set(timeoutremote_s=1)
    host = await stage.host()
    host.answers.update({"dot": answer, "RCPT b@there.example": "550 no"})
    unknown, refused = await stage.send("a@there.example", "b@there.example")
    assert (word(unknown.outcome), unknown.outcome.report) == DIED_AFTER_DOT
    assert unknown.possible_duplicate
    assert word(refused.outcome) == "failure"
    assert not refused.possible_duplicate
    (event,) = stage.happened("possible-duplicate")
    assert event["window"] == "W3"


@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_silent_server_is_given_up(stage: Stage, phase: str) -> None:
    stage.set(timeoutremote_s=1)
    host = await stage.host()
    host.answers.update({"EHLO": LOCKSTEP, phase: SILENCE})
    assert await stage.say() == DIED
    await host.until(lambda: host.open_now == 0)


async def test_a_server_that_sends_an_octet_now_and_then_does_not_stretch_the_time(stage: Stage) -> None:
    stage.set(timeoutremote_s=1)

    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                writer.write(b"2")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 0.05)
        writer.close()
        gone.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    stage.port = server.sockets[0].getsockname()[1]
    stage.dns.records[("there.example", "A")] = ["127.0.0.1"]
    async with server:
        assert await stage.say() == DIED
        await gone.wait()


@pytest.mark.parametrize(
    "flood",
    [b"220-" + b"x" * 100_000, b"220-x\r\n" * 100_000, b"x" * 100_000, (b"220-" + b"y" * 4_000 + b"\r\n") * 100],
)
async def test_an_endless_reply_is_cut_off(stage: Stage, flood: bytes) -> None:
    host = await stage.host()
    host.answers["greeting"] = flood
    assert await stage.say() == DIED
    await host.until(lambda: host.open_now == 0)


async def test_a_reply_cannot_forge_lines_or_controls(stage: Stage) -> None:
    host = await stage.host()
    host.answers.update({"EHLO": LOCKSTEP, "RCPT": b"550 a\x00b\x1b[31m\rc\x7f\xff\n\n<fake@x>:\n"})
    assert await stage.say() == DIED  # what follows the reply is no reply: nothing of it counts
    host.answers["RCPT"] = b"550 a\x00b\x1b[31m\rc\x7f\xff\r\n"
    word_, report = await stage.say()
    assert word_ == "failure"
    assert "Remote host said: 550 a?b?[31m?c?\ufffd\n" in report


@pytest.mark.parametrize("phase", ["greeting", "EHLO", "MAIL", "DATA"])
async def test_more_replies_than_commands_end_the_connection(stage: Stage, phase: str) -> None:
    host = await stage.host()
    usual = {"greeting": "220 hi", "EHLO": LOCKSTEP, "MAIL": "250 ok", "DATA": "354 go"}
    host.answers["EHLO"] = LOCKSTEP
    host.answers[phase] = usual[phase].encode() + b"\r\n" + b"250 taken\r\n" * 5
    assert await stage.say() == DIED
    assert stage.happened("possible-duplicate") == []
    assert not any(host.messages)


# -- the queue out of reach -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("looks", [0, 1, 2])
@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_without_the_queue_no_final_dot_is_sent(stage: Stage, looks: int, size: int) -> None:
    host = await stage.host()
    stage.queue.reachable_looks = looks
    assert await stage.say(body=b"x\n" * (size // 2)) == ("deferral", STOPPED)
    assert (host.connections == 0) == (looks == 0)
    if stage.pool:
        stage.pool.close()
    await host.until(lambda: host.open_now == 0)
    assert host.messages == []
    assert stage.happened("possible-duplicate") == []


async def test_what_is_stopped_after_the_dot_is_a_possible_duplicate(stage: Stage) -> None:
    host = await stage.host()
    host.answers["dot"] = SILENCE
    attempts = stage.build()
    attempts.take([stage.delivery()])
    await host.until(lambda: host.messages)
    await attempts.stop()
    assert len(stage.happened("possible-duplicate")) == 1
    assert stage.queue.settled == {}


async def test_what_is_stopped_in_the_middle_says_no_quit(stage: Stage) -> None:
    """A command where the server does not expect one could become part of a message."""
    host = await stage.host()
    host.answers["DATA"] = SILENCE
    attempts = stage.build()
    attempts.take([stage.delivery()])
    await host.until(lambda: "DATA" in host.commands)
    await attempts.stop()
    await host.until(lambda: host.open_now == 0)
    assert host.commands[-1] == "DATA"


async def test_many_deliveries_at_once_are_each_settled(stage: Stage) -> None:
    host = await stage.host()
    attempts = stage.build()
    deliveries = [stage.delivery() for _ in range(60)]
    attempts.take(deliveries)
    while len(stage.queue.settled) < len(deliveries):
        stage.queue.all_settled.clear()
        await stage.queue.all_settled.wait()
    assert all(isinstance(results[0].outcome, Delivered) for results in stage.queue.settled.values())
    assert len(host.messages) == 60


# -- addresses that do not answer -------------------------------------------------------------------------------------


async def test_an_address_that_timed_out_twice_is_left_alone(stage: Stage) -> None:
    stage.time_scale = 0.005
    with socket.socket() as deaf, contextlib.ExitStack() as fillers:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):  # fill the backlog: from then on the kernel answers no SYN
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(deaf.getsockname())
        stage.port = deaf.getsockname()[1]
        stage.dns.records[("there.example", "A")] = ["127.0.0.1"]
        stage.set(timeoutconnect_s=130)
        for _ in range(2):
            assert (await stage.say())[1].endswith("(#4.4.1)\n")
        looked = stage.build()._world.tcpto
        assert looked.is_skipped("127.0.0.1", stage.build()._world.clock.monotonic(), 0)
        assert (await stage.say())[1].endswith("(#4.4.1)\n")


# -- TLS --------------------------------------------------------------------------------------------------------------


EHLO_TLS = "250-mx\r\n250-PIPELINING\r\n250 STARTTLS"


async def test_tls_is_used_where_it_is_offered_whoever_signed_the_certificate(
    stage: Stage, server_tls: ssl.SSLContext
) -> None:
    host = await stage.host()
    host.tls = server_tls
    host.answers["EHLO"] = [EHLO_TLS, "250-mx\r\n250 SIZE 1000000"]
    big = b"y" * 900_000 + b"\n"
    assert (await stage.say(body=big))[0] == "success"
    assert (await stage.say())[0] == "success"
    assert host.secured == [True, True]
    assert host.connections == 1
    assert host.commands[:4] == [
        "EHLO here.example",
        "STARTTLS",
        "EHLO here.example",
        "MAIL FROM:<me@here.example> SIZE=900002",
    ]
    assert stage.happened("connected")[0]["tls"] == "TLSv1.3"


async def test_a_handshake_that_fails_is_followed_by_plaintext(stage: Stage) -> None:
    host = await stage.host()
    host.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate no handshake can succeed
    host.answers["EHLO"] = EHLO_TLS
    assert (await stage.say())[0] == "success"
    assert host.secured == [False]
    assert host.connections == 2


@pytest.mark.parametrize("answer", [b"220 go\r\nnot a handshake\r\n", "220 go", RESET, CLOSE])
async def test_a_server_that_only_pretends_to_know_tls_does_not_stop_the_world(stage: Stage, answer: Answer) -> None:
    stage.set(timeoutremote_s=1)
    host = await stage.host()
    host.answers.update({"EHLO": EHLO_TLS, "STARTTLS": answer})
    outcome = (await stage.send())[0].outcome
    if answer == "220 go":  # no TLS behind it: the time for the handshake passes, then plaintext
        assert isinstance(outcome, Delivered)
    else:
        assert isinstance(outcome, Deferred)


@pytest.mark.parametrize("answer", ["454 not now", "501 no"])
async def test_tls_that_is_refused_leaves_plaintext(stage: Stage, answer: str) -> None:
    host = await stage.host()
    host.answers.update({"EHLO": EHLO_TLS, "STARTTLS": answer})
    assert (await stage.say())[0] == "success"
    assert host.connections == 1


async def test_replies_injected_before_the_handshake_are_not_believed(stage: Stage, server_tls: ssl.SSLContext) -> None:
    host = await stage.host()
    host.tls = server_tls
    injected = b"220 go\r\n250-mx\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"
    host.answers.update({"EHLO": EHLO_TLS, "STARTTLS": injected})
    assert await stage.say() == DIED
    assert host.messages == []
