"""smtpd on a real socket: where a message ends, what is answered, how it goes down."""

import asyncio
import itertools
import re
import smtplib
from pathlib import Path
from typing import Any

import pytest

from mail.dsn import DELAY, NO_WISH, SUCCESS, Wish
from tests.harness.smtp_office import ENVELOPE, GOOD, OPENING, RELAY, DictQueue, peer, reach_data, running

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


# -- what the sender wishes to be told (RFC 3461) ----------------------------------------------------------------------


async def test_dsn_is_announced_and_reaches_the_queue_as_it_was_written(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server, greet=False)
        await client.reply()
        assert "250-DSN\n" in await client.ask(OPENING)
        assert await client.ask(b"MAIL FROM:<a@b.example> RET=hdrs ENVID=QQ+3D1\r\n") == "250 2.1.0 ok"
        asked = b"RCPT TO:<joe@mail.example.test> NOTIFY=success,delay ORCPT=rfc822;Joe+2BBlow@old.example\r\n"
        assert await client.ask(asked) == "250 2.1.5 ok"
        assert await client.ask(b"RCPT TO:<jim@mail.example.test>\r\n") == "250 2.1.5 ok"
        await client.ask(b"DATA\r\n")
        await client.ask(GOOD)
        (message,) = server.queue.messages
        assert (message.ret, message.envid) == ("HDRS", "QQ+3D1")
        assert message.wishes == (Wish(SUCCESS | DELAY, "rfc822;Joe+2BBlow@old.example"), NO_WISH)


async def test_wishes_end_with_their_transaction_and_a_refused_recipient_has_none(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = await peer(server)
        await client.ask(b"MAIL FROM:<a@b.example> RET=FULL ENVID=1\r\n")
        await client.ask(b"RCPT TO:<joe@mail.example.test> NOTIFY=NEVER\r\n")
        await client.ask(b"RSET\r\n")
        await client.ask(b"MAIL FROM:<a@b.example>\r\n")
        assert (await client.ask(b"RCPT TO:<nobody@mail.example.test> NOTIFY=NEVER\r\n"))[:3] == "550"
        assert (await client.ask(b"RCPT TO:<jim@mail.example.test> NOTIFY=SOMETIMES\r\n"))[:9] == "501 5.5.4"
        await client.ask(b"RCPT TO:<joe@mail.example.test>\r\n")
        await client.ask(b"DATA\r\n")
        await client.ask(GOOD)
        (message,) = server.queue.messages
        assert (message.ret, message.envid, message.wishes) == ("", "", ())
        assert message.recipients == ("joe@mail.example.test",)


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
