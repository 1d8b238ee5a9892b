"""What the kernel says of memory, processes and descriptors."""

import subprocess
import sys

import pytest

from runtime import capacity
from services.local import warmth


def test_the_machine_has_some_of_everything() -> None:
    assert 64 << 20 < capacity.memory_octets() < 1 << 50
    assert 100 < capacity.processes() < 1 << 40
    assert capacity.descriptors() >= 64


def test_a_limit_of_the_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"/proc/meminfo": "MemTotal:  8000000 kB\n", capacity._MEMORY_LIMITS[0]: "1073741824\n"}
    said[capacity._PROCESS_LIMITS[0]] = "max\n"
    said[capacity._MACHINE_PROCESSES] = "32768\n"
    monkeypatch.setattr(capacity, "_read", lambda path: said.get(path, ""))
    assert capacity.memory_octets() == 1 << 30
    assert capacity.processes() == 32_768
    assert warmth.warm_max() == warmth.LEAST  # an eighth of a GiB is not enough for more


@pytest.mark.parametrize(("memory", "kept"), [(1 << 20, warmth.LEAST), (4 << 30, 170), (1 << 40, warmth.MOST)])
def test_as_many_children_are_kept_as_there_is_room_for(
    memory: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "memory_octets", lambda: memory)
    monkeypatch.setattr(capacity, "processes", lambda: 1 << 22)
    monkeypatch.setattr(capacity, "descriptors", lambda: 1 << 20)
    assert warmth.warm_max() == kept
    assert warmth.children_max() > kept


def test_all_descriptors_are_taken() -> None:
    program = (
        "import resource; from runtime import capacity;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 100));"
        "capacity.take_all_descriptors(); print(capacity.descriptors())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 100
