"""smtpd on a real socket: what is bounded, and who is cut off."""

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from mail.limits import RECIPIENTS_MAX
from services.smtpd import limits, tcprules
from tests.harness.smtp_office import ENVELOPE, GOOD, OPENING, peer, reach_data, running


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
