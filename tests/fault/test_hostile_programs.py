"""Programs in .qmail that are up to something: they reach nothing, they end, and nobody else's mail waits for them.

As root only, with uids of their own. What a program may use is bounded, so none of this harms the machine.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from proto import work_pb2
from tests.harness import inspection, local_house
from tests.harness.inspection import OURS, QMAILS, Process
from tests.harness.local_house import HOST
from tests.harness.stack import MAIL_NAME, Stack, patience, running
from tests.harness.walk import House, mail
from tests.integration.conftest import house_of

HARNESS = Path(__file__).resolve().parents[1] / "harness"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root to see the change of user")
THIEF, VICTIM = "demo", "victim"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("hostile") / "state", accounts=(THIEF, VICTIM))
    with running(made) as found:
        yield found


@pytest.fixture
def house(stack: Stack) -> House:
    return house_of(stack)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return give(path, path.parent)


def give(path: Path, home: Path, mode: int = 0o600) -> Path:
    os.chown(path, home.stat().st_uid, home.stat().st_gid)
    path.chmod(mode)
    return path


def ports(stack: Stack) -> list[str]:
    """Every port of the loopback at which a process of the stack listens."""
    assert stack.process
    found = set()
    for pid in inspection.below(stack.process.pid):
        for one in Process.look(pid).inet:
            here, there = one.split()
            if there.endswith(":0000"):
                found.add(str(int(here.rpartition(":")[2], 16)))
    return sorted(found)


def burgle(stack: Stack, script: Path) -> str:
    """The command that tries everything against this stack."""
    assert stack.process
    setuid = stack.directory / "setuid"
    if not setuid.exists():
        shutil.copy("/usr/bin/id", setuid)
        setuid.chmod(0o4755)
        (setuid.parent / "setuid-said").write_text("")
    pids = ",".join(map(str, inspection.below(stack.process.pid)))
    return f"python3 -I {script} {stack.directory} {setuid} {pids} {','.join(ports(stack))} > got 2>&1"


# What everybody may know: who has an account, what the server is called, its processes, the public halves of its keys.
PUBLIC = re.compile(
    r"(setuid(-said)?|alias/\.qmail-[\w-]+|control/[\w.]+|run/(submit/\.control/)?[\w.-]+|users/[\w.]+|accounts/(passwd|group)"
    r"|tls/ca\.pem|tls/\w+/certificate\.pem)"
)


def test_a_program_reaches_nothing_that_is_not_its_users(stack: Stack, house: House) -> None:
    home = stack.home(THIEF)
    house.send(mail("secret"), f"{VICTIM}@{MAIL_NAME}")
    house.wait_idle()
    script = give(Path(shutil.copy(HARNESS / "burglar.py", home)), home)
    write(home / ".qmail", f"|{burgle(stack, script)}\n")
    house.send(mail("x"))
    house.wait_idle()
    *got, last = (home / "got").read_text().splitlines()
    assert last == "that was all"
    read = [line.removeprefix(f"read {stack.directory}/") for line in got if line.startswith("read ")]
    assert [name for name in read if not PUBLIC.fullmatch(name)] == []
    others = [line for line in got if not line.startswith("read ")]
    assert others == [f"write {stack.directory}/run/submit/local-0"]  # where it hands mail in


def test_root_would_reach_everything(stack: Stack, tmp_path: Path) -> None:
    """The burglar is no fool: where nothing stops it, it gets all that it tries."""
    subprocess.run(["sh", "-c", burgle(stack, HARNESS / "burglar.py")], cwd=tmp_path, check=True)
    got = {line.split()[0] for line in (tmp_path / "got").read_text().splitlines()}
    assert got >= {"read", "write", "proc", "ptrace", "root", "may", "limit", "that"}


# -- bombs ----------------------------------------------------------------------------------------------------------

SOFTLIMIT = "-a 400000000 -p 40 -o 48\n-f 8000000 -t 20\n"
ENDLESS = {
    "a fork bomb": "f() { f | f & }; f; sleep 1000",
    "a brood that leaves its session": "for i in 1 2 3 4 5 6; do setsid sleep 1000 & done; sleep 1000",
    "a grandchild that nobody waits for": "(setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & ) & sleep 1000",
    "without end to its output": "yes",
    "without end to its errors": "yes >&2",
    "busy": "while :; do :; done",
    "deaf": "trap '' TERM INT HUP; while :; do sleep 1000; done",
    "stopped": "kill -STOP $$",
    "closed": "exec < /dev/null > /dev/null 2>&1; sleep 1000",
}
GREEDY = {
    "memory": ("python3 -c 'bytearray(1 << 33)'", "MemoryError"),
    "the disk": ("head -c 100000000 /dev/zero > big; wc -c < big; rm big; exit 1", "\n8000000\n"),
    "descriptors": ("python3 -c '[open(\"/dev/null\") for _ in range(1000)]'", "Too many open files"),
    "a report": ("head -c 1000000 /dev/zero | tr '\\0' x; exit 1", "\nError report too long, sorry.\n"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small() -> AsyncIterator[local_house.House]:
    """A local service whose programs may use little."""
    made = local_house.House()
    for name, text in (("softlimit", SOFTLIMIT), ("timeoutprogram", "2\n")):
        (made.state / "control" / name).write_text(text)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_programs_without_an_end_are_ended_and_nobody_waits(small: local_house.House) -> None:
    """All at once, each of a user of its own; twenty messages for somebody else come in before the first is ended."""
    homes = {name: small.account() for name in ENDLESS}
    for name, home in homes.items():
        small.write(home / ".qmail", f"|{ENDLESS[name]}\n")
    bob = small.account()
    bombs = {name: small.queue.delivery(f"{home.name}@{HOST}") for name, home in homes.items()}
    small.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=bombs.values()))
    outcomes = await small.queue.deliver(*(small.queue.delivery(f"{bob.name}@{HOST}") for _ in range(20)))
    assert [outcome.report for outcome in outcomes] == ["did 1+0+0\n"] * 20
    assert not [name for name, bomb in bombs.items() if (bomb.key, 0) in small.queue.outcomes]
    ended = dict(zip(bombs, await small.queue.outcome_of(*bombs.values()), strict=True))
    assert {outcome.kind for outcome in ended.values()} == {work_pb2.Outcome.DEFERRED}
    assert {len(outcome.report) for outcome in ended.values()} <= set(range(1, 3_001))
    assert await still_there(homes.values()) == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", GREEDY)
async def test_programs_that_want_more_than_their_share_do_not_get_it(small: local_house.House, name: str) -> None:
    ann = small.account()
    command, said = GREEDY[name]
    small.write(ann / ".qmail", f"|{command}\n")
    outcome = await small.queue.to(f"{ann.name}@{HOST}")
    assert outcome.kind == work_pb2.Outcome.DEFERRED
    assert said in f"\n{outcome.report}"
    assert len(outcome.report) <= 3_000
    assert await still_there([ann]) == []


async def still_there(homes: Iterable[Path]) -> list[str]:
    """The programs of these users that are alive, waited for a while."""
    uids = {home.stat().st_uid for home in homes}
    alive: list[str] = []
    for _ in patience(10.0):
        alive = [line for line in await asyncio.to_thread(_processes_of, uids) if "services.local" not in line]
        if not alive:
            break
    return alive


def _processes_of(uids: set[int]) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid in uids or int((path / "status").read_text().split("Uid:")[1].split()[0]) in uids:
                found.append(f"{path.name} {(path / 'cmdline').read_bytes()!r}")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


# -- what strangers write ---------------------------------------------------------------------------------------------

SENDERS = (
    "$(touch canary)@far.example",
    "`touch canary`@far.example",
    "() { :;}; touch canary",
    "(){ :;};touch canary;@far.example",
    ";touch canary;@far.example",
    "|touch canary",
    "&touch canary&@far.example",
    "a\ntouch canary\n@far.example",
    "a\nLD_PRELOAD=/tmp/x@far.example",
    "'\"$(touch canary)\"'@far.example",
    "-froot@far.example",
    "a\rb\x1b[31m\x7f\x85@far.example",
    "*@far.example",
    "x" * 5_000 + "@far.example",
)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("sender", SENDERS)
async def test_what_a_stranger_writes_is_a_value_and_nothing_else(small: local_house.House, sender: str) -> None:
    ann = small.account()
    small.write(ann / ".qmail-default", "|bash -c true; sh -c true; env -0 > told\n")
    before = {"PATH", "HOME", "USER", *QMAILS}
    outcome = await small.queue.to(f"{ann.name}-{sender.partition('@')[0]}@{HOST}", sender=sender)
    if outcome.kind == work_pb2.Outcome.DELIVERED:
        told = dict(word.split(b"=", 1) for word in (ann / "told").read_bytes().split(b"\0") if word)
        assert {name.decode() for name in told} <= before | OURS | {"PWD", "OLDPWD", "SHLVL", "_", "DEFAULT"}
        lines = {name: value.removesuffix(b"\n") for name, value in told.items()}
        assert not [name for name, value in lines.items() if re.search(rb"[\x00-\x1f\x7f]", value)]
        assert not [name for name, value in lines.items() if value[:1] in (b"(", b"{", b"`", b"$")]
        assert max(map(len, lines.values())) <= 4_096 + len("_")
    assert sorted(path.name for path in ann.iterdir() if path.name not in ("told", ".qmail-default")) == []
