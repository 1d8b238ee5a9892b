"""Programs in .qmail files: what they are given, what they may, what their ends mean, and that none of them stays."""

import asyncio
import fcntl
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from proto import work_pb2
from tests.harness.local_house import HOST, ROOT, TIMEOUT_S, House, messages, open_house

DEFERRED, DELIVERED, FAILED = work_pb2.Outcome.DEFERRED, work_pb2.Outcome.DELIVERED, work_pb2.Outcome.FAILED
pytestmark = pytest.mark.asyncio(loop_scope="module")
as_root = pytest.mark.skipif(not ROOT, reason="needs root: run the tests as root for accounts with uids of their own")
# Five minutes are a second and a half here.
GLIBCS_SIGNALS = 0b11 << 31  # 32 and 33: whoever started the tests may ignore them, and no program can change that
QUICK = "0.005"
LONG = "sleep 86400.{}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    """One service for all tests that leave it as it was."""
    async with open_house() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def quick() -> AsyncIterator[House]:
    """One whose programs have a second and a half."""
    async with open_house(TIME_SCALE=QUICK) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def own() -> AsyncIterator[House]:
    """A service that the test may kill, and that remembers."""
    house = House()
    (house.state / "events").mkdir()
    (house.state / "events").chmod(0o777)
    try:
        await house.start(**remembering(house))
        yield house
    finally:
        await house.close()


def remembering(house: House) -> dict[str, str]:
    return {"EVENTS_DIR": str(house.state / "events")}


async def ran(house: House, home: Path, text: str, **fields: object) -> work_pb2.Outcome:
    """One message to an account with this .qmail file."""
    house.write(home / ".qmail", text)
    return await house.queue.to(f"{home.name}@{HOST}", **fields)


def alive(mark: str) -> list[str]:
    """The command lines that have this in them, of processes that are not dead."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if mark in line:
            found.append(line)
    return found


async def until(mark: str, there: bool) -> None:
    """Waits until a process with that mark is there, or is not."""
    async with asyncio.timeout(TIMEOUT_S):
        while bool(alive(mark)) != there:
            await asyncio.sleep(0.01)


async def test_an_exit_code_means_what_qmail_command_says(house: House) -> None:
    ann = house.account()
    house.write(ann / ".qmail-code-default", "&bob@far.example\n|echo said; exit $DEFAULT\n./Maildir/\n")
    others = (1, 2, 63, 66, 67, 69, 71, 75, 79, 98, 101, 111, 113, 126, 128, 255)
    permanent = (64, 65, 70, 76, 77, 78, 100, 112)
    codes = (0, 99, *others, *permanent)
    outcomes = await house.queue.deliver(*(house.queue.delivery(f"{ann.name}-code-{code}@{HOST}") for code in codes))
    for code, outcome in zip(codes, outcomes, strict=True):
        report = outcome.report.removeprefix("said\n")
        if code in (0, 99):
            assert (outcome.kind, report.split("\n")[0]) == (DELIVERED, "did 0+1+1" if code else "did 1+1+1")
            assert list(outcome.forwards[0].recipients) == ["bob@far.example"]
        else:
            assert (outcome.kind, report) == (FAILED if code in permanent else DEFERRED, ""), code
            assert not outcome.forwards
    assert len(messages(ann / "Maildir")) == 1


async def test_a_program_that_is_killed_defers(house: House) -> None:
    outcome = await ran(house, house.account(), "|echo said; kill -9 $$\n")
    assert (outcome.kind, outcome.report) == (DEFERRED, "said\nAack, child crashed. (#4.3.0)\n")


async def test_a_program_that_is_not_there_is_named(house: House) -> None:
    outcome = await ran(house, house.account(), "|/usr/bin/no-such-filter -x\n")
    assert outcome.kind == DEFERRED
    assert "\nUnable to find /usr/bin/no-such-filter, or a program that it calls:" in outcome.report


async def test_a_command_of_blanks_does_nothing_with_success(house: House) -> None:
    outcome = await ran(house, house.account(), "|\n|  \t \n")
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 0+0+2\n")


async def test_every_program_reads_the_whole_message_and_stands_in_the_home(house: House) -> None:
    ann = house.account()
    body = b"Subject: y\n\n" + b"line\n" * 30_000 + b"no end"
    outcome = await ran(house, ann, "|cat >one\n|head -c 5 >part\n|cat >two; pwd\n", body=body)
    assert (outcome.kind, outcome.report) == (DELIVERED, f"{ann}\ndid 0+0+3\n")
    assert (ann / "one").read_bytes() == (ann / "two").read_bytes() == body
    assert (ann / "part").read_bytes() == b"Subje"


async def test_a_program_has_nothing_but_its_three_descriptors_and_no_power(house: House) -> None:
    ann = house.account()
    text = (
        "|ls /proc/self/fd >fds; cat /proc/self/status >status; cat /proc/self/stat >stat; ulimit -c >core\n"
        "|sh -c 'echo x >/proc/self/fd/0' 2>/dev/null; test $? -ne 0\n"
    )
    outcome = await ran(house, ann, text)
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 0+0+2\n")
    assert (ann / "fds").read_text().split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    said = dict(row.split(":\t", 1) for row in (ann / "status").read_text().splitlines())
    assert {said[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert {int(said[name], 16) & ~GLIBCS_SIGNALS for name in ("SigBlk", "SigIgn")} == {0}
    assert (said["NoNewPrivs"], said["Umask"]) == ("1", "0077")
    fields = (ann / "stat").read_text().split()
    assert int(fields[18]) == os.nice(0) + 5
    assert (ann / "core").read_text() == "0\n"
    if ROOT:
        assert set(said["Uid"].split()) == {str(ann.stat().st_uid)}


async def test_a_program_is_told_what_qmail_tells_and_who_the_delivery_is(house: House) -> None:
    ann = house.account()
    house.write(
        ann / ".qmail-list-default", '|echo "$SENDER $NEWSENDER $RECIPIENT $DEFAULT $USER $HOME $DELIVERY_ID"\n'
    )
    house.write(ann / ".qmail-list-x-owner", "")
    outcome = await house.queue.to(f"{ann.name}-list-x@a.b.test", number=77)
    here = f"{ann.name}-list-x"
    assert outcome.report.startswith(
        f"joe@far.example {here}-owner@a.b.test {here}@a.b.test x {ann.name} {ann} {outcome.id}R0I0\n"
    )


async def test_output_is_kept_up_to_a_bound_and_read_to_its_end(house: House) -> None:
    outcome = await ran(house, house.account(), "|head -c 20000000 /dev/zero | tr '\\0' x; echo end\n")
    assert (outcome.kind, outcome.report) == (DELIVERED, "x" * 2_966 + "\nError report too long, sorry.\n")


async def test_what_is_not_text_is_shown_as_question_marks(house: House) -> None:
    outcome = await ran(house, house.account(), "|printf 'a\\377b\\0c\\n'\n")
    assert outcome.report == "a?b"


async def test_a_program_may_close_its_output(house: House) -> None:
    ann = house.account()
    outcome = await ran(house, ann, "|exec >&- 2>&-; sleep 0.1; echo x >late\n")
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 0+0+1\n")
    assert (ann / "late").exists()


async def test_forwards_files_and_programs_before_99_count(house: House) -> None:
    ann = house.account()
    for name in ("One", "Two"):
        for part in (f"{name}/cur", f"{name}/new", f"{name}/tmp"):
            (ann / part).mkdir(parents=True)
            shutil.chown(ann / part, ann.stat().st_uid) if ROOT else None
    outcome = await ran(house, ann, "./One/\n&a@far.example\n|exit 99\n&b@far.example\n./Two/\n|exit 100\n")
    assert (outcome.kind, outcome.report.split("\n")[0]) == (DELIVERED, "did 1+1+1")
    assert list(outcome.forwards[0].recipients) == ["a@far.example"]
    assert (len(messages(ann / "One")), len(messages(ann / "Two"))) == (1, 0)


async def test_the_default_delivery_may_begin_with_a_program() -> None:
    house = House()
    (house.state / "control" / "defaultdelivery").write_text("|echo looked\n./Maildir/\n")
    try:
        await house.start()
        ann = house.account()
        outcome = await house.queue.to(f"{ann.name}@{HOST}")
        assert (outcome.kind, outcome.report) == (DELIVERED, "looked\ndid 1+0+1\n")
        assert len(messages(ann / "Maildir")) == 1
    finally:
        await house.close()


async def test_what_is_done_is_not_repeated_however_often_the_rest_fails(house: House) -> None:
    """I-9 of the design: instruction 2 of 3 fails fifty times."""
    ann = house.account()
    house.write(
        ann / ".qmail", "|echo one >>ran\n|echo two >>ran; exit $(cat code)\n|echo three >>ran\n./Maildir/\n./box\n"
    )
    house.write(ann / "code", "111")
    done: list[int] = []
    for attempt in range(51):
        if attempt == 50:
            house.write(ann / "code", "0")
        outcome = await house.queue.to(f"{ann.name}@{HOST}", number=4_711, done=done)
        assert outcome.kind == (DELIVERED if attempt == 50 else DEFERRED)
        done = list(outcome.done)
    assert outcome.report == "did 2+0+3\n"
    assert (ann / "ran").read_text() == "one\n" + "two\n" * 51 + "three\n"
    assert (ann / "box").read_text().count("\nSubject: x\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "|{long} & exit 0\n",
        "|(setsid sh -c 'trap \"\" TERM HUP INT; {long}; {long}' >/dev/null 2>&1 &); exit 0\n",
        "|for i in 1 2 3 4 5 6 7 8; do (setsid sh -c '{long} & {long}' &); done; exit 0\n",
    ],
)
async def test_nothing_that_a_program_has_started_outlives_it(house: House, text: str) -> None:
    ann = house.account()
    long = LONG.format(ann.name[4:])
    outcome = await ran(house, ann, text.format(long=long))
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 0+0+1\n")
    await until(long, there=False)


@pytest.mark.parametrize(
    "text",
    [
        "|{long}\n",
        "|trap '' TERM HUP INT; while :; do {long}; done\n",
        "|exec >&- 2>&-; (setsid {long} &); {long}\n",
    ],
)
async def test_a_program_that_does_not_end_is_ended(quick: House, text: str) -> None:
    ann = quick.account()
    long = LONG.format(ann.name[4:])
    outcome = await ran(quick, ann, text.format(long=long))
    said = "The program was stopped: it had not ended after 300 seconds. (#4.3.0)\n"
    assert (outcome.kind, outcome.report) == (DEFERRED, said)
    await until(long, there=False)


@as_root
async def test_a_fork_bomb_ends_and_others_get_their_mail_meanwhile() -> None:
    house = House()
    (house.state / "control" / "softlimit").write_text("-p 60\n")
    try:
        await house.start(TIME_SCALE="0.01")
        ann, bob = house.account(), house.account()
        house.write(ann / ".qmail", "|touch begun; bomb() { bomb | bomb & }; bomb; sleep 1000\n")
        bombed = house.queue.delivery(f"{ann.name}@{HOST}")
        waiting = asyncio.create_task(house.queue.deliver(bombed))
        async with asyncio.timeout(TIMEOUT_S):
            while not (ann / "begun").exists():
                await asyncio.sleep(0.01)
        assert (await house.queue.to(f"{bob.name}@{HOST}")).kind == DELIVERED
        assert (await waiting)[0].kind == DEFERRED
        uid = ann.stat().st_uid
        async with asyncio.timeout(TIMEOUT_S):
            while len(of_uid(uid)) > 1:  # the warm child
                await asyncio.sleep(0.01)
    finally:
        await house.close()


def of_uid(uid: int) -> list[int]:
    """Living processes of that uid."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            said = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        if f"\nUid:\t{uid}\t" in said and "\nState:\tZ" not in said:
            found.append(int(pid))
    return found


async def test_a_program_that_kills_its_parent_defers_and_its_family_ends(own: House) -> None:
    ann = own.account()
    long = LONG.format(ann.name[4:])
    text = f"|echo one >>ran\n|(setsid sh -c '{long}' &); kill -9 $PPID; {long}\n"
    outcome = await ran(own, ann, text, number=5)
    assert (outcome.kind, outcome.report) == (DEFERRED, "qmail-local crashed.\n")
    assert list(outcome.done) == [0]
    await until(long, there=False)
    assert not own.named("possible-duplicate")
    outcome = await ran(own, ann, "|echo one >>ran\n|exit 0\n", number=5, done=[0])
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 0+0+2\n")
    assert (ann / "ran").read_text() == "one\n"
    await told(own, "possible-duplicate", 1)
    assert own.named("possible-duplicate")[0]["window"] == "W2"


async def told(house: House, event: str, times: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while len(house.named(event)) < times:
            await asyncio.sleep(0.01)


async def test_a_program_ends_with_the_service_and_its_repetition_is_told(own: House) -> None:
    ann = own.account()
    long = LONG.format(ann.name[4:])
    own.write(ann / ".qmail", f"|echo ran >>ran; (setsid sh -c '{long}; {long}' &); {long}; exit 0\n")
    own.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=[own.queue.delivery(f"{ann.name}@{HOST}", number=6)]))
    await until(f"{long}", there=True)
    assert own.process is not None
    own.process.kill()
    await own.stop()
    await until(long, there=False)
    await own.start(**remembering(own))
    outcome = await ran(own, ann, "|echo ran >>ran\n", number=6)
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 0+0+1\n")
    await told(own, "possible-duplicate", 1)
    outcome = await ran(own, ann, "|echo ran >>ran\n", number=7)
    assert len(own.named("possible-duplicate")) == 1


async def test_programs_that_hang_delay_neither_mail_nor_questions(own: House) -> None:
    ann, bob = own.account(), own.account()
    long = LONG.format(ann.name[4:])
    own.write(ann / ".qmail-hang", f"|{long}\n")
    own.write(ann / ".qmail-other", "./Maildir/\n")
    hanging = [own.queue.delivery(f"{ann.name}-hang@{HOST}") for _ in range(20)]
    own.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=hanging))
    await until(long, there=True)
    for number in range(3):
        assert (await own.queue.to(f"{ann.name}@{HOST}", number=100 + number)).kind == DELIVERED
    assert await own.check(f"{ann.name}-other@{HOST}", f"{ann.name}-none@{HOST}") == ["DELIVERABLE", "NOBODY"]
    assert (await ran(own, bob, "|echo quick\n")).report == "quick\ndid 0+0+1\n"
    async with asyncio.timeout(TIMEOUT_S):
        while own.queue.offered != 10 + 16:  # concurrencylocal, and what an account may have besides
            await asyncio.sleep(0.01)
        while len(own.queue.outcomes) < 4 + 4:  # who has no slot of its own gives it back
            await asyncio.sleep(0.01)
    given_back = [own.queue.outcomes[(one.key, 0)] for one in hanging if (one.key, 0) in own.queue.outcomes]
    assert {(one.kind, one.report) for one in given_back} == {
        (DEFERRED, "Too many programs of this user are running. (#4.3.2)\n")
    }
    assert len([line for line in alive(long) if line.startswith("sleep")]) == 4
    assert own.process is not None
    own.process.send_signal(signal.SIGKILL)


async def test_an_mbox_that_somebody_has_locked_delays_no_other_mail(house: House) -> None:
    ann = house.account()
    house.write(ann / ".qmail-box", "./box\n")
    house.write(ann / ".qmail-other", "./Maildir/\n")
    house.write(ann / "box", "")
    with (ann / "box").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = house.queue.delivery(f"{ann.name}-box@{HOST}")
        house.queue.said.put_nowait(work_pb2.QueueMessage(deliveries=[waiting]))
        assert (await house.queue.to(f"{ann.name}-other@{HOST}")).kind == DELIVERED
        assert await house.check(f"{ann.name}-other@{HOST}") == ["DELIVERABLE"]
        assert (ann / "box").read_bytes() == b""
    outcome = (await house.queue.outcome_of(waiting))[0]
    assert (outcome.kind, outcome.report) == (DELIVERED, "did 1+0+0\n")
    assert b"\nSubject: x\n" in (ann / "box").read_bytes()
