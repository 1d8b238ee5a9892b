"""One delivery, decided step by step."""

from dataclasses import replace

import pytest

from mail.outcome import Deferred, Delivered, Failed
from services.local import texts
from services.local.child import is_looping
from services.local.delivery import Attempt, Forwarding, Job, Owner, new_sender
from services.local.dotqmail import Instruction, Maildir, parse

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
    return Attempt(replace(JOB, done=done), parse(text))


def run(found: Attempt) -> list[Instruction]:
    """Publishes everything it asks for."""
    published: list[Instruction] = []
    while (maildir := found.next_file()) is not None:
        published.append(maildir)
        found.file_is_published(maildir, "name")
    return published


def test_files_first_forwards_last_and_all_are_counted() -> None:
    found = attempt(b"&a@x.test\n./One/\nb@x.test\n./Two/\n")
    assert run(found) == [Maildir(1, "./One/"), Maildir(3, "./Two/")]
    assert found.outcome == Delivered("did 2+2+0\n")
    assert found.done == [1, 3]
    assert found.wants_to_forward()
    assert found.forwarding(Owner()) == Forwarding(
        "joe@far.example", ("a@x.test", "b@x.test"), "Delivered-To: ann-list@here.test\n", 0
    )


def test_asking_twice_for_the_next_file_changes_nothing() -> None:
    found = attempt(b"./One/\n")
    assert found.next_file() == found.next_file()


def test_what_an_earlier_attempt_did_is_skipped_and_counted() -> None:
    found = attempt(b"./One/\n./Two/\n", 0)
    assert run(found) == [Maildir(1, "./Two/")]
    assert found.outcome == Delivered("did 2+0+0\n")
    assert found.done == [0, 1]


def test_the_first_failure_stops_and_forwards_nothing() -> None:
    found = attempt(b"&a@x.test\n./One/\n./Two/\n")
    assert found.next_file() is not None
    found.defer("no\n")
    assert found.next_file() is None
    assert found.outcome == Deferred("no\n")
    assert not found.wants_to_forward()


@pytest.mark.parametrize(
    ("text", "report"),
    [
        (b"./One/\n|cat\n./Two/\n", texts.NO_PROGRAM_YET),
        (b"./One/\n./mbox\n./Two/\n", texts.NO_MBOX_YET),
        (b"./One/\n+list\n./Two/\n", texts.DOT_FILE_IN_LIST),
        (b"./One/\n&a@x\xff\n", texts.FORWARD_UNFIT),
    ],
)
def test_what_cannot_be_done_stops_in_its_place(text: bytes, report: str) -> None:
    found = attempt(text)
    assert run(found) == [Maildir(0, "./One/")]
    assert found.outcome == Deferred(report)
    assert found.done == [0]


def test_an_address_too_long_to_forward_to_fails() -> None:
    found = attempt(b"&" + b"a" * 901 + b"\n")
    assert run(found) == []
    assert found.outcome == Failed(texts.FORWARD_TOO_LONG)


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
