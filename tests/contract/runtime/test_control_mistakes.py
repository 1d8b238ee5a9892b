"""Every service names all of its wrong control files at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.clock import SystemClock
from runtime.config import ConfigError
from runtime.controls import Controls
from runtime.events import Events
from services.local.config import Rules
from services.queue.config import read_rules
from services.remote.config import RemoteControls
from services.smtpd.controls import CurrentRules

Read = Callable[[str], object]

CASES: dict[str, tuple[Read, set[str]]] = {
    "smtpd": (
        lambda directory: CurrentRules(directory, SystemClock(), Events("smtpd-0", SystemClock())),
        {"me", "databytes", "timeoutsmtpd", "concurrencyincoming", "concurrencyperip"},
    ),
    "queue": (lambda directory: read_rules(Controls(directory), 1.0), {"me", "queuelifetime", "delaywarning"}),
    "local": (Rules, {"me", "concurrencylocal"}),
    "remote": (
        lambda directory: RemoteControls.read(Controls(directory)),
        {"me", "helohost", "timeoutconnect", "timeoutremote", "concurrencyremote"},
    ),
}


@pytest.mark.parametrize("service", CASES)
def test_every_wrong_control_file_is_named_at_once(service: str, tmp_path: Path) -> None:
    read, wrong = CASES[service]
    for name in wrong - {"me"}:
        (tmp_path / name).write_text("no number\n")
    with pytest.raises(ConfigError) as refused:
        read(str(tmp_path))
    said = "\n".join(refused.value.mistakes)
    assert {name for name in wrong if f"/{name}: " in said} == wrong
