"""The environment of programs, value by value."""

import dataclasses
from typing import Any

import pytest

from services.local import dotqmail, environment
from services.local.delivery import Job
from services.local.environment import Person

JOB = Job(
    message="06d1a5e0c3qk2m7xw4r9tb8nfy",
    recipient=3,
    arrived_s=1_795_350_990,
    cluster="test",
    sender="joe@far.example",
    local="ann-list-a.b-x",
    host="mail.sub.example.org",
    dash="-",
    ext="list-A.b-x",
    done=(),
    start=0,
    end=0,
)
PERSON = Person("ann", "/home/ann", "/opt/seapost/bin", "/run/seapost", "/state/control")


def environment_of(default: str | None = None, new_sender: str = "joe@far.example", **fields: Any) -> dict[str, str]:
    job = dataclasses.replace(JOB, **fields)
    found = environment.of_program(job, PERSON, new_sender, default, 2)
    return {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in found.items()}


def test_a_program_gets_qmails_variables_ours_and_no_other() -> None:
    assert environment_of(default="x", new_sender="ann-owner@mail.sub.example.org") == {
        "SENDER": "joe@far.example",
        "NEWSENDER": "ann-owner@mail.sub.example.org",
        "RECIPIENT": "ann-list-a.b-x@mail.sub.example.org",
        "USER": "ann",
        "HOME": "/home/ann",
        "HOST": "mail.sub.example.org",
        "HOST2": "mail.sub.example",
        "HOST3": "mail.sub",
        "HOST4": "mail",
        "LOCAL": "ann-list-a.b-x",
        "EXT": "list-A.b-x",
        "EXT2": "A.b-x",
        "EXT3": "x",
        "EXT4": "",
        "DEFAULT": "x",
        "DTLINE": "Delivered-To: ann-list-a.b-x@mail.sub.example.org\n",
        "RPLINE": "Return-Path: <joe@far.example>\n",
        "UFLINE": "From joe@far.example Sun Nov 22 12:36:30 2026\n",
        "DELIVERY_ID": "06d1a5e0c3qk2m7xw4r9tb8nfyR3I2",
        "PATH": "/opt/seapost/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SEAPOST_SOCKET_DIR": "/run/seapost",
        "SEAPOST_CONTROL": "/state/control",
    }


def test_a_host_without_dots_repeats() -> None:
    found = environment_of(host="org")
    assert [found[name] for name in ("HOST", "HOST2", "HOST3", "HOST4")] == ["org"] * 4


def test_default_is_unset_unless_a_default_file_matched() -> None:
    assert "DEFAULT" not in environment_of()
    assert environment_of(default="")["DEFAULT"] == ""


def test_the_null_sender_is_empty_and_the_from_line_says_mailer_daemon() -> None:
    found = environment_of(sender="", new_sender="")
    assert (found["SENDER"], found["NEWSENDER"]) == ("", "")
    assert found["RPLINE"] == "Return-Path: <>\n"
    assert found["UFLINE"].startswith("From MAILER-DAEMON Sun ")


def test_a_sender_with_blanks_is_quoted_in_the_return_path_and_joined_in_the_from_line() -> None:
    found = environment_of(sender="a b@x.test")
    assert found["SENDER"] == "a b@x.test"
    assert found["RPLINE"] == 'Return-Path: <"a b"@x.test>\n'
    assert found["UFLINE"].startswith("From a-b@x.test Sun ")


@pytest.mark.parametrize("sender", ["() { :;}; touch /tmp/x@far.example", "{a@x", "`id`@x", "$HOME@x", "(x@y"])
def test_no_value_begins_as_a_shells_own_words_do(sender: str) -> None:
    found = environment_of(sender=sender, new_sender=sender, local=sender, ext=sender, host=sender, default=sender)
    assert not [name for name, value in found.items() if value[:1] in ("(", "{", "`", "$") and value]
    assert found["SENDER"] == f"_{sender}"
    assert found["RPLINE"].startswith("Return-Path: <")


def test_no_value_has_a_control_character_but_the_newline_that_ends_a_line() -> None:
    found = environment_of(sender="a\nb\0\x1b[2J\x7f@x", local="l\r\nX: y", host="h\0")
    for name, value in found.items():
        line = value.removesuffix("\n") if name in ("DTLINE", "RPLINE", "UFLINE") else value
        assert not [one for one in line if one < " " or one == "\x7f"], name
    assert found["SENDER"] == "a_b__[2J_@x"


def test_octets_above_127_are_the_senders_own() -> None:
    assert environment_of(sender="jörg@x.test")["SENDER"] == "jörg@x.test"
    assert environment_of(sender="j\udcff@x.test")["SENDER"] == "j\udcff@x.test"


def test_a_value_has_a_bounded_length() -> None:
    found = environment_of(sender="s" * 100_000, ext="e" * 100_000, host="h" * 100_000)
    assert max(map(len, found.values())) <= environment.VALUE_MAX_OCTETS + 1


def test_every_attempt_and_no_other_delivery_has_the_same_id() -> None:
    assert environment.delivery_id(JOB, 2) == environment.delivery_id(dataclasses.replace(JOB, done=(0, 1)), 2)
    assert environment.delivery_id(JOB, 1) != environment.delivery_id(JOB, 2)


@pytest.mark.parametrize(
    ("dash", "ext", "name", "default"),
    [
        ("", "", ".qmail", None),
        ("-", "a-b-c", ".qmail-a-b-c", None),
        ("-", "A-b-C", ".qmail-a-b-default", "C"),
        ("-", "a-b-C", ".qmail-a-default", "b-C"),
        ("-", "a-b-c", ".qmail-default", "a-b-c"),
        ("-", "a-", ".qmail-a-default", ""),
        ("-", "", ".qmail-default", ""),
        ("-", "a-Default", ".qmail-a-default", "Default"),
        ("-", "xdefault", ".qmail-xdefault", "default"),
        ("-", "a.b-C.d", ".qmail-a:b-default", "C.d"),
        ("-", "sevenxx", ".qmail-default", "sevenxx"),
        ("-list-", "who", ".qmail-list-default", "who"),
    ],
)
def test_default_is_what_the_word_default_stands_for(dash: str, ext: str, name: str, default: str | None) -> None:
    assert name in list(dotqmail.file_names(dash, ext))
    assert environment.default_part(dash, ext, name) == default
