"""What an operator sees of a real queue: through bin/seapost and over gRPC, and qmail's own tools."""

import fcntl
import json
import os
import pty
import re
import socket
import subprocess
from pathlib import Path

from cli import admin
from cli.listing import Merged
from cli.selection import Selection
from mail.outcome import Kind
from tests.harness.queue_house import FAR, HOST, SEAPOST, UNKNOWN_ID, QueueHouse, again, defer, reasons, waits

# -- what is seen -----------------------------------------------------------------------------------------------------


async def test_messages_are_listed_in_the_order_of_their_arrival_and_filtered(house: QueueHouse) -> None:
    first = await house.accept(FAR, "friend@other.example")
    second = await house.accept("Ann@OTHER.example", sender="")
    third = await house.accept(f"demo@{HOST}", sender="bob@far.example")
    assert [one["id"] for one in await house.listed()] == [first, second, third]
    for words, meant in (
        (("--domain", "other.example"), [first, second]),
        (("--sender", "<>"), [second]),
        (("--sender", "*@far.example", "--recipient", "demo@*"), [third]),
        (("--older", "1h"), []),
        (("--younger", "1h", "--state", "waiting"), [first, second, third]),
        (("--state", "held,delivering"), []),
        ((second, third), [second, third]),
    ):
        assert [one["id"] for one in await house.listed(*words)] == meant, words


async def test_what_two_replicas_tell_is_one_list(house: QueueHouse) -> None:
    """A log that has just changed hands may be told by both."""
    messages = [await house.accept(FAR) for _ in range(3)]
    async with admin.replicas([house.rpc, house.rpc], house.identity("cli")) as them:
        assert [one["id"] async for one in Merged(them, Selection())] == messages


async def test_an_object_has_what_scripts_rely_on(house: QueueHouse) -> None:
    message = await defer(house, report="Remote \x1b said:\n450 no.\n")
    line = await house.seapost("list", "--json")
    assert line.isascii()
    assert "\x1b" not in line
    listed = json.loads(line)
    [recipient] = listed.pop("recipients")
    assert re.fullmatch("[0-9a-f]{8}", listed.pop("log"))
    assert listed.pop("arrived") > 1.7e9
    assert listed == {
        "id": message,
        "sender": "ann@far.example",
        "size": 11,
        "held_by": None,
        "held_since": None,
    }
    assert recipient.pop("next_attempt") > 1.7e9
    assert re.fullmatch(r"due at .* GMT; last time: Remote \S said: 450 no\.", recipient.pop("why"))
    assert recipient == {
        "address": FAR,
        "channel": "remote",
        "state": "waiting",
        "attempts": 1,
        "reason": "schedule",
    }


async def test_the_largest_envelope_is_shown(house: QueueHouse) -> None:
    """A thousand addresses as long as they may be, and reports of the same kind: more than a reply could hold."""
    recipients = [f"{'x' * 800}{number:04}@far{number % 20}.example" for number in range(1_000)]
    message = await house.accept(*recipients)
    async with house.worker(slots=100) as worker:
        for _ in range(20):
            await worker.report(await worker.next(), Kind.DEFERRED, "because\xfc " * 300)
    listed = json.loads(await house.seapost("show", message, "--json"))
    assert [recipient["given"] for recipient in listed["recipients"]] == recipients
    assert all(recipient["report"].startswith("because") for recipient in listed["recipients"])
    assert len((await again(house, message))["recipients"]) == 1_000


async def test_everything_of_one_message_can_be_seen(house: QueueHouse) -> None:
    body = b"Subject: caf\xe9\n\nfirst\n\n\x00second\n"
    message = await defer(house, body=body, report="A very good reason.\n")
    shown = await house.seapost("show", message)
    for expected in (message, FAR, "envid      e+20", "last report  A very good reason.", "attempts     1"):
        assert expected in shown
    done = subprocess.run(
        (SEAPOST, "queue", "show", message, "--headers", "--body"),
        capture_output=True,
        check=True,
        env=house.environment(),
    )
    assert done.stdout == body
    as_json = json.loads(await house.seapost("show", message, "--json", "--headers", "--body"))
    assert (as_json["header"] + "\n" + as_json["body"]).encode("utf-8", "surrogateescape") == body
    assert as_json["recipients"][0]["report"] == "A very good reason.\n"


async def test_a_terminal_is_told_nothing_that_a_stranger_wrote_for_it(house: QueueHouse) -> None:
    evil = "\x1b]0;gotcha\x07\x9b2J\u202e"
    body = f"Subject: {evil}\n\ntwo\tlines\n{evil}\n".encode()
    message = await defer(house, report=f"{evil}\n", body=body)
    for words in (("show", message, "--headers", "--body"), ("show", message), ("list",), ("list", "--json")):
        ours, theirs = pty.openpty()
        command = (str(SEAPOST), "queue", *words)
        done = subprocess.run(command, stdout=theirs, stderr=theirs, check=False, env=house.environment())
        os.close(theirs)
        shown = os.read(ours, 65_536).decode().replace("\r\n", "\n")
        os.close(ours)
        assert done.returncode == 0
        assert "gotcha" in shown
        assert {char for char in shown if not char.isprintable()} <= {"\n", "\t"}


async def test_qmail_s_own_tools_print_what_qmail_s_print(house: QueueHouse) -> None:
    """Octet by octet; only the id stands where qmail has a number."""
    message = await house.accept(FAR, f"demo@{HOST}", "gone@far.example", sender="\xe9@far.example")
    async with house.worker("local") as local:
        await local.report(await local.next(), Kind.DELIVERED)
    arrived = (await again(house, message))["arrived"]
    done = await house.run(program="qmail-qread")
    assert done.stderr == ""
    line, *rest = done.stdout.splitlines(keepends=True)
    assert re.fullmatch(
        rf"\d\d? [A-Z][a-z][a-z] \d{{4}} \d\d:\d\d:\d\d GMT  #{message}  11  <__@far\.example> \n", line
    )
    assert f" {int(arrived) % 60:02} GMT".replace(" ", ":", 1) in line
    assert rest == [f"  done\tlocal\tdemo@{HOST}\n", f"\tremote\t{FAR}\n", "\tremote\tgone@far.example\n"]
    done = await house.run(program="qmail-qstat")
    assert done.stdout == "messages in queue: 1\nmessages in queue but not yet preprocessed: 0\n"


async def test_qmail_s_own_tools_fail_as_qmail_s_do(tmp_path: Path) -> None:
    for program in ("qmail-qread", "qmail-qstat"):
        done = subprocess.run(
            (SEAPOST.with_name(program), "--state", str(tmp_path)), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (111, "")
        assert "no stack runs there" in done.stderr


async def test_figures_add_up(house: QueueHouse) -> None:
    await defer(house, FAR, "other@far.example")
    await house.accept("a@elsewhere.example")
    oldest = (await house.listed())[0]["id"]
    async with house.worker("local", slots=7):
        found = json.loads(await house.seapost("stats", "--json"))
        [worker] = found["workers"]
    assert (worker["channel"], worker["slots"], worker["busy"]) == ("local", 7, 0)
    assert (found["messages"], found["matching"], found["oldest"]) == (2, 2, oldest)
    assert found["channels"] == {"remote": 3}
    assert found["states"] == {"waiting": 3}
    assert found["reasons"] == {"schedule": 2, "worker": 1}
    assert found["destinations"] == [
        {"destination": "far.example", "recipients": 2},
        {"destination": "elsewhere.example", "recipients": 1},
    ]
    of_some = json.loads(await house.seapost("stats", "--json", "--domain", "elsewhere.example"))
    assert (of_some["messages"], of_some["matching"]) == (2, 1)


async def test_a_replica_that_does_not_answer_is_named_and_the_other_is_shown(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{nobody.getsockname()[1]}"
        both = {"QUEUE_ADDRS": f"{dead},{house.rpc}"}
        for words, said, status in (
            (("list",), message, 75),
            (("stats",), "queue-0: 1 messages", 75),
            (("hold", "--all", "--yes"), "held 1 message", 75),
            (("show", message), f"id         {message}", 0),
            (("release", message), "released 1 message", 0),
        ):
            done = await house.run("queue", *words, **both)
            assert done.returncode == status, done.stderr
            assert said in done.stdout
            assert f"the queue at {dead} does not answer" in done.stderr
        done = await house.run("queue", "remove", UNKNOWN_ID, **both)
        assert (done.returncode, "it may be there" in done.stderr) == (75, True)


async def test_an_empty_queue_is_not_idle_while_nobody_answers_for_a_log(house: QueueHouse) -> None:
    """Its owner lives and is not asked, or it is dead and its log was not taken yet: what is in it nobody says."""
    assert await house.seapost("wait-idle") == ""
    log = house.state / "spool" / "logs" / "deadbeef.0000000099.queue-9"
    log.mkdir()
    with (log / "owner.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for words, status in (("list",), 75), (("stats",), 75), (("wait-idle", "--timeout", "0.1"), 1):
            said = await house.seapost(*words, status=status)
            assert "nobody answers for log deadbeef now" in said
        done = await house.run(program="qmail-qstat")
        assert (done.returncode, done.stdout.splitlines()[0]) == (111, "messages in queue: 0")
    log.joinpath("owner.lock").unlink()
    log.rmdir()


# -- why it waits -----------------------------------------------------------------------------------------------------


async def test_why_it_waits_is_said(house: QueueHouse) -> None:
    message = await house.accept(FAR)
    assert (reasons(await again(house, message)), waits(await again(house, message))) == (
        ["worker"],
        "no remote worker is connected",
    )
    async with house.worker(slots=1) as worker:
        delivery = await worker.next()
        assert reasons(await again(house, message)) == ["delivering"]
        other = await house.accept("a@elsewhere.example")
        assert (reasons(await again(house, other)), waits(await again(house, other))) == (
            ["slot"],
            "no free remote slot",
        )
        await worker.report(delivery, Kind.DEFERRED)
        assert reasons(await again(house, message)) == ["schedule"]
        await worker.next()
    listed = await again(house, other)
    assert (reasons(listed), listed["recipients"][0]["state"]) == (["reattach"], "delivering")
    assert "has 30 s to come back" in waits(listed)


async def test_the_limit_of_a_destination_is_a_reason(house: QueueHouse) -> None:
    async with house.worker(slots=20) as worker:
        for _ in range(10):
            await house.accept(FAR)
            await worker.next()
        message = await house.accept(FAR)
        assert reasons(await again(house, message)) == ["limit"]
        assert waits(await again(house, message)) == "10 transactions with far.example are under way"


async def test_a_destination_that_cannot_be_reached_is_a_reason_and_retry_does_not_wait_for_it(
    house: QueueHouse,
) -> None:
    async with house.worker() as worker:
        first = await house.accept(FAR)
        await worker.report(await worker.next(), Kind.DEFERRED, unreachable=True)
        message = await house.accept(FAR)
        listed = await again(house, message)
        assert reasons(listed) == ["back-off"]
        assert re.fullmatch(
            r"far\.example cannot be reached since .* GMT and is tried again at .* GMT", waits(listed)
        ), waits(listed)
        await house.seapost("retry", message)
        delivery = await worker.next()
        assert delivery.id == message
        await worker.report(delivery, Kind.DEFERRED, unreachable=True)
        third = await house.accept(FAR)
        assert reasons(await again(house, third)) == ["back-off"], "the attempt was one of an operator, and alone"
        await house.seapost("retry", first)
        delivery = await worker.next()
        assert delivery.id == first
        await worker.report(delivery, Kind.DELIVERED)
        assert (await worker.next()).id == third, "who answers is reached again"


async def test_a_damaged_message_is_a_reason(house: QueueHouse) -> None:
    message = await house.accept(FAR, body=b"A: b\n\n" + b"precious" * 100)
    [segment] = [path for path in (house.state / "spool").rglob("*.seg") if b"precious" in path.read_bytes()]
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(b"precious"))
        file.write(b"PRECIOUS")
    async with house.worker():
        async with house.worker("local") as local:  # something that is delivered after it
            await house.accept(f"demo@{HOST}")
            await local.next()
        listed = await again(house, message)
    assert reasons(listed) == ["damaged"]
    assert "the message does not read" in waits(listed)
    assert "does not read" in await house.seapost("show", message, "--body", status=1)
