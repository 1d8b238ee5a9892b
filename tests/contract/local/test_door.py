"""The directory of the submission socket, as programs on the host of a container find it."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.config import load
from services.local.config import LocalConfig
from services.local.door import CONTROL, Door

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def submit(tmp_path: Path) -> Path:
    for name in ("control", "submit"):
        (tmp_path / name).mkdir()
    (tmp_path / "control/me").write_text("mail.example\n")
    (tmp_path / "control/secret").write_text("not for programs\n")
    return tmp_path / "submit"


@pytest.fixture
def tight_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def opened(submit: Path) -> None:
    environment = {
        "QUEUE_ADDRS": "127.0.0.1:1",
        "CONTROL_DIR": str(submit.parent / "control"),
        "SUBMIT_DIR": str(submit),
        "INSTANCE": "local-0",
    }
    door = Door()
    door.open(load(LocalConfig, environment))
    assert door.sock
    door.sock.close()


@pytest.mark.usefixtures("tight_umask")
def test_programs_find_copies_of_the_control_files_that_they_read(submit: Path) -> None:
    opened(submit)
    assert sorted(os.listdir(submit / CONTROL)) == ["me"]
    assert (submit / CONTROL / "me").stat().st_mode & 0o777 == 0o644
    assert (submit / CONTROL).stat().st_mode & 0o777 == 0o755
    checkout = submit.parent / "elsewhere"  # where no stack ever ran
    checkout.mkdir()
    for room in ("programs", "mail", "runtime"):
        (checkout / room).symlink_to(ROOT / room)
    environment = {"SEAPOST_SOCKET_DIR": str(submit), "PATH": os.environ["PATH"]}
    found = subprocess.run(
        ["python3", "-c", f"import programs.place as p; p.CHECKOUT = {str(checkout)!r}; print(p.control())"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(submit / CONTROL)


def test_a_control_file_that_is_gone_is_gone_after_the_next_start(submit: Path) -> None:
    (submit.parent / "control/defaultdomain").write_text("example\n")
    opened(submit)
    (submit.parent / "control/defaultdomain").unlink()
    (submit.parent / "control/me").write_text("other.example\n")
    opened(submit)
    assert sorted(os.listdir(submit / CONTROL)) == ["me"]
    assert (submit / CONTROL / "me").read_text() == "other.example\n"
