"""A small file appears whole, durable and with its name, seen in the system calls themselves."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WRITE = "from runtime.durable import Disk; import sys; Disk().{}(sys.argv[1], b'content')"


def calls(tmp_path: Path, method: str) -> list[str]:
    """The calls that matter to durability, in order, with what they name."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is missing: apt-get install strace")
    record = tmp_path / "calls"
    command = [strace, "-f", "-qq", "-y", "-e", "trace=fsync,fdatasync,rename,link,unlink", "-o", str(record)]
    subprocess.run(
        [*command, sys.executable, "-c", WRITE.format(method), str(tmp_path / "in" / "file")], check=True, timeout=60
    )
    found = re.findall(r"(\w+)\((?:\d+<)?(.*)\) += 0", record.read_text())
    return [f"{name} {what}" for name, what in found if str(tmp_path / "in") in what]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_a_new_file_is_synced_then_named_then_its_directory_is_synced(tmp_path: Path, folder: Path) -> None:
    done = calls(tmp_path, "write_new_file")
    assert [one.split()[0] for one in done] == ["fsync", "link", "unlink", "fsync"]
    assert done[0].rstrip(">").endswith(".draft")
    assert done[-1].rstrip(">").endswith(str(folder))
    assert (folder / "file").read_bytes() == b"content"


def test_a_replaced_file_is_synced_then_renamed_then_its_directory_is_synced(tmp_path: Path, folder: Path) -> None:
    done = calls(tmp_path, "replace_file")
    assert [one.split()[0] for one in done] == ["fsync", "rename", "fsync"]
    assert done[-1].rstrip(">").endswith(str(folder))
    assert (folder / "file").read_bytes() == b"content"
