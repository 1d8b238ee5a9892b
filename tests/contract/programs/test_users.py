"""qmail-newu and qmail-pw2u as they are called. What is expected was seen with compiled notqmail."""

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from mail import assign

BIN = Path(__file__).resolve().parents[3] / "bin"
ASSIGN = b"""\
=joe:joe:1001:100:/home/joe:::
+joe-:joe:1001:100:/home/joe:-::
+Joe-LisT:list:1002:100:/home/list:-:pre-:more:stuff
xodd:odd:1005:100:/home/odd:-:odd:
=joe:other:1004:100:/home/other:::
+:alias:7790:2108:/var/qmail/alias:-::
.
never read
"""
ASSIGN_CDB = "6a1123654a80876ab414ec5c087b47d8d0ab1f1ee5d3cf50f33a4d45162829cb"


def call(users: Path, program: str, *words: str, told: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "SEAPOST_USERS": str(users)}
    return subprocess.run(
        [BIN / program, *words], input=told, env=environment, capture_output=True, timeout=30, check=False
    )


@pytest.fixture
def users(tmp_path: Path) -> Path:
    folder = tmp_path / "users"
    folder.mkdir()
    return folder


def test_newu_makes_the_very_cdb_that_qmail_newu_made(users: Path) -> None:
    (users / "assign").write_bytes(ASSIGN)
    done = call(users, "qmail-newu")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert hashlib.sha256((users / "cdb").read_bytes()).hexdigest() == ASSIGN_CDB
    assert (users / "cdb").stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(users)) == ["assign", "cdb"]


@pytest.mark.parametrize(
    "text", [b"", ASSIGN.partition(b"\n.")[0], b"=joe:joe:1:1:/::\n.\n", b"\n.\n", b"=j\0:j:1:1:/:::\n.\n"]
)
def test_newu_refuses_what_is_not_whole_and_leaves_the_old_cdb(users: Path, text: bytes) -> None:
    (users / "assign").write_bytes(text)
    (users / "cdb").write_bytes(b"old")
    done = call(users, "qmail-newu")
    assert (done.returncode, done.stderr) == (111, b"qmail-newu: fatal: bad format in users/assign\n")
    assert (users / "cdb").read_bytes() == b"old"


def test_newu_says_what_is_in_its_way(users: Path) -> None:
    def said() -> tuple[int, bytes]:
        done = call(users, "qmail-newu")
        return done.returncode, done.stderr.removeprefix(b"qmail-newu: fatal: ")

    assert said() == (111, b"unable to open users/assign\n")
    (users / "assign").mkdir()
    assert said()[0] == 111
    (users / "assign").rmdir()
    (users / "assign").write_bytes(ASSIGN)
    (users / "cdb.tmp").mkdir()
    assert said() == (111, b"unable to open users/cdb.tmp\n")
    (users / "cdb.tmp").rmdir()
    (users / "cdb").mkdir()
    assert said() == (111, b"unable to move users/cdb.tmp to users/cdb\n")
    assert sorted(os.listdir(users)) == ["assign", "cdb"]
    missing = call(users / "no" / "users", "qmail-newu")
    assert (missing.returncode, missing.stderr) == (111, b"qmail-newu: fatal: unable to chdir\n")


PASSWD = b"""\
root:x:0:0:root:/root:/bin/bash
alias:x:7790:2108::/nowhere/alias:/bin/true
ann:x:1001:100:Ann:/home/ann:/bin/sh
Bob:x:1002:100:Bob:/home/bob:/bin/sh
broken:x:1003:100
"""
ALIAS_LINES = b"""\
+:alias:7790:2108:/nowhere/alias:-::
=alias:alias:7790:2108:/nowhere/alias:::
+alias-:alias:7790:2108:/nowhere/alias:-::
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-H",), b"=ann:ann:1001:100:/home/ann:::\n+ann-:ann:1001:100:/home/ann:-::\n"),
        (
            ("-Hu",),
            b"=ann:ann:1001:100:/home/ann:::\n+ann-:ann:1001:100:/home/ann:-::\n"
            b"=Bob:Bob:1002:100:/home/bob:::\n+Bob-:Bob:1002:100:/home/bob:-::\n",
        ),
    ],
)
def test_pw2u_writes_two_lines_for_each_person(users: Path, words: tuple[str, ...], expected: bytes) -> None:
    done = call(users, "qmail-pw2u", *words, told=PASSWD)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == ALIAS_LINES + expected + b".\n"
    assert assign.parse(done.stdout).find("Ann-List") is not None


def test_pw2u_has_other_break_characters_and_slashes(users: Path) -> None:
    alias = b"alias:x:7790:2108::/a:/bin/true\n"
    assert call(users, "qmail-pw2u", "-H/", "-c+", told=alias).stdout == (
        b"+:alias:7790:2108:/a:-/::\n=alias:alias:7790:2108:/a:::\n+alias+:alias:7790:2108:/a:-/::\n.\n"
    )
    assert call(users, "qmail-pw2u", "-HC", told=alias).stdout == (
        b"+:alias:7790:2108:/a:-::\n=alias:alias:7790:2108:/a:::\n.\n"
    )


def test_pw2u_obeys_the_lists_beside_assign(users: Path) -> None:
    (users / "include").write_bytes(b"# who\nALIAS\nann  \n")
    (users / "mailnames").write_bytes(b"ann:not:this\nann:a.nn::ann\n")
    (users / "subusers").write_bytes(b"list:ann:l:\nignored\n")
    (users / "append").write_bytes(b"=last:x:1:1:/:::\n")
    done = call(users, "qmail-pw2u", "-Hu", told=PASSWD)
    assert done.stdout == ALIAS_LINES + (
        b"=a.nn:ann:1001:100:/home/ann:::\n+a.nn-:ann:1001:100:/home/ann:-::\n"
        b"=ann:ann:1001:100:/home/ann:::\n+ann-:ann:1001:100:/home/ann:-::\n"
        b"=list:ann:1001:100:/home/ann:-:l:\n+list-:ann:1001:100:/home/ann:-:l-:\n"
        b"=last:x:1:1:/:::\n.\n"
    )
    (users / "exclude").write_bytes(b"Ann\n")
    (users / "subusers").unlink()
    assert b"ann" not in call(users, "qmail-pw2u", "-Hu", told=PASSWD).stdout


def test_pw2u_looks_for_homes(users: Path, tmp_path: Path) -> None:
    own, uid = str(tmp_path), tmp_path.stat().st_uid or 1_001
    if not tmp_path.stat().st_uid:
        os.chown(tmp_path, uid, uid)
    told = (
        f"alias:x:{uid}:1::{own}:\nann:x:{uid}:1::{own}:\nbob:x:{uid + 1}:1::{own}:\ncat:x:{uid}:1::{own}/no:\n"
    ).encode()
    done = call(users, "qmail-pw2u", told=told)
    assert b"=ann:" in done.stdout
    assert b"=bob:" not in done.stdout
    assert b"=cat:" not in done.stdout
    stopped = call(users, "qmail-pw2u", "-h", told=told)
    assert (stopped.returncode, stopped.stdout) == (111, b"")
    assert stopped.stderr == f"qmail-pw2u: fatal: unable to stat {own}/no\n".encode()


@pytest.mark.parametrize(
    ("words", "told", "subusers", "status", "said"),
    [
        (("-H",), b"ann:x:1001:100::/home/ann:/bin/sh\n", b"", 111, b"qmail-pw2u: fatal: unable to find alias user\n"),
        (("-H",), PASSWD, b"x:joe:p:\n", 111, b"qmail-pw2u: fatal: unable to find joe user for subuser\n"),
        (("-x",), PASSWD, b"", 100, b"qmail-pw2u: illegal option -- x\n"),
        (("-c",), PASSWD, b"", 100, b"qmail-pw2u: option requires an argument -- c\n"),
    ],
)
def test_pw2u_writes_nothing_when_it_cannot_write_all(
    users: Path, words: tuple[str, ...], told: bytes, subusers: bytes, status: int, said: bytes
) -> None:
    (users / "subusers").write_bytes(subusers)
    done = call(users, "qmail-pw2u", *words, told=told)
    assert (done.returncode, done.stdout, done.stderr) == (status, b"", said)
