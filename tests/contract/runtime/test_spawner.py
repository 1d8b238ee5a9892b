"""The spawner with real forks and, as root, real users."""

import asyncio
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mail.accounts import Account, Shadow
from runtime.accounts import Places
from runtime.children import Children, SpawnError
from runtime.offspring import Work
from runtime.passwords import is_usable
from runtime.spawn import Status
from runtime.spawner import Spawner

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user")


def tell_about_yourself(line: socket.socket, account: Account) -> None:
    """A child that answers each octet with what it is; `k` makes it stop itself, `x` exit."""
    while order := line.recv(1):
        if order == b"s":
            os.kill(os.getpid(), signal.SIGSTOP)
        if order == b"x":
            os._exit(3)
        regained = True
        try:
            os.setresuid(0, 0, 0)
        except PermissionError:
            regained = False
        status = dict(row.split(":\t", 1) for row in Path("/proc/self/status").read_text().splitlines() if ":\t" in row)
        said = {
            "pid": os.getpid(),
            "name": account.name,
            "uids": os.getresuid(),
            "gids": os.getresgid(),
            "groups": os.getgroups(),
            "cwd": os.getcwd(),
            "regained": regained,
            "no_new_privs": status["NoNewPrivs"].strip(),
            "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
            "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:5],
            "umask": status["Umask"].strip(),
        }
        line.sendall(json.dumps(said).encode() + b"\n")


def password_is_right(entry: Shadow | None, password: bytes, reference: str) -> bool:
    return is_usable(reference) and entry is not None and entry.password_hash.encode() == password


@pytest.fixture
def places(tmp_path: Path) -> Places:
    accounts = tmp_path / "accounts"
    accounts.mkdir()
    homes = tmp_path / "closed" / "homes"
    homes.mkdir(parents=True)
    lines = []
    for name, uid in (("ann", 17801), ("bob", 17802), ("sys", 17), ("wheel", 0), ("thief", 17804), ("lost", 17805)):
        home = homes / name
        lines.append(f"{name}:x:{uid}:{uid}::{home}:/bin/sh")
        if name != "lost":
            home.mkdir(mode=0o700)
            if ROOT:
                os.chown(home, uid if name != "thief" else 17801, uid)
    (accounts / "passwd").write_text("\n".join(lines) + "\n")
    (accounts / "group").write_text("friends:x:17900:ann,bob\n")
    (accounts / "shadow").write_text("ann:sesame:1:0:99999:7:::\nlost:key:1:0:99999:7:::\n")
    (tmp_path / "closed").chmod(0o700)  # the users cannot pass; the spawner can
    return Places.here(str(accounts), str(homes))


@pytest.fixture
def spawner(places: Places) -> Iterator[Spawner]:
    found = fork(places)
    yield found
    found.socket.close()
    assert os.waitstatus_to_exitcode(os.waitpid(found.pid, 0)[1]) == 0


def fork(places: Places, children_max: int = 64) -> Spawner:
    """In a process that has gRPC already: harmless here, for nothing of it is running. What tests before this one left
    of it is taken away first: the spawner would, and would wait for threads that a fork does not have."""
    gc.collect()
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name == "grpc"}
    try:
        return Spawner.fork(places, Work(tell_about_yourself, children_max, password_is_right))
    finally:
        sys.modules.update(kept)


@pytest.fixture
async def children(spawner: Spawner) -> AsyncIterator[Children]:
    found = Children(spawner, lambda: None)
    yield found
    found.close()


async def ask(line: socket.socket) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(line, b"?")
    said = b""
    while not said.endswith(b"\n"):
        said += await loop.sock_recv(line, 4096)
    return dict(json.loads(said))


def wait_for_end(pid: int, seconds: float) -> bool:
    """Whether the process has ended within the time; it is not a child of ours."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            return bool(select.select([pidfd], [], [], seconds)[0])
        finally:
            os.close(pidfd)
    return True


@as_root
async def test_a_child_is_its_user_for_good(children: Children) -> None:
    with await children.child("ann") as line:
        said = await ask(line)
    assert said["name"] == "ann"
    assert said["uids"] == [17801] * 3
    assert said["gids"] == [17801] * 3
    assert said["groups"] == [17801, 17900]
    assert said["regained"] is False
    assert said["no_new_privs"] == "1"
    assert said["capabilities"] == ["0" * 16] * 4
    assert said["umask"] == "0077"


async def test_a_child_stands_in_its_home_below_a_closed_directory(children: Children, places: Places) -> None:
    with await children.child("ann") as line:
        said = await ask(line)
    assert said["cwd"] == os.path.realpath(os.path.join(places.homes_dir, "ann"))


async def test_a_child_has_no_descriptor_of_others(children: Children) -> None:
    with await children.child("ann") as first, await children.child("bob") as second:
        assert (await ask(first))["descriptors"] == [0, 1, 2, 3, 4]  # 4 reads the list
        assert (await ask(second))["descriptors"] == [0, 1, 2, 3, 4]


@as_root
async def test_the_spawner_keeps_two_capabilities(spawner: Spawner, children: Children) -> None:
    with await children.child("ann"):
        rows = Path(f"/proc/{spawner.pid}/status").read_text()
    assert "CapPrm:\t00000000000000c0" in rows
    assert "CapEff:\t00000000000000c0" in rows
    assert "NoNewPrivs:\t1" in rows


@pytest.mark.parametrize("name", ["nobody-here", "wheel", "x" * 65, "../ann", ""])
async def test_who_has_no_mail_gets_no_child(children: Children, name: str) -> None:
    with pytest.raises(SpawnError) as refused:
        await children.child(name)
    assert refused.value.status is Status.NO_ACCOUNT


@as_root
async def test_a_system_account_gets_no_child(children: Children) -> None:
    with pytest.raises(SpawnError) as refused:
        await children.child("sys")
    assert refused.value.status is Status.NO_ACCOUNT


@as_root
async def test_an_account_that_does_not_own_its_home_gets_no_child(children: Children) -> None:
    with pytest.raises(SpawnError) as refused:
        await children.child("thief")
    assert refused.value.status is Status.NOT_OWNER


async def test_a_missing_home_is_told_from_a_missing_account(children: Children) -> None:
    with pytest.raises(SpawnError) as refused:
        await children.child("lost")
    assert refused.value.status is Status.NO_HOME
    assert refused.value.errno == 2


async def test_unreadable_accounts_are_not_missing_accounts(children: Children, places: Places) -> None:
    os.unlink(os.path.join(places.accounts_dir, "passwd"))
    with pytest.raises(SpawnError) as refused:
        await children.child("ann")
    assert refused.value.status is Status.UNREADABLE


async def test_a_child_comes_only_with_the_right_password(children: Children) -> None:
    with await children.child_if_password("ann", b"sesame") as line:
        assert (await ask(line))["name"] == "ann"
    for name, password in (("ann", b"wrong"), ("bob", b""), ("nobody-here", b"sesame"), ("wheel", b"sesame")):
        with pytest.raises(SpawnError) as refused:
            await children.child_if_password(name, password)
        assert refused.value.status is Status.DENIED


async def test_many_passwords_at_once_are_all_answered(children: Children) -> None:
    async def check(number: int) -> bool:
        try:
            (await children.child_if_password("ann", b"sesame" if number % 2 else b"wrong")).close()
        except SpawnError:
            return False
        return True

    assert await asyncio.gather(*(check(number) for number in range(40))) == [False, True] * 20


async def test_a_child_ends_when_the_front_hangs_up(children: Children) -> None:
    with await children.child("ann") as line:
        pid = (await ask(line))["pid"]
    assert isinstance(pid, int)
    assert await asyncio.to_thread(wait_for_end, pid, 5)


async def test_a_dead_child_is_end_of_file_for_the_front(children: Children) -> None:
    with await children.child("ann") as line:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(line, b"x")
        assert await asyncio.wait_for(loop.sock_recv(line, 1), 5) == b""


async def test_a_stopped_child_is_killed_after_the_front_hangs_up(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.spawner.GRACE_S", 0.1)
    children = Children(fork(places), lambda: None)
    line = await children.child("ann")
    pid = (await ask(line))["pid"]
    assert isinstance(pid, int)
    await asyncio.get_running_loop().sock_sendall(line, b"s")
    line.close()
    assert await asyncio.to_thread(wait_for_end, pid, 5)
    children.close()


async def test_children_and_spawner_end_when_the_front_is_gone(places: Places) -> None:
    """The front here is a process of its own, killed without a chance to say anything."""
    reading, writing = os.pipe()
    front = os.fork()
    if front == 0:
        with contextlib.suppress(BaseException):
            asyncio.run(_be_a_front(places, writing))
        os._exit(0)
    os.close(writing)
    spawner, child = json.loads(await asyncio.to_thread(os.read, reading, 4096))
    os.close(reading)
    os.kill(front, signal.SIGKILL)
    os.waitpid(front, 0)
    assert await asyncio.to_thread(wait_for_end, spawner, 5)
    assert await asyncio.to_thread(wait_for_end, child, 5)


async def _be_a_front(places: Places, writing: int) -> None:
    spawner = fork(places)
    children = Children(spawner, lambda: None)
    line = await children.child("ann")
    os.write(writing, json.dumps([spawner.pid, (await ask(line))["pid"]]).encode())
    await asyncio.sleep(60)


async def test_the_front_learns_that_the_spawner_is_dead(places: Places) -> None:
    spawner = fork(places)
    lost = asyncio.Event()
    children = Children(spawner, lost.set)
    with await children.child("ann"):
        os.kill(spawner.pid, signal.SIGKILL)
        await asyncio.wait_for(lost.wait(), 5)
    with pytest.raises(SpawnError) as refused:
        await children.child("ann")
    assert refused.value.status is Status.BUSY
    children.close()
    os.waitpid(spawner.pid, 0)


async def test_a_request_beyond_the_limit_waits_until_a_child_has_ended(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.spawner.CROWD_MAX", 1)
    children = Children(fork(places, children_max=2), lambda: None)
    first, second = await children.child("ann"), await children.child("ann")
    waiting = asyncio.create_task(children.child("bob"))
    await asyncio.sleep(0)  # it has asked
    with pytest.raises(SpawnError) as refused:  # of two that wait, the one that has waited longest is refused
        await asyncio.gather(waiting, children.child("bob"))
    assert refused.value.status is Status.BUSY
    last = asyncio.create_task(children.child("bob"))
    first.close()
    with await last as line:
        assert (await ask(line))["name"] == "bob"
    second.close()
    children.close()
