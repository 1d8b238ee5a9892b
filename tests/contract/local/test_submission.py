"""The submission socket as programs meet it: local in a process of its own, the queue played by the test."""

import asyncio
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from mail.limits import MESSAGE_MAX_OCTETS
from runtime.config import ConfigError, load
from services.local.config import LocalConfig
from services.local.door import Door
from tests.harness.injector import BODY, ENVELOPE, QMAIL_QUEUE, connect, hand_in, hang_up, qmail_queue
from tests.harness.local_house import ALIAS_UID, ROOT, TIMEOUT_S, House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to be several users")
ME = os.geteuid()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def every_connection_ends_with_its_test() -> AsyncIterator[None]:
    yield
    await hang_up()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    """One service for all tests that leave it as it was."""
    async with open_house() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[House]:
    """A service that the test may kill or stop."""
    async with open_house() as found:
        yield found


# -- what is queued ---------------------------------------------------------------------------------------------------


async def test_qmail_queue_hands_in_octets_as_they_are_under_a_line_that_says_who(house: House) -> None:
    body = b"Subject: x\n\n\0 8-bit \xff\xfe, CR\r\n, and no newline at the end"
    assert await qmail_queue(house, b"F\0Tann@mail.example.test\0Tb\xc3\xb6b@far.example\0\0", body) == 0
    posted = house.postbox.posted[-1]
    assert (posted.sender, posted.recipients) == ("", ["ann@mail.example.test", "böb@far.example"])
    assert posted.uid == ME
    received, rest = posted.body.split(b"\n", 1)
    assert received.startswith(f"Received: (qmail {posted.id} invoked by uid {ME}); ".encode())
    assert received.endswith(b" -0000")
    assert rest == body


@as_root
async def test_the_kernel_says_who_it_is(house: House) -> None:
    assert await qmail_queue(house, uid=23_456) == 0
    assert await qmail_queue(house, uid=ALIAS_UID) == 0
    user, alias = house.postbox.posted[-2:]
    assert (user.uid, alias.uid) == (23_456, ALIAS_UID)
    assert b" invoked by uid 23456); " in user.body
    assert b" invoked by alias); " in alias.body


async def test_an_empty_message_is_a_message(house: House) -> None:
    assert await qmail_queue(house, body=b"") == 0
    assert house.postbox.posted[-1].body.count(b"\n") == 1


async def test_a_message_to_nobody_is_taken_and_goes_nowhere(house: House) -> None:
    before = len(house.postbox.posted)
    assert await qmail_queue(house, b"Fjoe@far.example\0\0") == 0
    assert len(house.postbox.posted) == before


async def test_a_list_of_thousands_becomes_several_messages(house: House) -> None:
    before = len(house.postbox.posted)
    names = [f"user{number}@mail.example.test" for number in range(2_500)]
    envelope = b"Flist@far.example\0" + b"".join(f"T{one}\0".encode() for one in names) + b"\0"
    answer = await hand_in(house, envelope)
    posted = house.postbox.posted[before:]
    assert [len(one.recipients) for one in posted] == [1_000, 1_000, 500]
    assert [name for one in posted for name in one.recipients] == names
    assert answer == f"K{posted[0].id}\n".encode()
    assert len({one.id for one in posted}) == 3


async def test_ten_mebibytes_arrive_whole(house: House) -> None:
    body = os.urandom(10 * 1024 * 1024 + 7)
    assert await qmail_queue(house, body=body) == 0
    assert house.postbox.posted[-1].body.endswith(body)


async def test_what_is_queued_and_what_the_queue_refuses_are_events(own: House) -> None:
    own.postbox.refusals.append("451 4.3.2 not now")
    assert await hand_in(own) == b"71 not now (#4.3.2)\n"
    answer = await hand_in(own)
    await own.stop()
    (refused,), (accepted,) = own.named("refused"), own.named("accepted")
    assert (refused["peer"], refused["reply"]) == (f"uid {ME}", "71")
    assert refused["about"].endswith(" 451 4.3.2 not now")
    assert (accepted["peer"], accepted["sender"]) == (f"uid {ME}", "joe@far.example")
    assert (accepted["recipients"], f"K{accepted['msg']}\n".encode()) == (["ann@mail.example.test"], answer)


# -- what is not ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("envelope", "status"),
    [
        (b"", 54),
        (b"F", 54),
        (b"Fjoe@far.example", 54),
        (b"Fjoe@far.example\0Tann@mail.example.test\0", 54),
        (b"Fjoe@far.example\0Tann@mail.example.test", 54),
        (b"\0", 91),
        (b"\0\0", 91),
        (b"Tann@mail.example.test\0\0", 91),
        (b"Fjoe@far.example\0Xann@mail.example.test\0\0", 91),
        (b"Fjoe@far.example\0T" + b"a" * 1_003 + b"\0\0", 11),
        (b"F" + b"a" * 1_003 + b"\0Tann@mail.example.test\0\0", 11),
        (b"Fjoe@far.example\0T" + b"a" * 100_000, 11),
        (b"Fjoe@far.example\0Ta\nb@mail.example.test\0\0", 31),
        (b"Fjoe@far.example\0T\xff@mail.example.test\0\0", 31),
    ],
)
async def test_what_is_no_envelope_is_refused_with_qmails_exit_code(house: House, envelope: bytes, status: int) -> None:
    before = len(house.postbox.posted)
    assert await qmail_queue(house, envelope) == status
    assert len(house.postbox.posted) == before


async def test_an_envelope_ends_at_its_last_nul_though_the_pipe_stays_open(house: House) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import os, subprocess, sys\n"
        "(m, m2), (e, e2) = os.pipe(), os.pipe()\n"
        "child = subprocess.Popen([sys.argv[1]], stdin=m, stdout=e)\n"
        "os.close(m); os.write(m2, b'x\\n'); os.close(m2); os.write(e2, b'Fa@b.example\\0Tc@d.example\\0\\0')\n"
        "sys.exit(child.wait())",
        QMAIL_QUEUE,
        env={"PATH": os.environ["PATH"], "SEAPOST_SOCKET_DIR": str(house.submit)},
    )
    assert await asyncio.wait_for(program.wait(), TIMEOUT_S) == 0


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ("452 4.3.1 not enough disk space, please try again later", 53),
        ("451 4.3.2 the queue is closing, please try again", 71),
        ("554 5.6.0 the queue cannot take such an envelope", 31),
    ],
)
async def test_a_refusal_of_the_queue_is_an_exit_code(house: House, refusal: str, status: int) -> None:
    house.postbox.refusals.append(refusal)
    assert await qmail_queue(house) == status
    house.postbox.refusals.append(refusal)
    assert (await hand_in(house)).startswith(f"{status} ".encode())


async def test_a_message_larger_than_any_is_refused_and_the_reason_is_heard(house: House) -> None:
    assert await qmail_queue(house, body=bytes(MESSAGE_MAX_OCTETS + 1)) == 31
    assert await qmail_queue(house) == 0


async def test_without_a_queue_the_answer_is_temporary(own: House) -> None:
    assert own._server is not None
    await own._server.stop(0)
    assert await qmail_queue(own) == 74


async def test_without_local_the_answer_is_temporary(tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        QMAIL_QUEUE,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "SEAPOST_STATE": str(tmp_path / "none"), "SEAPOST_SOCKET_DIR": ""},
    )
    assert await asyncio.wait_for(program.wait(), TIMEOUT_S) == 73


# -- deaths -----------------------------------------------------------------------------------------------------------


async def test_a_client_that_dies_anywhere_has_queued_nothing_or_everything(house: House) -> None:
    """The whole conversation is cut after each number of octets."""
    whole = b"".join(struct.pack("!I", len(one)) + one for one in (BODY, b"", ENVELOPE, b""))
    for end in range(len(whole) + 1):
        before = len(house.postbox.posted)
        client = await connect(house)
        client.writer.write(whole[:end])
        client.writer.write_eof()
        answer = await client.ended()
        complete = end == len(whole)
        assert answer.startswith(b"K") == complete, end
        assert len(house.postbox.posted) - before == complete, end


async def test_who_hangs_up_before_the_answer_has_sent_a_message_all_the_same(house: House) -> None:
    house.postbox.came.clear()
    client = await connect(house)
    client.part(BODY)
    client.part(b"Fjoe@far.example\0Tgone@mail.example.test\0\0")
    await client.writer.drain()
    client.writer.transport.abort()
    await asyncio.wait_for(house.postbox.came.wait(), TIMEOUT_S)
    assert house.postbox.posted[-1].recipients == ["gone@mail.example.test"]


async def test_local_that_dies_while_the_queue_thinks_says_nothing_and_the_client_says_temporary(own: House) -> None:
    own.postbox.silent = True
    waiting = asyncio.create_task(qmail_queue(own))
    await asyncio.wait_for(own.postbox.came.wait(), TIMEOUT_S)
    assert own.process is not None
    own.process.kill()
    assert await waiting == 74


async def test_a_drain_finishes_what_is_under_way_and_sends_the_others_away(own: House) -> None:
    own.postbox.silent = True
    idle = await connect(own)
    waiting = asyncio.create_task(qmail_queue(own))
    await asyncio.wait_for(own.postbox.came.wait(), TIMEOUT_S)
    assert own.process is not None
    own.process.send_signal(signal.SIGTERM)
    assert await idle.ended() == b""
    own.postbox.answer()
    assert await waiting == 0
    assert await own.stop() == 0


async def test_the_next_local_takes_the_place_of_one_that_was_killed(own: House) -> None:
    (own.submit / "not-a-socket").touch()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(own.submit / "local-9"))  # and nobody listens
    assert own.process is not None
    own.process.kill()
    await own.stop()
    await own.start()
    assert sorted(os.listdir(own.submit)) == [".control", "local-0", "not-a-socket"]
    assert await qmail_queue(own) == 0


# -- who may do what --------------------------------------------------------------------------------------------------


async def test_everybody_may_connect_and_nobody_may_replace_the_socket(house: House) -> None:
    assert stat.S_IMODE(house.submit.stat().st_mode) == 0o755
    assert stat.S_IMODE((house.submit / "local-0").stat().st_mode) == 0o666
    assert house.submit.stat().st_uid == (house.submit / "local-0").stat().st_uid == ME


@as_root
async def test_a_directory_that_others_can_write_is_refused_or_closed_to_them() -> None:
    house = House()
    try:
        house.submit.chmod(0o777)
        await house.start()
        assert stat.S_IMODE(house.submit.stat().st_mode) == 0o755
        os.chown(house.submit, 23_456, 23_456)
        config = load(LocalConfig, {"QUEUE_ADDRS": "", "SUBMIT_DIR": str(house.submit)})
        with pytest.raises(ConfigError, match=r"SUBMIT_DIR=.*: it must belong to uid 0 and to nobody else"):
            Door().open(config)
    finally:
        await house.close()


async def test_a_state_directory_with_a_long_name_is_no_hindrance(tmp_path: Path) -> None:
    house = House()
    long = tmp_path / ("n" * 120)
    long.mkdir()
    try:
        await house.start(SUBMIT_DIR=str(long))
        assert await qmail_queue(house, SEAPOST_SOCKET_DIR=str(long)) == 0
    finally:
        await house.close()
