"""A small file appears whole, durable and with its name, seen in the system calls themselves."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WRITE = "from runtime.durable import Disk; import sys; Disk().{}(sys.argv[1], b'content')"


def calls(strace: str, tmp_path: Path, method: str) -> list[str]:
    return traced(strace, tmp_path, WRITE.format(method), str(tmp_path / "in" / "file"))


def traced(strace: str, tmp_path: Path, code: str, path: str) -> list[str]:
    """The calls of some code that matter to durability, in order, with what they name."""
    record = tmp_path / "calls"
    command = [strace, "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,syncfs,rename,link,unlink", "-o", str(record)]
    subprocess.run([*command, sys.executable, "-c", code, path], check=True, timeout=60)
    found = re.findall(r"(\w+)\((?:\d+<)?(.*)\) += 0", record.read_text())
    return [f"{name} {what}" for name, what in found if str(tmp_path / "in") in what]


@pytest.fixture
def strace(program: Callable[[str], str]) -> str:
    return program("strace")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_a_new_file_is_synced_then_named_then_its_directory_is_synced(
    tmp_path: Path, folder: Path, strace: str
) -> None:
    done = calls(strace, tmp_path, "write_new_file")
    assert [one.split()[0] for one in done] == ["fsync", "link", "unlink", "fsync"]
    assert done[0].rstrip(">").endswith(".draft")
    assert done[-1].rstrip(">").endswith(str(folder))
    assert (folder / "file").read_bytes() == b"content"


def test_a_replaced_file_is_synced_then_renamed_then_its_directory_is_synced(
    tmp_path: Path, folder: Path, strace: str
) -> None:
    done = calls(strace, tmp_path, "replace_file")
    assert [one.split()[0] for one in done] == ["fsync", "rename", "fsync"]
    assert done[-1].rstrip(">").endswith(str(folder))
    assert (folder / "file").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("do", "call"),
    [
        ("d.sync_file(f)", "fsync"),
        ("d.sync_data(f)", "fdatasync"),
        ("d.sync_directory(p)", "fsync"),
        ("d.sync_filesystem(f)", "syncfs"),
    ],
)
def test_a_sync_is_the_system_call_that_it_says(tmp_path: Path, folder: Path, strace: str, do: str, call: str) -> None:
    code = f"import os, sys; from runtime.durable import Disk; d = Disk(); p = sys.argv[1]; f = os.open(p, 0); {do}"
    assert [one.split()[0] for one in traced(strace, tmp_path, code, str(folder))] == [call]
