"""Who may do what, asked of the running processes of local and pop3: no more than each needs.

As root only: then the front, the spawner, the users' children and their programs are different people.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proto import work_pb2
from tests.harness import inspection, pop3_house
from tests.harness.inspection import CAPABILITY_SETS, OURS, QMAILS, Process
from tests.harness.local_house import FRONT_UID, HOST, ROOT, House, open_house

pytestmark = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user")

KNOWN = ("socket:", "pipe:", "anon_inode:[pidfd]", "anon_inode:[eventpoll]")
SETGID_SETUID = 1 << 6 | 1 << 7


def is_nobody_special(process: Process) -> None:
    """No capability, none to be had, and not root in any way."""
    assert {name: process.may[name] for name in CAPABILITY_SETS if name != "CapBnd"} == dict.fromkeys(
        (name for name in CAPABILITY_SETS if name != "CapBnd"), 0
    )
    assert process.may["CapBnd"] & ~SETGID_SETUID == 0
    assert process.gains_nothing
    assert 0 not in process.uids | process.gids | process.groups


def is_a_spawner(process: Process, state: Path) -> None:
    """Root with two capabilities, no network, no file open, and nothing to be gained."""
    assert process.uids == {0}
    wanted = dict.fromkeys(CAPABILITY_SETS, SETGID_SETUID) | {"CapInh": 0, "CapAmb": 0}
    assert process.may == wanted
    assert process.gains_nothing
    assert process.inet == ()
    assert below(process.files, state) == [str(state / "log")]  # standard error
    assert all(where.startswith(KNOWN) for where in beyond_the_first_three(process))
    assert process.status["Threads"] == "1"


def is_a_child(process: Process, home: Path) -> None:
    """The user, in the home, with the line to the front and nothing else open."""
    uid = home.stat().st_uid
    is_nobody_special(process)
    assert (process.uids, process.gids, process.groups) == ({uid}, {uid}, {uid})
    assert process.may["CapBnd"] in (0, SETGID_SETUID)
    assert process.cwd == str(home)
    assert process.inet == ()
    assert all(where.startswith("socket:") for where in beyond_the_first_three(process))
    assert len(beyond_the_first_three(process)) == 1


def beyond_the_first_three(process: Process) -> list[str]:
    return [where for number, where in process.descriptors.items() if number > 2]


def below(files: list[str], folder: Path) -> list[str]:
    return [one for one in files if one.startswith(f"{folder}/")]


@asynccontextmanager
async def held(house: House, home: Path) -> AsyncIterator[Process]:
    """A program of the user that runs while the test looks at it; it ends afterwards."""
    gate = home / "gate"
    os.mkfifo(gate, 0o600)
    os.chown(gate, home.stat().st_uid, home.stat().st_gid)
    house.write(home / ".qmail", "|echo $$ > pid; exec cat gate\n")
    delivery = house.queue.delivery(f"{home.name}@{HOST}")
    house.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=[delivery]))
    with await asyncio.to_thread(gate.open, "w"):  # opens when cat has opened it too
        yield Process.look(int((home / "pid").read_text()))
    (outcome,) = await house.queue.outcome_of(delivery)
    assert outcome.report == "did 0+0+1\n"


async def test_local_is_four_kinds_of_people() -> None:
    async with open_house() as house:
        ann, bob = house.account(), house.account()
        assert house.process
        await house.queue.to(f"{ann.name}@{HOST}")
        async with held(house, bob) as program:
            front = Process.look(house.process.pid)
            everybody = [Process.look(pid) for pid in inspection.below(front.pid)]
        is_nobody_special(front)
        assert (front.uids, front.gids, front.groups) == ({FRONT_UID}, {FRONT_UID}, {FRONT_UID})
        assert front.may["CapBnd"] == 0
        assert below(front.files, house.state) == [str(house.log)]
        (spawner,) = (one for one in everybody if one.uids == {0})
        is_a_spawner(spawner, house.state)
        (anns,) = (one for one in everybody if one.uids == {ann.stat().st_uid})
        is_a_child(anns, ann)
        is_nobody_special(program)
        assert program.pid in {one.pid for one in everybody}
        assert {uid for one in everybody for uid in one.uids} == {0, ann.stat().st_uid, bob.stat().st_uid}
        is_a_program(program, bob)


def is_a_program(process: Process, home: Path) -> None:
    """The user, in the home, with the message and two pipes, and an environment of known names."""
    uid = home.stat().st_uid
    is_nobody_special(process)
    assert (process.uids, process.gids, process.groups) == ({uid}, {uid}, {uid})
    assert process.cwd == str(home)
    assert QMAILS <= process.environment <= QMAILS | OURS | {"PWD", "OLDPWD", "SHLVL", "_", "DEFAULT"}
    assert process.descriptors[0].startswith("/memfd:")
    assert process.descriptors[1] == process.descriptors[2]
    assert process.descriptors[1].startswith("pipe:")
    assert process.descriptors[3] == str(home / "gate")  # its own
    assert len(process.descriptors) == 4
    assert process.status["Umask"] == "0077"


def test_pop3_is_three_kinds_of_people() -> None:
    house = pop3_house.House()
    try:
        house.start()
        ann = house.account()
        ann.put("1700000001.a.host", b"Subject: one\n\nfirst\n")
        client = house.login(ann)
        front = Process.look(house.pid)
        everybody = [Process.look(pid) for pid in inspection.below(front.pid)]
        client.quit()
        is_nobody_special(front)
        assert (front.uids, front.gids, front.groups) == ({pop3_house.FRONT_UID},) * 3
        assert front.may["CapBnd"] == 0
        assert below(front.files, house.state) == [str(house.log)]
        (spawner,) = (one for one in everybody if one.uids == {0})
        is_a_spawner(spawner, house.state)
        (session,) = (one for one in everybody if one.uids == {ann.uid})
        is_nobody_special(session)
        assert session.cwd == str(ann.home)
        assert session.inet == ()
        assert len(everybody) == 2
    finally:
        house.close()
