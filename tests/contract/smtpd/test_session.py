"""smtpd on a real socket: where a message ends, who is cut off, what is bounded, how it goes down."""

import asyncio
import contextlib
import itertools
import re
import smtplib
import socket
from pathlib import Path
from typing import Any

import pytest

from mail.limits import RECIPIENTS_MAX
from services.smtpd import limits, tcprules
from tests.harness.smtp_office import RELAY, DictQueue, Peer, Server, running

OPENING = b"EHLO c\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<joe@mail.example.test>\r\nDATA\r\n"
GOOD = b"Subject: x\r\n\r\ntext\r\n.\r\n"


async def peer(server: Server, greet: bool = True) -> Peer:
    found = await server.peer()
    if greet:
        assert (await found.reply()).startswith("220 mail.example.test ESMTP")
        assert "PIPELINING" in await found.ask(OPENING)
    return found


async def reach_data(client: Peer) -> None:
    """Up to 354."""
    for reply in [await client.ask(ENVELOPE), await client.reply(), await client.reply()]:
        assert reply[:1] in "23", reply


# -- the end of a message ----------------------------------------------------------------------------------------------

LINE_ENDS = [b"\n", b"\r", b"\r\n"]
ODD_ENDS = [b"".join(pair) for pair in itertools.product([*LINE_ENDS, b"\r\r\n"], [b"."], [*LINE_ENDS, b"\r\r\n"])]
ODD_ENDS = [end for end in ODD_ENDS if b"\r\n.\r\n" not in end] + [b"\r\n\0.\r\n", b"\r\n.\0\r\n"]


@pytest.mark.parametrize("end", ODD_ENDS)
async def test_nothing_else_ends_a_message_wherever_the_packets_are_cut(end: bytes, tmp_path: Path) -> None:
    data = b"Subject: x\r\n\r\ntext" + end + b"MAIL FROM:<smuggled@x.example>\r\n.\r\n"
    async with running(tmp_path) as server:
        odd = data.index(end + b"MAIL")
        for cut in [*range(odd - 1, odd + len(end) + 2), *range(len(data) - 5, len(data))]:
            client = await peer(server)
            await reach_data(client)
            client.writer.write(data[:cut])
            await client.writer.drain()
            await asyncio.sleep(0)
            assert (await client.ask(data[cut:])).startswith("550 5.6.0")
            assert (await client.ask(b"QUIT\r\n")).startswith("221")
        assert not server.queue.messages


async def test_a_message_cut_off_anywhere_is_not_queued(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        packets = [OPENING, *ENVELOPE.splitlines(keepends=True), GOOD]
        total = sum(map(len, packets))
        for length in range(total):
            client = await peer(server, greet=False)
            await client.reply()
            left = length
            for packet in packets:
                client.writer.write(packet[:left])
                left -= len(packet)
                if left <= 0:
                    break
                await client.reply()
            client.writer.close()
            await client.writer.wait_closed()
        await asyncio.wait_for(server.door._empty.wait(), 10)
        assert not server.queue.messages


async def test_what_was_said_before_half_closing_is_answered(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        await reach_data(client)
        client.writer.write(GOOD + b"QUIT\r\n")
        client.writer.write_eof()
        assert [reply[:3] for reply in await client.rest()] == ["250", "221"]
        assert len(server.queue.messages) == 1


# -- replies -----------------------------------------------------------------------------------------------------------


async def test_the_reply_carries_time_and_id_and_the_event_the_same_id(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        await reach_data(client)
        reply = await client.ask(GOOD)
        (message,) = server.queue.messages
        assert re.fullmatch(rf"250 2\.0\.0 ok \d{{10}} qp {message.id}", reply)
        (accepted,) = [event for event in server.events() if event["event"] == "accepted"]
        assert accepted["msg"] == message.id
        assert accepted["recipients"] == ["joe@mail.example.test"]
        assert accepted["bytes"] == len(message.body)


@pytest.mark.parametrize(
    ("reply", "given"),
    [
        ("451 4.3.0 message was not queued, please try again", "451 4.3.0 message was not queued, please try again"),
        ("452 4.3.1 disk is full", "452 4.3.1 disk is full"),
        ("250 2.0.0 what?", "451 4.3.0"),
        ("451 a\r\n250 b", "451 4.3.0"),
    ],
)
async def test_what_the_queue_refuses_is_refused_in_its_words(reply: str, given: str, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.queue.reply = reply
        client = await peer(server)
        await reach_data(client)
        assert (await client.ask(GOOD)).startswith(given)
        assert not server.queue.messages


async def test_an_error_of_ours_is_a_451_that_tells_nothing(tmp_path: Path) -> None:
    class Broken(DictQueue):
        async def submit(self, submission: Any) -> str | None:
            raise OSError(28, "No space left on device", "/var/secret")

    async with running(tmp_path) as server:
        object.__setattr__(server.office, "queue", Broken())
        client = await peer(server)
        await reach_data(client)
        client.writer.write(GOOD)
        assert await client.rest() == ["451 4.3.0 sorry, I have trouble here, try again later"]
        assert any(event["event"] == "alert" for event in server.events())


async def test_without_a_queue_mail_waits_outside(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.queue.open = False
        client = await peer(server)
        assert (await client.ask(b"MAIL FROM:<a@b.example>\r\n")).startswith("451 4.3.2")


async def test_a_message_over_the_limit_is_refused_at_its_end_and_one_at_it_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, databytes=1000) as server:
        client = await peer(server)
        for octets, reply in ((1000, "250 2.0.0"), (1001, "552 5.3.4")):
            await reach_data(client)
            assert (await client.ask(b"x" * (octets - 1) + b"\r\n.\r\n")).startswith(reply)
        assert len(server.queue.messages) == 1


async def test_a_hundred_hops_are_a_loop(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        for hops, reply in ((99, "250"), (100, "554 5.4.6")):
            await reach_data(client)
            assert (await client.ask(b"Received: x\r\n" * hops + b"\r\n.\r\n")).startswith(reply)


async def test_bodies_together_are_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        before = server.door.octets_left
        client = await peer(server)
        await reach_data(client)
        server.door.octets_left = 10
        assert (await client.ask(b"x" * 2000 + b"\r\n" + b".\r\n")).startswith("250")  # a whole piece is never split
        assert server.door.octets_left == 10
        server.door.octets_left = 0
        client.writer.write(ENVELOPE)
        assert [(await client.reply())[:9] for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "452 4.3.1"]
        server.door.octets_left = before


# -- clients that do not wait ------------------------------------------------------------------------------------------


async def test_who_talks_before_the_banner_is_sent_away(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        early = server.connect()
        early.sendall(OPENING)  # the loop is not running: this is here before the server has accepted
        client = await server.peer(early)
        assert await client.rest() == ["554 5.5.0 you went on before I answered"]


@pytest.mark.parametrize("said", [OPENING + ENVELOPE, b"HELO c\r\nNOOP\r\n"])
async def test_who_goes_on_before_the_greeting_is_answered_is_sent_away(said: bytes, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server, greet=False)
        await client.reply()
        client.writer.write(said)
        assert await client.rest() == ["554 5.5.0 you went on before I answered"]


async def test_who_sends_a_message_before_354_is_sent_away(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        client.writer.write(ENVELOPE + GOOD)
        assert [reply[:9] for reply in await client.rest()] == ["250 2.1.0", "250 2.1.5", "554 5.5.0"]
        assert not server.queue.messages


async def test_what_follows_quit_is_not_heard(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        client.writer.write(b"QUIT\r\nMAIL FROM:<a@b.example>\r\n")
        assert [reply[:3] for reply in await client.rest()] == ["221"]


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\n"]
)
async def test_what_is_not_smtp_is_sent_away(said: bytes, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server, greet=False)
        await client.reply()
        client.writer.write(said)
        assert await client.rest() == ["554 5.5.0 this is an SMTP server"]


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_too_many_errors_end_the_session(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        client.writer.write(b"RUBBISH\r\n" * (limits.ERRORS_MAX + 50))
        replies = await client.rest()
        assert replies == ["502 5.5.1 unimplemented"] * (limits.ERRORS_MAX + 1) + ["421 4.7.0 too many errors, goodbye"]


async def test_too_many_idle_commands_end_the_session_unless_mail_comes_between(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        for _ in range(3):
            client.writer.write(b"NOOP\r\n" * (limits.JUNK_MAX - 1))
            for _ in range(limits.JUNK_MAX - 1):
                assert (await client.reply()).startswith("250")
            await reach_data(client)
            assert (await client.ask(GOOD)).startswith("250")
        client.writer.write(b"RSET\r\nVRFY x\r\n" * limits.JUNK_MAX)
        assert (await client.rest())[-1].startswith("421 4.7.0")


async def test_the_thousand_first_recipients_get_the_message(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        client.writer.write(b"MAIL FROM:<>\r\n")
        client.writer.write(
            b"".join(b"RCPT TO:<list-%d@mail.example.test>\r\n" % n for n in range(RECIPIENTS_MAX + 100))
        )
        client.writer.write(b"DATA\r\n")
        replies = [await client.reply() for _ in range(RECIPIENTS_MAX + 102)]
        assert [reply[:9] for reply in replies[1:-1]] == ["250 2.1.5"] * RECIPIENTS_MAX + ["452 4.5.3"] * 100
        assert (await client.ask(GOOD)).startswith("250")
        assert len(server.queue.messages[0].recipients) == RECIPIENTS_MAX


async def test_a_million_recipients_end_the_session(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        client.writer.write(b"MAIL FROM:<>\r\n" + b"RCPT TO:<joe@mail.example.test>\r\n" * 3_000)
        assert (await client.rest())[-1].startswith("421 4.7.0")


async def test_one_address_may_not_take_every_place(tmp_path: Path) -> None:
    async with running(tmp_path, connections_per_ip=2) as server:
        first, second = await peer(server), await peer(server)
        third = await peer(server, greet=False)
        assert (await third.reply()).startswith("421 4.7.0")
        elsewhere = socket.socket()
        elsewhere.bind(("127.0.0.9", 0))
        elsewhere.connect(("127.0.0.1", server.port))
        assert (await (await server.peer(elsewhere)).reply()).startswith("220")
        assert (await second.ask(b"NOOP\r\n")).startswith("250")
        assert await first.ask(b"QUIT\r\n")
        assert await first.rest() == []
        await peer(server)


async def test_all_addresses_together_have_a_limit(tmp_path: Path) -> None:
    async with running(tmp_path, connections=1) as server:
        first = await peer(server)
        assert (await (await peer(server, greet=False)).reply()).startswith("421 4.3.2")
        assert (await first.ask(b"NOOP\r\n")).startswith("250")


async def test_a_denied_peer_hears_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, peers=tcprules.parse("127.:deny")) as server:
        client = await peer(server, greet=False)
        assert await client.rest() == []
        assert [event["peer"] for event in server.events() if event["event"] == "denied"] == ["127.0.0.1"]


async def test_databytes_of_the_rule_is_announced_and_kept(tmp_path: Path) -> None:
    async with running(tmp_path, peers=tcprules.parse('127.:allow,DATABYTES="8"')) as server:
        client = await peer(server, greet=False)
        await client.reply()
        assert "250-SIZE 8\n" in await client.ask(OPENING)
        await reach_data(client)
        assert (await client.ask(b"1234567\r\n.\r\n")).startswith("250")
        await reach_data(client)
        assert (await client.ask(b"12345678\r\n.\r\n")).startswith("552")


@pytest.mark.parametrize(
    "before", [b"", b"MAIL FROM", ENVELOPE, ENVELOPE[:40] + b"x"], ids=["", "half", "data", "line"]
)
async def test_who_says_nothing_is_cut_off(before: bytes, tmp_path: Path) -> None:
    async with running(tmp_path, time_scale=0.01) as server:
        client = await peer(server)
        client.writer.write(before)
        assert (await client.rest())[-1] == "421 4.4.2 timeout, goodbye"


async def test_who_sends_a_message_drop_by_drop_is_cut_off(tmp_path: Path) -> None:
    """Every octet is well within the timeout; all of them together are slower than DATA_RATE_MIN."""
    async with running(tmp_path, time_scale=0.01) as server:
        client = await peer(server)
        await reach_data(client)
        reply = asyncio.create_task(client.reply())
        while not reply.done():
            client.writer.write(b"x")
            await asyncio.wait([reply], timeout=0.02)
        assert reply.result() == "421 4.4.2 timeout, goodbye"


def resident_octets() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("in_data", [False, True], ids=["command", "data"])
async def test_a_line_without_end_costs_no_memory(in_data: bool, tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        connection = server.connect()

        def flood() -> bytes:
            with connection, connection.makefile("rb") as replies:
                replies.readline()
                connection.sendall(OPENING)
                while replies.readline()[3:4] == b"-":
                    pass
                if in_data:
                    connection.sendall(ENVELOPE)
                    assert [replies.readline()[:1] for _ in range(3)] == [b"2", b"2", b"3"]
                piece = b"x" * 1_048_576
                with contextlib.suppress(OSError):  # cut off, as a command is
                    for _ in range(64):
                        connection.sendall(piece)
                    connection.sendall(b"\r\n.\r\n")
                return replies.readline()

        before = resident_octets()
        reply = await asyncio.to_thread(flood)
        assert resident_octets() - before < 16 * 1024 * 1024
        assert reply.startswith(b"550 5.6.0 sorry, a line" if in_data else b"500 5.5.2 a command has at most")


# -- going down --------------------------------------------------------------------------------------------------------


async def test_going_down_answers_who_is_past_the_dot_and_sends_the_others_home(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.queue.gate = asyncio.Event()
        idle, sending, past = await peer(server), await peer(server), await peer(server)
        await reach_data(sending)
        sending.writer.write(b"half a message\r\n")
        await reach_data(past)
        past.writer.write(GOOD)
        await server.queue.entered.wait()
        closing = asyncio.create_task(server.door.close(20))
        going_down = "421 4.3.2 I am going down, come back in a minute"
        assert await idle.rest() == [going_down]
        assert await sending.rest() == [going_down]
        assert not closing.done()
        server.queue.gate.set()
        assert [reply[:9] for reply in await past.rest()] == ["250 2.0.0", "421 4.3.2"]
        await closing
        assert len(server.queue.messages) == 1


async def test_a_client_that_vanishes_after_the_dot_does_not_take_its_message_along(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        server.queue.gate = asyncio.Event()
        client = await peer(server)
        await reach_data(client)
        client.writer.write(GOOD)
        await server.queue.entered.wait()
        client.writer.transport.abort()
        server.queue.gate.set()
        await asyncio.wait_for(server.door._empty.wait(), 10)
        assert len(server.queue.messages) == 1
        assert [event["event"] for event in server.events()] == ["accepted"]


# -- a client that others wrote ----------------------------------------------------------------------------------------


async def test_smtplib_sends_mail(tmp_path: Path) -> None:
    async with running(tmp_path, peers=RELAY) as server:

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", server.port, timeout=10) as client:
                refused = client.sendmail(
                    "a@b.example",
                    ["joe@mail.example.test", "nobody@mail.example.test"],
                    "Subject: x\n\n.dot\nend",
                )
                assert refused["nobody@mail.example.test"][0] == 550
                client.sendmail("", ["x@far.example"], b"\xff" * 50_000 + b"\r\n" + b"line\r\n" * 100_000)

        await asyncio.to_thread(send)
        first, second = server.queue.messages
        assert first.body.endswith(b"\nSubject: x\n\n.dot\nend\n")
        assert second.body.endswith(b"\nline\n" * 1)
        assert len(second.body.split(b"\n", 2)[2]) == 50_001 + 500_000
