"""The records between the front and a user's child."""

import json

import pytest

from mail.outcome import Deferred, Delivered, Failed
from services.local.batch import (
    LENGTH,
    Answer,
    BadFrame,
    Done,
    Question,
    answer_frame,
    question_frame,
    read_answer,
    read_question,
)
from services.local.delivery import Forwarding, Job
from services.local.sweep import Settled

JOB = Job("0" * 26, 3, 17, "c", "jö@x", "ann", "here", "-", "e\udcff", (1, 2), 5, 9)
QUESTION = Question((JOB, JOB), (("", ""), ("-", "x")), ("./Maildir/",), Settled(1.5, 2.5, frozenset({"a"})), "./M/")
ANSWER = Answer(
    (
        Done(
            Delivered("did 1+1+0\n"),
            (0,),
            (Forwarding("s", ("a", "b"), "Delivered-To: h@x\n", 1),),
            (("./Maildir/", "n"),),
            True,
        ),
        Done(Failed("no\n")),
    ),
    (True, None),
    (7,),
)


def test_a_question_arrives_as_it_was_asked() -> None:
    assert read_question(question_frame(QUESTION)[LENGTH.size :]) == QUESTION


def test_an_answer_arrives_as_it_was_given() -> None:
    assert read_answer(answer_frame(ANSWER)[LENGTH.size :], QUESTION) == ANSWER


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b'{"done":[],"found":[],"stay":[]}',
        json.dumps({"done": [["X", "", [], [], [], False]] * 2, "found": [1, 1], "stay": [0]}).encode(),
        json.dumps({"done": [["K", "", 5, [], [], False]] * 2, "found": [1, 1], "stay": [0]}).encode(),
        json.dumps({"done": [["K"]] * 2, "found": [1, 1], "stay": [0]}).encode(),
        json.dumps({"done": [["K", "", [], [], [], False]] * 2, "found": [1, 1], "stay": [[]]}).encode(),
        b"[" * 100_000,
    ],
)
def test_an_answer_that_does_not_fit_is_refused(said: bytes) -> None:
    with pytest.raises(BadFrame):
        read_answer(said, QUESTION)


@pytest.mark.parametrize(
    ("sender", "recipient", "header"),
    [
        ("a\nb", "c", "Delivered-To: h@x\n"),
        ("a", "c\udcff", "Delivered-To: h@x\n"),
        ("a", "c", "Delivered-To: h@x\nBcc: y\n"),
        ("a", "c", "Delivered-To: h@x"),
        ("a", "c", "Bcc: h@x\n"),
        ("a", "c", ""),
        (5, "c", "Delivered-To: h@x\n"),
    ],
)
def test_a_forward_with_what_no_envelope_holds_is_refused(sender: object, recipient: str, header: str) -> None:
    done = ["K", "", [], [[sender, [recipient], header, 1]], [], False]
    said = json.dumps({"done": [done] * 2, "found": [1, 0], "stay": [0]}).encode()
    with pytest.raises(BadFrame):
        read_answer(said, QUESTION)


def test_reports_are_text_whatever_the_child_says() -> None:
    said = json.dumps({"done": [["Z", 5, [], [], [], False]] * 2, "found": [1, 0], "stay": [0]}).encode()
    assert read_answer(said, QUESTION).done[0] == Done(Deferred("5"))
