"""A wall clock that is set by ten years, there and back, under the running queue and between its lives.

The service's clock is libfaketime's, which leaves alone what nobody can set: CLOCK_BOOTTIME and CLOCK_MONOTONIC.
"""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from mail.outcome import Kind
from tests.conftest import missing
from tests.harness.queue_house import HOST, QueueHouse

OFFSETS = ("+3650d", "-3650d", "+3650d")

# A week of queuelifetime is ten minutes, the first wait of a local recipient a tenth of a second.
TIME_SCALE = "0.001"


def clock_library() -> str:
    """What Debian's package faketime preloads."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return str(found[0]) if found else missing("libfaketime", "apt-get install faketime")


@pytest.fixture
def set_clock(tmp_path: Path) -> Callable[[str], None]:
    """Sets the clock of the processes that look into tmp_path/clock."""

    def set_to(offset: str) -> None:
        draft = tmp_path / "draft"
        draft.write_text(f"{offset}\n")
        draft.rename(tmp_path / "clock")

    set_to("+0")
    return set_to


@pytest.mark.timeout(180)
async def test_the_queue_neither_bounces_nor_sleeps_when_its_clock_is_set(
    tmp_path: Path, set_clock: Callable[[str], None]
) -> None:
    house = QueueHouse(tmp_path / "state")
    house.extra = {
        "LD_PRELOAD": clock_library(),
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TIME_SCALE": TIME_SCALE,
    }
    try:
        await house.start()
        message = await house.accept(f"ann@{HOST}")
        for offset in OFFSETS:
            async with house.worker("local") as worker:  # comes while certificates are valid
                await worker.report(await worker.next(), Kind.DEFERRED)
                set_clock(offset)
                await worker.report(await worker.next(), Kind.DEFERRED)
            await house.end(signal.SIGKILL)
            await house.start()
            set_clock("+0")
        async with house.worker("local") as worker:
            await worker.report(await worker.next(), Kind.DELIVERED)
        assert await house.end() == 0
    finally:
        await house.end(signal.SIGKILL)
    words = [event["outcome"] for event in house.named("delivery")]
    assert words == ["deferral"] * 2 * len(OFFSETS) + ["success"]
    assert [event["msg"] for event in house.named("end msg")] == [message]
    assert not house.named("bounce msg")
    assert house.named("clock stepped")
