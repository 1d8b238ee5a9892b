"""The records between the front and a user's child."""

import json
from dataclasses import replace

import pytest

from mail.outcome import Deferred, Delivered, Failed
from services.local.batch import (
    LENGTH,
    Answer,
    BadFrame,
    Done,
    Note,
    Question,
    answer_frame,
    note_frame,
    question_frame,
    read_question,
    read_said,
)
from services.local.delivery import Forwarding, Job
from services.local.limits import ProgramLimits
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
        Done(None, (4,)),
    ),
    (True, None),
    (7,),
)


def test_a_question_arrives_as_it_was_asked() -> None:
    assert read_question(question_frame(QUESTION)[LENGTH.size :]) == QUESTION
    apart = Question((JOB,), limits=ProgramLimits(wall_s=7))
    assert read_question(question_frame(apart)[LENGTH.size :]) == apart


def test_what_is_said_before_the_answer_arrives_as_it_was_said() -> None:
    note = Note(((0, 3), (1, 5)), ((1, 2),), True)
    assert read_said(note_frame(note)[LENGTH.size :], QUESTION) == note


def test_a_note_of_a_job_that_was_not_asked_for_is_refused() -> None:
    for note in (Note(begins=((2, 0),)), Note(done=((-1, 0),))):
        with pytest.raises(BadFrame):
            read_said(note_frame(note)[LENGTH.size :], QUESTION)


def test_a_child_that_was_made_for_a_job_may_not_hand_it_on() -> None:
    answer = Answer((Done(None), Done(Failed("no\n"))), (True, None), (7,))
    assert read_said(answer_frame(answer)[LENGTH.size :], QUESTION) == answer
    with pytest.raises(BadFrame):
        read_said(answer_frame(answer)[LENGTH.size :], replace(QUESTION, limits=ProgramLimits()))


def test_an_answer_arrives_as_it_was_given() -> None:
    assert read_said(answer_frame(ANSWER)[LENGTH.size :], QUESTION) == ANSWER


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
        b'{"begins":[[0]],"ends":[],"program":false}',
        b'{"begins":[]}',
        json.dumps({"done": [["K", "", [-1], [], [], False]] * 2, "found": [1, 1], "stay": [0]}).encode(),
        json.dumps({"done": [["K", "", [2**32], [], [], False]] * 2, "found": [1, 1], "stay": [0]}).encode(),
        b"[" * 100_000,
    ],
)
def test_an_answer_that_does_not_fit_is_refused(said: bytes) -> None:
    with pytest.raises(BadFrame):
        read_said(said, QUESTION)


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
        read_said(said, QUESTION)


def test_reports_are_text_whatever_the_child_says() -> None:
    said = json.dumps({"done": [["Z", 5, [], [], [], False]] * 2, "found": [1, 0], "stay": [0]}).encode()
    answer = read_said(said, QUESTION)
    assert isinstance(answer, Answer)
    assert answer.done[0] == Done(Deferred("5"))
