"""One delivery, decided step by step."""

from dataclasses import replace

import pytest

from mail.ids import MessageId, child_id
from mail.outcome import Deferred, Delivered, Failed
from services.local import texts
from services.local.child import is_looping
from services.local.delivery import LAST, Attempt, Ending, Forwarding, Job, Owner, Step, new_sender, report_of
from services.local.dotqmail import Maildir, Mbox, Program, parse

JOB = Job(
    message="0" * 26,
    recipient=0,
    arrived_s=1,
    cluster="c",
    sender="joe@far.example",
    local="ann-list",
    host="here.test",
    dash="-",
    ext="list",
    done=(),
    start=0,
    end=0,
)


def attempt(text: bytes, *done: int) -> Attempt:
    return Attempt(replace(JOB, done=done), parse(text), "new@sender.test")


def run(found: Attempt, *endings: Ending) -> list[Step]:
    """Does everything it asks for; programs end as said, in order."""
    ends = iter(endings)
    steps: list[Step] = []
    while (step := found.next_step()) is not None:
        steps.append(step)
        match step:
            case Maildir():
                found.maildir_is_published(step, "name")
            case Mbox():
                found.mbox_is_appended(step)
            case Program():
                found.program_has_ended(step, next(ends))
    return steps


def queued(first: int, *addresses: str) -> str:
    """The line with the forward's id: the one that the queue makes of it (services/queue/settlement.py)."""
    return f"qp {child_id(MessageId(JOB.message), JOB.recipient, first, chr(10).join(addresses))}\n"


def test_files_first_forwards_last_and_all_are_counted() -> None:
    found = attempt(b"&a@x.test\n./One/\nb@x.test\n./Two/\n")
    assert run(found) == [Maildir(1, "./One/"), Maildir(3, "./Two/")]
    assert found.outcome == Delivered("did 2+2+0\n" + queued(0, "a@x.test", "b@x.test"))
    assert found.done == [1, 3]
    assert found.wants_to_forward()
    assert found.forwarding() == Forwarding(
        "new@sender.test", ("a@x.test", "b@x.test"), "Delivered-To: ann-list@here.test\n", 0
    )


def test_asking_twice_for_the_next_file_changes_nothing() -> None:
    found = attempt(b"./One/\n")
    assert found.next_step() == found.next_step()


def test_what_an_earlier_attempt_did_is_skipped_and_counted() -> None:
    found = attempt(b"./One/\n./Two/\n", 0)
    assert run(found) == [Maildir(1, "./Two/")]
    assert found.outcome == Delivered("did 2+0+0\n")
    assert found.done == [0, 1]


def test_the_first_failure_stops_and_forwards_nothing() -> None:
    found = attempt(b"&a@x.test\n./One/\n./Two/\n")
    assert found.next_step() is not None
    found.defer("no\n")
    assert found.next_step() is None
    assert found.outcome == Deferred("no\n")
    assert not found.wants_to_forward()


def test_a_file_where_none_may_be_stops_in_its_place() -> None:
    found = attempt(b"./One/\n+list\n./Two/\n")
    assert run(found) == [Maildir(0, "./One/")]
    assert found.outcome == Deferred(texts.DOT_FILE_IN_LIST)
    assert found.done == [0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"&" + b"a" * 901, Failed(texts.FORWARD_TOO_LONG)),
        (b"&a@x\xff", Deferred(texts.FORWARD_UNFIT)),
    ],
)
def test_what_cannot_be_forwarded_to_is_found_out_after_everything_else(line: bytes, expected: object) -> None:
    found = attempt(line + b"\n./One/\n")
    assert run(found) == [Maildir(1, "./One/")]
    assert found.outcome == expected
    assert not found.wants_to_forward()


def test_a_forward_to_nobody_is_counted_and_goes_nowhere() -> None:
    found = attempt(b"&\n")
    assert run(found) == []
    assert found.outcome == Delivered("did 0+1+0\n")
    assert not found.wants_to_forward()
    found = attempt(b"&\nb@x.test\n")
    run(found)
    assert found.outcome == Delivered("did 0+2+0\n" + queued(0, "b@x.test"))
    assert found.forwarding().recipients == ("b@x.test",)


def test_programs_files_and_forwards_are_done_in_order_and_counted_apart() -> None:
    found = attempt(b"|one\n./box\n&a@x.test\n| two  \n./Dir/\n")
    done = run(found, Ending(output=b"1\n"), Ending(output=b"2"))
    assert done == [Program(0, "one"), Mbox(1, "./box"), Program(3, " two"), Maildir(4, "./Dir/")]
    assert found.outcome == Delivered("1\n2did 2+1+2\n" + queued(2, "a@x.test"))
    assert found.done == [0, 1, 3, 4]


@pytest.mark.parametrize("code", range(256))
def test_an_exit_code_means_what_qmail_command_says(code: int) -> None:
    found = attempt(b"&a@x.test\n|one\n./Dir/\n")
    steps = run(found, Ending(code, output=b"said\n"))
    if code in (0, 99):
        files = 0 if code else 1
        assert steps[1:] == [Maildir(2, "./Dir/")][:files]
        assert found.outcome == Delivered(f"said\ndid {files}+1+1\n" + queued(0, "a@x.test"))
        assert found.wants_to_forward()
        return
    assert len(steps) == 1
    assert found.done == []
    permanent = code in (100, 64, 65, 70, 76, 77, 78, 112)
    assert type(found.outcome) is (Failed if permanent else Deferred)
    assert found.outcome.report == "said\n"


def test_a_program_that_was_killed_has_crashed() -> None:
    found = attempt(b"|one\n")
    run(found, Ending(signal=9, output=b"said\n"))
    assert found.outcome == Deferred("said\nAack, child crashed. (#4.3.0)\n")


def test_a_program_that_is_not_found_is_named() -> None:
    found = attempt(b"| PATH=/x no-such-filter -a | cat\n")
    run(found, Ending(127, output=b"/bin/sh: 1: no-such-filter: not found\n"))
    assert isinstance(found.outcome, Deferred)
    assert "Unable to find no-such-filter," in found.outcome.report


def test_after_99_the_lines_that_follow_are_ignored_at_every_later_attempt() -> None:
    first = attempt(b"|one\n./Dir/\n|two\n")
    run(first, Ending(99))
    assert first.done == [LAST, 0]
    again = attempt(b"|one\n./Dir/\n|two\n", *first.done)
    assert run(again) == []
    assert again.outcome == Delivered("did 0+0+1\n")


def test_what_programs_have_said_stands_before_the_report_of_what_failed_later() -> None:
    found = attempt(b"|one\n./Dir/\n")
    assert found.next_step() == Program(0, "one")
    found.program_has_ended(Program(0, "one"), Ending(output=b"said\n"))
    found.next_step()
    found.defer("no\n")
    assert found.outcome == Deferred("said\nno\n")
    assert found.done == [0]


def test_earlier_lines_with_the_same_mbox_are_counted() -> None:
    found = attempt(b"./box\n./other\n./box\n", 0, 1)
    step = found.next_step()
    assert isinstance(step, Mbox)
    assert found.copies_before(step) == 1


@pytest.mark.parametrize(
    ("said", "report"),
    [
        (b"x" * 3_000, "x" * 3_000),
        (b"x" * 3_001, "x" * 2_966 + "\nError report too long, sorry.\n"),
        (b"a\0b\n", "a"),
        (b"\xff\n", "\udcff\n"),
    ],
)
def test_a_report_is_cut_as_qmail_lspawn_cuts_it(said: bytes, report: str) -> None:
    assert report_of(said) == report


def test_only_comments_deliver_nowhere_with_success() -> None:
    found = attempt(b"# nothing\n")
    assert run(found) == []
    assert found.outcome == Delivered("did 0+0+0\n")


@pytest.mark.parametrize(
    ("sender", "owner", "expected"),
    [
        ("joe@far.example", Owner(False, False), "joe@far.example"),
        ("joe@far.example", Owner(True, False), "ann-list-owner@here.test"),
        ("joe@far.example", Owner(True, True), "ann-list-owner-@here.test-@[]"),
        ("", Owner(True, True), ""),
        ("#@[]", Owner(True, False), "#@[]"),
    ],
)
def test_who_a_forward_is_from(sender: str, owner: Owner, expected: str) -> None:
    assert new_sender(replace(JOB, sender=sender), owner) == expected


def test_the_two_lines_before_the_message() -> None:
    job = replace(JOB, sender="a b@x.test")
    assert job.return_path() == 'Return-Path: <"a b"@x.test>\n'
    assert replace(JOB, sender="").return_path() == "Return-Path: <>\n"
    assert replace(JOB, local="x\ny").delivered_to() == "Delivered-To: x_y@here.test\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"Delivered-To: a@b\n\nx\n", True),
        (b"A: 1\nDelivered-To: a@b\nB: 2\n\nx\n", True),
        (b"A: 1\nDelivered-To: a@b\n", True),
        (b"Delivered-To: a@B\n\n", False),
        (b"delivered-to: a@b\n\n", False),
        (b"Delivered-To: a@b \n\n", False),
        (b"A: 1\n\nDelivered-To: a@b\n", False),
        (b"\nDelivered-To: a@b\n", False),
        (b"X: \n Delivered-To: a@b\n\n", False),
        (b"", False),
    ],
)
def test_a_loop_is_one_exact_header_line(message: bytes, expected: bool) -> None:
    assert is_looping(memoryview(message), b"Delivered-To: a@b\n") is expected
