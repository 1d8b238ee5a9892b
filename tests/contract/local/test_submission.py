"""The submission socket as programs meet it: local in a process of its own, the queue played by the test."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from mail.limits import MESSAGE_MAX_OCTETS
from runtime.config import ConfigError, load
from services.local.config import LocalConfig
from services.local.door import Door
from tests.harness.local_house import ALIAS_UID, CHECKOUT, ROOT, TIMEOUT_S, House, open_house

pytestmark = pytest.mark.asyncio(loop_scope="module")
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to be several users")
ENVELOPE = b"Fjoe@far.example\0Tann@mail.example.test\0\0"
BODY = b"Subject: x\n\nhello\n"
QMAIL_QUEUE = str(CHECKOUT / "bin" / "qmail-queue")
BECOME = "import os, sys; os.setresuid(*[int(sys.argv[1])] * 3); os.execv(sys.argv[2], sys.argv[2:])"
ME = os.geteuid()
_open: list[asyncio.StreamWriter] = []


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def hang_up() -> AsyncIterator[None]:
    """Every connection of a test ends with it."""
    yield
    while _open:
        _open[-1].close()
        with contextlib.suppress(ConnectionError):
            await _open.pop().wait_closed()


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


@dataclass
class Client:
    """A connection to the socket, and what the wire's words are."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def piece(self, octets: bytes) -> None:
        self.writer.write(struct.pack("!I", len(octets)) + octets)

    def part(self, octets: bytes) -> None:
        for start in range(0, len(octets), 65_536):
            self.piece(octets[start : start + 65_536])
        self.piece(b"")

    async def said(self) -> bytes:
        return await asyncio.wait_for(self.reader.readline(), TIMEOUT_S)

    async def ended(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), TIMEOUT_S)


async def connect(house: House, greeting: bytes = b"+\n") -> Client:
    reader, writer = await asyncio.open_unix_connection(house.submit / "local-0")
    _open.append(writer)
    client = Client(reader, writer)
    assert await client.said() == greeting
    return client


async def hand_in(house: House, envelope: bytes = ENVELOPE, body: bytes = BODY) -> bytes:
    """What is answered to one submission."""
    client = await connect(house)
    client.part(body)
    client.part(envelope)
    return await client.said()


async def qmail_queue(
    house: House, envelope: bytes = ENVELOPE, body: bytes = BODY, uid: int | None = None, **environment: str
) -> int:
    """The exit status of bin/qmail-queue, from a parent that fills first one pipe to its end and then the other."""
    told = {"PATH": os.environ["PATH"], "SEAPOST_SOCKET_DIR": str(house.submit), **environment}
    return await asyncio.to_thread(_inject, told, envelope, body, uid)


def _inject(environment: dict[str, str], envelope: bytes, body: bytes, uid: int | None) -> int:
    message_end, message_in = os.pipe()
    envelope_end, envelope_in = os.pipe()
    # Not by Popen's `user`: a fork that is no vfork runs gRPC's handlers in the child.
    words = [QMAIL_QUEUE] if uid is None else [sys.executable, "-IS", "-c", BECOME, str(uid), QMAIL_QUEUE]
    with subprocess.Popen(
        words, stdin=message_end, stdout=envelope_end, stderr=subprocess.PIPE, env=environment
    ) as program:
        for fd in (message_end, envelope_end):
            os.close(fd)
        for fd, octets in ((message_in, body), (envelope_in, envelope)):
            with open(fd, "wb", buffering=0) as pipe, contextlib.suppress(BrokenPipeError):
                pipe.write(octets)
        _, said = program.communicate(timeout=TIMEOUT_S)
    assert said == b"", "qmail-queue prints nothing"
    return program.returncode


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
    assert sorted(os.listdir(own.submit)) == ["local-0", "not-a-socket"]
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


# -- hostile clients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\0\0\0\x05hello\0\0\0\x05hello",
        struct.pack("!I", 1 << 21),
        b"\0\0\0\0" * 3,
    ],
)
async def test_garbage_queues_nothing(house: House, garbage: bytes) -> None:
    before = len(house.postbox.posted)
    client = await connect(house)
    client.writer.write(garbage)
    client.writer.write_eof()
    assert not (await client.ended()).startswith(b"K")
    assert len(house.postbox.posted) == before


async def test_who_takes_all_places_keeps_only_himself_waiting(house: House) -> None:
    hoard = [await connect(house) for _ in range(128)]
    await connect(house, b"71 too many at once, try again\n")
    if ROOT:
        assert await qmail_queue(house, uid=23_456) == 0, "another user has places of his own"
    waiting = asyncio.create_task(qmail_queue(house))
    hoard[0].writer.close()
    assert await waiting == 0, "he comes back until there is one"


@as_root
async def test_when_all_places_are_taken_who_has_most_makes_room(house: House) -> None:
    program = (
        "import os, socket, sys, time\n"
        "os.setuid(int(sys.argv[2])); held = []\n"
        "for _ in range(128):\n"
        "    one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1]); held.append(one)\n"
        "    assert one.recv(2) == b'+\\n'\n"
        "print('full', flush=True); sys.stdin.read()\n"
    )
    crowd = []
    for uid in range(23_000, 23_004):
        words = (sys.executable, "-c", program, str(house.submit / "local-0"), str(uid))
        pipe = asyncio.subprocess.PIPE
        crowd.append(await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe))
    for one in crowd:
        assert one.stdout is not None
        assert await asyncio.wait_for(one.stdout.readline(), TIMEOUT_S) == b"full\n"
    assert await qmail_queue(house, uid=23_456) == 0
    for one in crowd:
        assert one.stdin is not None
        one.stdin.close()
        await one.wait()


async def test_a_flood_of_connections_does_not_stop_deliveries(house: House) -> None:
    """Ten thousand that come and go, while mail is delivered and handed in."""
    ann = house.account()

    def flood() -> int:
        refused = 0
        for _ in range(10_000):
            with socket.socket(socket.AF_UNIX) as one:
                one.setblocking(False)
                refused += one.connect_ex(str(house.submit / "local-0")) == errno.EAGAIN
        return refused

    flooding = asyncio.create_task(asyncio.to_thread(flood))
    for _ in range(5):
        await house.queue.to(f"{ann.name}@mail.example.test")
        assert await qmail_queue(house) == 0
    await flooding
    assert await qmail_queue(house) == 0
