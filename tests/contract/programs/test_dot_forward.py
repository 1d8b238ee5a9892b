"""dot-forward with files that nobody meant well; what it does with others was recorded (tests/cases/programs)."""

import os
import subprocess
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[3] / "bin"
PROGRAM = str(BIN / "dot-forward")


def run(folder: Path, *words: str, content: bytes | None = None) -> tuple[int, bytes]:
    """Exit status and standard error; `content` is in the file `f`."""
    if content is not None:
        (folder / "f").write_bytes(content)
    told = {"PATH": os.environ["PATH"], "USER": "ann", "HOST": "d.test", "SEAPOST_CONTROL": str(folder)}
    words = (PROGRAM, *(words or ("f",)))
    ended = subprocess.run(words, cwd=folder, env=told, input=b"x\n", capture_output=True, timeout=20, check=False)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"<" * 32_000 + b">" * 32_000, id="brackets"),
        pytest.param(b"<>" * 32_000, id="empty addresses"),
        pytest.param(b"(" * 64_000, id="comments"),
        pytest.param(b'"' * 63_999, id="quotes"),
        pytest.param(b"\\" * 64_000, id="backslashes"),
        pytest.param(b"<a b c d e" * 6_000 + b">" * 2_000, id="phrases"),
        pytest.param(b"a:" * 16_000 + b";" * 16_000, id="groups"),
    ],
)
def test_a_file_takes_no_longer_than_its_length(tmp_path: Path, content: bytes) -> None:
    assert run(tmp_path, "-n", "f", content=content)[0] in (0, 99, 111)


def test_a_file_that_is_too_long_or_has_a_nul_is_not_obeyed(tmp_path: Path) -> None:
    long = b"# x\n" * 16_385
    assert run(tmp_path, content=long) == (111, b"dot-forward: fatal: unable to read f: file too big\n")
    assert run(tmp_path, content=long[4:]) == (0, b"")
    nul = b"dot-forward: fatal: unable to parse this line: bob\0@x\n\n"
    assert run(tmp_path, content=b'"|touch ran"\nbob\0@x\n') == (111, nul)
    assert not (tmp_path / "ran").exists()


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    assert run(tmp_path) == (0, b"")


def test_the_file_may_not_be_readable_and_neither_may_the_controls(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    assert run(tmp_path, "d") == (111, b"dot-forward: fatal: unable to read d: is a directory\n")
    (tmp_path / "me").mkdir()
    assert run(tmp_path, content=b"bob\n") == (111, b"dot-forward: fatal: unable to read controls: is a directory\n")
