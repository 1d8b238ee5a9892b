"""What remote is told is refused early when it is wrong, all mistakes at once."""

from pathlib import Path

import pytest

from runtime.config import Address, ConfigError, load
from runtime.controls import Controls
from services.remote.config import SLOTS_MAX, RemoteConfig, RemoteControls


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        load(RemoteConfig, {"DNS_SERVERS": "nonsense", "REMOTE_SMTP_PORT": "x", "REMOTE_ALLOW_NETS": "10.0.0.1/8"})
    said = "\n".join(refused.value.mistakes)
    for name in ("QUEUE_ADDRS", "DNS_SERVERS", "REMOTE_SMTP_PORT", "REMOTE_ALLOW_NETS"):
        assert f"environment variable {name}" in said


def test_what_is_not_said_is_as_in_qmail(tmp_path: Path) -> None:
    config = load(RemoteConfig, {"QUEUE_ADDRS": "127.0.0.1:5700"})
    assert config.queue_addrs == (Address("127.0.0.1", 5700),)
    assert (config.dns_servers, config.smtp_port, config.allow_nets) == ((), 25, ())
    (tmp_path / "me").write_text("Mail.Example.ORG\n")
    said = RemoteControls.read(Controls(str(tmp_path)))
    assert said == RemoteControls("mail.example.org", "Mail.Example.ORG", {}, 60, 1_200, 20)


def test_control_files_are_read_and_bounded(tmp_path: Path) -> None:
    for name, text in {
        "me": "a.example",
        "helohost": "b.example",
        "concurrencyremote": "100000",
        "timeoutconnect": "5",
        "timeoutremote": "7",
        "smtproutes": ":relay.example:26\n",
    }.items():
        (tmp_path / name).write_text(text)
    said = RemoteControls.read(Controls(str(tmp_path)))
    assert said == RemoteControls("a.example", "b.example", {"": "relay.example:26"}, 5, 7, SLOTS_MAX)


@pytest.mark.parametrize("helohost", ["bücher.example", "a b", "a\x7fb"])
def test_a_helohost_that_is_no_name_is_refused(tmp_path: Path, helohost: str) -> None:
    (tmp_path / "me").write_text("a.example")
    (tmp_path / "helohost").write_text(helohost)
    with pytest.raises(ConfigError, match="no host name"):
        RemoteControls.read(Controls(str(tmp_path)))
