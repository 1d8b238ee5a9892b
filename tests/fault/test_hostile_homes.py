"""Homes whose owners are up to something: nothing outside is made, changed or read, and nobody else's mail waits.

As root only, with uids of their own: otherwise everybody is the same person and nothing can be stolen.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from proto import work_pb2
from tests.harness.local_house import CHECKOUT, HOST, ROOT, House, messages, open_house

DEFERRED, DELIVERED, FAILED = work_pb2.Outcome.DEFERRED, work_pb2.Outcome.DELIVERED, work_pb2.Outcome.FAILED
ALL = os.environ.get("FAULT_ALL") == "1"
ROUNDS, BATCH = (60, 100) if ALL else (12, 64)
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root to see the change of user"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as found:
        yield found


@pytest.fixture
def ann(house: House) -> Path:
    return house.account()


@pytest.fixture
def bob(house: House) -> Path:
    """Somebody else, whose mail must come in all the while."""
    return house.account()


@pytest.fixture
def treasure(house: House) -> Iterator[Path]:
    """A Maildir of root's that nobody else may touch."""
    path = house.state / "treasure"
    for part in ("tmp", "new", "cur"):
        (path / part).mkdir(parents=True)
    (path / "new" / "1.a.b").write_text("secret\n")
    (path / "new" / "1.a.b").chmod(0o600)
    yield path
    shutil.rmtree(path)


def picture(*folders: Path) -> list[tuple[str, int, int, int, bytes]]:
    """Everything there, with owner, mode, time and content."""
    found = []
    for folder in folders:
        for path in (folder, *sorted(folder.rglob("*"))):
            at = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(at.st_mode) else b""
            found.append((str(path), at.st_uid, at.st_mode, at.st_mtime_ns, content))
    return found


def make_maildir(home: Path, name: str = "Maildir") -> Path:
    for part in ("", "tmp", "new", "cur"):
        path = home / name / part
        path.mkdir(mode=0o700)
        give(path, home)
    return home / name


def give(path: Path, home: Path) -> Path:
    os.chown(path, home.stat().st_uid, home.stat().st_gid, follow_symlinks=False)
    return path


@contextmanager
def swapping(home: Path, name: str, *targets: Path) -> Iterator[None]:
    """The user swaps a name in the home for links, all the while."""
    uid = str(home.stat().st_uid)
    become = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"]
    words = [*become, sys.executable, "-m", "tests.harness.swapper", str(home / name), *map(str, targets)]
    with subprocess.Popen(words, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield
        finally:
            said, _ = process.communicate()
        assert process.returncode == 0
        assert int(said) > 10, "next to nothing was swapped"


SWAPPED = ("Maildir", "Maildir/new", "Maildir/tmp", "Maildir/cur", ".qmail")


@pytest.mark.parametrize("name", SWAPPED)
async def test_links_that_come_and_go_lead_nowhere(
    house: House, ann: Path, bob: Path, treasure: Path, name: str
) -> None:
    """A thousand deliveries (six thousand with FAULT_ALL=1) while the name is a link half of the time."""
    make_maildir(ann)
    make_maildir(bob)
    house.write(ann / ".qmail", "./Maildir/\n")
    target = treasure / Path(name).name if "/" in name else treasure / "new" / "1.a.b" if name == ".qmail" else treasure
    others = [target, bob / name if name != ".qmail" else bob / "Maildir" / "new"]
    before = picture(treasure, bob)
    reports = set()
    with swapping(ann, name, *others):
        for _ in range(ROUNDS):
            outcomes = await house.queue.deliver(*(house.queue.delivery(f"{ann.name}@{HOST}") for _ in range(BATCH)))
            reports |= {(outcome.kind, outcome.report) for outcome in outcomes}
    assert picture(treasure, bob) == before
    assert not any("secret" in report for _, report in reports)
    owners = {path.lstat().st_uid for path in ann.rglob("*")}
    assert owners == {ann.stat().st_uid}
    assert (DELIVERED, "did 1+0+0\n") in reports


async def test_a_home_below_a_folder_of_the_user_may_be_swapped_in_vain(
    house: House, ann: Path, bob: Path, treasure: Path
) -> None:
    home = give_home(house, ann)
    make_maildir(home)
    before = picture(treasure, bob)
    reports = set()
    with swapping(ann, "home", bob, treasure, Path("/root"), Path("/")):
        for _ in range(ROUNDS):
            # Without a child that is warm each round enters the home again.
            touch_accounts(house)
            outcomes = await house.queue.deliver(*(house.queue.delivery(f"swap@{HOST}") for _ in range(4)))
            reports |= {(outcome.kind, outcome.report) for outcome in outcomes}
    assert picture(treasure, bob) == before
    assert {kind for kind, _ in reports} <= {DELIVERED, DEFERRED, FAILED}
    assert {path.lstat().st_uid for path in ann.rglob("*")} == {ann.stat().st_uid}


def touch_accounts(house: House) -> None:
    """Gives the account another home of another spelling, so that its child is a new one."""
    passwd = house.state / "accounts" / "passwd"
    lines = passwd.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if line.startswith("swap:"))
    name, _, home = lines[number].partition("::")
    lines[number] = f"{name}::{home.replace('/home:', '/./home:')}"
    passwd.with_suffix(".new").write_text("\n".join(lines) + "\n")
    passwd.with_suffix(".new").replace(passwd)


def give_home(house: House, ann: Path) -> Path:
    """An account whose home is a folder in another's home, so that its owner can swap it."""
    uid = ann.stat().st_uid
    home = ann / "home"
    home.mkdir(mode=0o700)
    give(home, ann)
    with (house.state / "accounts" / "passwd").open("a") as passwd:
        passwd.write(f"swap:x:{uid}:{uid}::{home}:/bin/false\n")
    return home


async def both(house: House, ann: Path, bob: Path) -> work_pb2.Outcome:
    """What becomes of ann's mail; bob's goes out with it and must come in."""
    deliveries = [house.queue.delivery(f"{home.name}@{HOST}") for home in (ann, bob)]
    anns, bobs = await house.queue.deliver(*deliveries)
    assert bobs.kind == DELIVERED
    assert len(messages(bob / "Maildir")) == 1
    return anns


CONTENTS = {
    "a NUL": b"./Maildir/\n\0\n",
    "a hundred thousand lines": b"./Maildir/\n" * 100_000,
    "a hundred thousand comments": b"#\n" * 100_000,
    "writable by all": b"./Maildir/\n",
    "a gibibyte": b"#\n",
}


def dot(home: Path, kind: str, house: House) -> None:
    """A .qmail that is not what it should be."""
    path = home / ".qmail"
    match kind:
        case "fifo":
            os.mkfifo(path, 0o600)
        case "device":
            os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        case "folder":
            path.mkdir(0o700)
        case "link to what only root may read":
            return path.symlink_to(secret(house))
        case "hard link to what only root may read":
            return os.link(secret(house), path)
        case "hard link to what anybody may read":
            open_to_all = house.state / "public"
            open_to_all.write_text("./Maildir/\n|echo stolen\n")
            os.chown(open_to_all, 1, 1)
            return os.link(open_to_all, path)
        case _:
            path.write_bytes(CONTENTS[kind])
            if kind == "a gibibyte":
                os.truncate(path, 1 << 30)
    give(path, home).chmod(0o602 if kind == "writable by all" else 0o600)


def secret(house: House) -> Path:
    path = house.state / "secret"
    path.write_text("&thief@far.example\n")
    path.chmod(0o600)
    return path


DOTS = {
    "fifo": (DELIVERED, "did 1+0+0\n"),  # as for qmail, what is no file is no .qmail
    "device": (DELIVERED, "did 1+0+0\n"),
    "folder": (DELIVERED, "did 1+0+0\n"),
    "link to what only root may read": (DEFERRED, "Unable to open .qmail: access denied. (#4.3.0)\n"),
    "hard link to what only root may read": (DEFERRED, "Unable to open .qmail: access denied. (#4.3.0)\n"),
    "hard link to what anybody may read": (DEFERRED, "Uh-oh: .qmail file belongs to another user. (#4.7.0)\n"),
    "a gibibyte": (DEFERRED, "Uh-oh: .qmail file is too long. (#4.2.1)\n"),
    "a NUL": (DEFERRED, "Uh-oh: .qmail file has a NUL octet in it. (#4.2.1)\n"),
    "a hundred thousand lines": (DEFERRED, "Uh-oh: .qmail file is too long. (#4.2.1)\n"),
    "a hundred thousand comments": (DEFERRED, "Uh-oh: .qmail file is too long. (#4.2.1)\n"),
    "writable by all": (DEFERRED, "Uh-oh: .qmail file is writable. (#4.7.0)\n"),
}


@pytest.mark.parametrize("kind", DOTS)
async def test_a_dot_file_that_is_none_harms_nobody(house: House, ann: Path, bob: Path, kind: str) -> None:
    dot(ann, kind, house)
    outcome = await both(house, ann, bob)
    assert (outcome.kind, outcome.report) == DOTS[kind]
    assert not outcome.forwards


PARTS = ("fifo", "a link to nowhere", "a link to itself", "a link to another's", "a file", "closed", "a socket")


@pytest.mark.parametrize("part", ["new", "tmp", "cur"])
@pytest.mark.parametrize("kind", PARTS)
async def test_a_maildir_of_odd_parts_harms_nobody(house: House, ann: Path, bob: Path, part: str, kind: str) -> None:
    path = make_maildir(ann) / part
    path.rmdir()
    match kind:
        case "fifo":
            os.mkfifo(path, 0o600)
        case "a link to nowhere":
            path.symlink_to("nowhere")
        case "a link to itself":
            path.symlink_to(path.name)
        case "a link to another's":
            path.symlink_to(bob / "Maildir" / part)
        case "a file":
            path.touch(0o600)
        case "a socket":
            os.mknod(path, 0o600 | stat.S_IFSOCK)
        case "closed":
            path.mkdir(0o000)
    give(path, ann)
    outcome = await both(house, ann, bob)
    if (kind, part) == ("closed", "cur"):
        assert outcome.kind in (DEFERRED, DELIVERED)
    else:
        assert (outcome.kind, outcome.report) == (DEFERRED, "Temporary error on maildir delivery. (#4.3.0)\n")


async def test_a_maildir_over_two_file_systems_defers(house: House, ann: Path, bob: Path) -> None:
    new = make_maildir(ann) / "new"
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "seapost-test", str(new)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mount(8) is not allowed here")
    try:
        outcome = await both(house, ann, bob)
        assert (outcome.kind, outcome.report) == (DEFERRED, "Temporary error on maildir delivery. (#4.3.0)\n")
        assert os.listdir(new) == []
    finally:
        subprocess.run(["umount", "--lazy", str(new)], check=True)


async def test_an_mbox_that_is_a_link_leads_to_what_is_the_users(house: House, ann: Path, bob: Path) -> None:
    make_maildir(bob)
    theirs = house.write(bob / "Mailbox", "private\n")
    (ann / "Mailbox").symlink_to(theirs)
    house.write(ann / ".qmail", "./Mailbox\n")
    outcome = await house.queue.to(f"{ann.name}@{HOST}")
    assert (outcome.kind, outcome.report) == (DEFERRED, "Unable to open ./Mailbox: access denied. (#4.2.1)\n")
    assert theirs.read_text() == "private\n"
