"""The control files: defaults, mistakes, changes while running."""

import json
import os
from pathlib import Path

import pytest

from mail.limits import MESSAGE_MAX_OCTETS
from runtime.clock import SystemClock
from runtime.config import ConfigError
from runtime.events import Events
from services.smtpd.controls import CurrentRules


class Clock(SystemClock):
    """The machine's clock, set forward by hand."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Place:
    """A control directory and the rules read from it."""

    def __init__(self, directory: Path) -> None:
        self.control = directory / "control"
        self.log = directory / "log"
        self.control.mkdir()
        self.log.mkdir()
        (self.control / "me").write_text("mail.example.test\n")
        self.clock = Clock()
        self.events = Events("smtpd-0", self.clock, directory=str(self.log))

    def rules(self) -> CurrentRules:
        return CurrentRules(str(self.control), self.clock, self.events)

    def names(self) -> list[str]:
        self.events.flush()
        return [json.loads(line)["event"] for file in self.log.iterdir() for line in file.read_text().splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_every_file_but_me_has_a_default(place: Place) -> None:
    rules = place.rules().now()
    assert rules.greeting == rules.localiphost == rules.me == "mail.example.test"
    assert rules.rcpthosts is None
    assert rules.databytes == MESSAGE_MAX_OCTETS
    assert rules.timeout_s == 1_200
    assert rules.peers.find("127.0.0.1").variables == {}


def test_what_the_files_say(place: Place) -> None:
    for name, text in {
        "smtpgreeting": "mail.example.test no spam please\n",
        "rcpthosts": "# ours\nExample.TEST\n.sub.test  \n",
        "morercpthosts": "more.test\n",
        "badmailfrom": "Bad@Example.test\n@spam.test",
        "databytes": "1000 octets\n",
        "timeoutsmtpd": "0\n",
        "concurrencyincoming": "7\n",
        "tcp.smtp": '127.:allow,RELAYCLIENT=""\n',
    }.items():
        (place.control / name).write_text(text)
    rules = place.rules().now()
    assert rules.greeting == "mail.example.test no spam please"
    assert rules.rcpthosts == frozenset({"example.test", ".sub.test", "more.test"})
    assert rules.badmailfrom == {"bad@example.test", "@spam.test"}
    assert (rules.databytes, rules.timeout_s, rules.connections) == (1_000, 1, 7)
    assert rules.peers.find("127.0.0.1").variables == {"RELAYCLIENT": ""}


def test_every_mistake_is_named_at_once_with_file_and_line(place: Place) -> None:
    (place.control / "me").write_text("\n")
    (place.control / "tcp.smtp").write_text("127.:allow\n10.:alow\n")
    (place.control / "rcpthosts").write_bytes(b"\xff\n")
    with pytest.raises(ConfigError) as caught:
        place.rules()
    assert [mistake.split(":")[0].rpartition("/")[2] for mistake in caught.value.mistakes] == [
        "me",
        "rcpthosts",
        "tcp.smtp",
    ]
    assert ": line 2: " in caught.value.mistakes[2]


def test_a_greeting_cannot_hold_a_line_of_its_own(place: Place) -> None:
    (place.control / "smtpgreeting").write_text("mail\x1b[2J")
    with pytest.raises(ConfigError, match="smtpgreeting"):
        place.rules()


def test_morercpthosts_alone_opens_nothing(place: Place) -> None:
    (place.control / "morercpthosts").write_text("more.test\n")
    assert place.rules().now().rcpthosts is None


def test_a_change_counts_after_a_second_or_at_once_when_asked(place: Place) -> None:
    current = place.rules()
    (place.control / "rcpthosts").write_text("a.test\n")
    assert current.now().rcpthosts is None
    current.look()
    assert current.now().rcpthosts == frozenset({"a.test"})
    (place.control / "rcpthosts").unlink()
    place.clock.ahead = 1.1
    assert current.now().rcpthosts is None


def test_a_mistake_while_running_changes_nothing_and_is_an_alert(place: Place) -> None:
    (place.control / "rcpthosts").write_text("a.test\n")
    current = place.rules()
    (place.control / "tcp.smtp").write_text(":alow\n")
    (place.control / "rcpthosts").write_text("b.test\n")
    current.look()
    assert current.now().rcpthosts == frozenset({"a.test"})
    assert place.names() == ["alert"]
    (place.control / "tcp.smtp").write_text(":allow\n")
    current.look()
    assert current.now().rcpthosts == frozenset({"b.test"})


def test_a_line_that_can_never_match_is_a_warning(place: Place) -> None:
    (place.control / "tcp.smtp").write_text("192.168.1:deny\n")
    place.rules()
    assert place.names() == ["warning"]


def test_a_fifo_for_a_control_file_is_a_mistake_and_not_a_wait(place: Place) -> None:
    os.mkfifo(place.control / "badmailfrom")
    with pytest.raises(ConfigError, match="badmailfrom: is a FIFO"):
        place.rules()
