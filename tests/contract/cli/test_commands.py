"""bin/seapost as a process: every error is a line that names the fix, with the exit status that scripts rely on."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from mail.ids import child_id, make_id

SEAPOST = Path(__file__).resolve().parents[3] / "bin" / "seapost"
ONE = make_id(1_795_361_237_000, b"0123456789")
CHILD = child_id(ONE, 0, 1, "a@b.test")


def seapost(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return seapost_in(None, *words, **environ)


def seapost_in(directory: Path | None, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.endswith(("_PORT", "_DIR", "_ADDRS"))}
    done = subprocess.run(
        (str(SEAPOST), *words),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=clean | environ,
        cwd=directory,
    )
    assert "Traceback" not in done.stderr
    return done


def write_events(state: Path, service: str, day: str, *records: dict[str, object]) -> None:
    directory = state / "log" / "events" / service
    directory.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"service": f"{service}-0", **record}, separators=(",", ":")) for record in records]
    (directory / f"{service}-0.{day}.jsonl").write_text("\n".join(lines) + '\n{"time":"torn')


@pytest.mark.parametrize(
    "words", [("status",), ("queue", "list"), ("queue", "list", "--json"), ("queue", "wait-idle", "--timeout", "1")]
)
def test_a_question_without_a_stack_says_how_to_start_one(words: tuple[str, ...], tmp_path: Path) -> None:
    asked = seapost(*words, "--state", str(tmp_path))
    assert asked.returncode == 75
    assert asked.stderr == (
        f"seapost: {tmp_path}: no stack runs there: start it with `bin/seapost up`, or name it with --state DIR\n"
    )


def test_a_queue_that_does_not_answer_is_named(tmp_path: Path) -> None:
    assert seapost("certs", "--state", str(tmp_path)).returncode == 0
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{nobody.getsockname()[1]}"
        asked = seapost("queue", "wait-idle", "--timeout", "0.1", SEAPOST_STATE=str(tmp_path), QUEUE_ADDRS=where)
    assert asked.returncode == 1
    assert f"the queue at {where} does not answer" in asked.stderr


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    asked = seapost("up", "--state", str(tmp_path), SMTP_PORT="smtp", LOG_FORMAT="xml", MAIL_NAME="a b")
    assert asked.returncode == 78
    named = [line.split()[3].partition("=")[0] for line in asked.stderr.splitlines()]
    assert named == ["MAIL_NAME", "SMTP_PORT", "LOG_FORMAT"]
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        asked = seapost("up", "--state", str(tmp_path), SMTP_PORT=port, POP3_PORT="0", METRICS_PORT="0")
    assert asked.returncode == 78
    assert f"SMTP_PORT={port}: cannot listen at 127.0.0.1:{port}" in asked.stderr


def test_a_trace_tells_the_story_of_a_message_and_its_bounce(tmp_path: Path) -> None:
    write_events(
        tmp_path,
        "queue",
        "20261122",
        {"time": "2026-11-22T15:27:18.000Z", "event": "bounce msg", "msg": ONE, "bounce": CHILD},
        {"time": "2026-11-22T15:27:18.001Z", "event": "new msg", "msg": CHILD},
        {"time": "2026-11-22T15:27:18.002Z", "event": "new msg", "msg": make_id(1_795_361_237_000, b"somebodys!")},
    )
    write_events(
        tmp_path, "smtpd", "20261122", {"time": "2026-11-22T15:27:17.000Z", "event": "accepted", "msg": ONE, "bytes": 5}
    )
    write_events(tmp_path, "smtpd", "20260101", {"time": "2026-01-01T00:00:00.000Z", "event": "too old", "msg": ONE})
    asked = seapost("trace", ONE, "--state", str(tmp_path))
    assert asked.stdout.splitlines() == [
        f"2026-11-22T15:27:17.000Z smtpd-0 accepted: msg={ONE} bytes=5",
        f"2026-11-22T15:27:18.000Z queue-0 bounce msg: msg={ONE} bounce={CHILD}",
        f"2026-11-22T15:27:18.001Z queue-0 new msg: msg={CHILD}",
    ]
    as_json = seapost("trace", "--json", ONE, "--state", str(tmp_path)).stdout.splitlines()
    assert [json.loads(line)["event"] for line in as_json] == ["accepted", "bounce msg", "new msg"]


def test_a_trace_of_nothing_is_refused(tmp_path: Path) -> None:
    assert seapost("trace", "message-7", "--state", str(tmp_path)).returncode == 2
    assert seapost("trace", ONE, "--state", str(tmp_path)).returncode == 1


def test_a_relative_state_directory_is_the_callers(tmp_path: Path) -> None:
    made = seapost_in(tmp_path, "init", "--state", "stack", MAIL_NAME="mail.example.test")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "stack" / "control" / "me").read_text() == "mail.example.test\n"
    assert seapost_in(tmp_path, "doctor", "--state", "stack").stdout


def test_init_makes_directories_where_the_environment_says(tmp_path: Path) -> None:
    places = {f"{name}_DIR": str(tmp_path / name.lower()) for name in ("CONTROL", "ALIAS", "USERS", "SPOOL", "TLS")}
    made = seapost("init", SEAPOST_STATE=str(tmp_path / "state"), MAIL_NAME="mail.example.test", **places)
    assert made.returncode == 0, made.stderr
    assert all(os.listdir(places[f"{name}_DIR"]) for name in ("CONTROL", "ALIAS", "TLS"))
    assert sorted(os.listdir(tmp_path / "state")) == ["accounts", "demo.password", "homes", "log", "run"]


def test_config_fast_says_what_qmails_said(tmp_path: Path) -> None:
    said = seapost("config-fast", "mail.example.test", "--state", str(tmp_path)).stdout.splitlines()
    assert said[0] == "Your fully qualified host name is mail.example.test."
    assert "Putting example.test into control/defaultdomain..." in said
    assert seapost("config-fast", "no name", "--state", str(tmp_path)).returncode == 1


def test_doctor_names_an_assign_that_is_not_whole(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "assign").write_text("=joe:joe:1001:100:/home/joe:::\n")
    assert (
        f"{tmp_path}/users/assign: the last line, a `.`, is missing"
        in seapost("doctor", "--state", str(tmp_path)).stdout
    )
