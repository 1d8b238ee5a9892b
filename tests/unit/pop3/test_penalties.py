"""Who waits how long before a password is checked."""

import pytest

from services.pop3 import penalties
from services.pop3.penalties import DELAYS_S, FORGET_S, Penalties


class SetClock:
    """A clock that is set."""

    def __init__(self, scale: float = 1.0) -> None:
        self.now_s = 1_000.0
        self._scale = scale

    def wall_ms(self) -> int:
        return int(self.now_s * 1_000)

    def boot_ms(self) -> int:
        return self.wall_ms()

    def steady_ms(self) -> int:
        return self.wall_ms()

    def monotonic(self) -> float:
        return self.now_s

    def scaled(self, seconds: float) -> float:
        return seconds * self._scale


class NoChance:
    def octets(self, count: int) -> bytes:
        return bytes(count)


def fresh(scale: float = 1.0) -> tuple[Penalties, SetClock]:
    clock = SetClock(scale)
    return Penalties(clock, NoChance()), clock


def test_each_wrong_password_makes_the_next_wait_longer_up_to_a_limit() -> None:
    held, _ = fresh()
    waits = []
    for number in range(7):
        waits.append(held.delay_s("192.0.2.1", b"ann"))
        held.failed("192.0.2.1", b"ann", b"%d" % number)
    assert waits == [*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]]


def test_a_network_waits_whatever_names_it_tries() -> None:
    held, _ = fresh()
    held.failed("192.0.2.1", b"ann", b"x")
    assert held.delay_s("192.0.2.1", b"bob") == 2.0
    assert held.delay_s("192.0.2.2", b"bob") == 0.0


def test_an_account_waits_wherever_it_is_tried_from() -> None:
    held, _ = fresh()
    for number in range(9):
        held.failed(f"192.0.2.{number}", b"ann", b"%d" % number)
    assert held.delay_s("198.51.100.1", b"ann") == DELAYS_S[-1]


def test_the_owner_does_not_wait_where_the_owner_logged_in_before() -> None:
    held, _ = fresh()
    held.succeeded("198.51.100.1", b"ann")
    for number in range(9):
        held.failed(f"192.0.2.{number}", b"ann", b"%d" % number)
    assert held.delay_s("198.51.100.1", b"ann") == 0.0


def test_the_same_wrong_pair_again_counts_once() -> None:
    held, _ = fresh()
    for _ in range(5):
        held.failed("192.0.2.1", b"ann", b"old password")
    assert held.delay_s("192.0.2.1", b"ann") == 2.0


def test_a_right_password_frees_the_network() -> None:
    held, _ = fresh()
    held.failed("192.0.2.1", b"bob", b"x")
    held.succeeded("192.0.2.1", b"ann")
    assert held.delay_s("192.0.2.1", b"ann") == 0.0


def test_failures_are_forgotten_in_time() -> None:
    held, clock = fresh()
    held.failed("192.0.2.1", b"ann", b"x")
    clock.now_s += FORGET_S + 1
    assert held.delay_s("192.0.2.1", b"ann") == 0.0
    held.failed("192.0.2.1", b"ann", b"x")
    assert held.delay_s("192.0.2.1", b"ann") == 2.0


def test_delays_are_scaled() -> None:
    held, _ = fresh(scale=0.01)
    held.failed("192.0.2.1", b"ann", b"x")
    assert held.delay_s("192.0.2.1", b"ann") == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("fe80::1%eth0", "fe80::2%eth0")],
)
def test_addresses_of_one_network_wait_together(one: str, other: str) -> None:
    held, _ = fresh()
    held.failed(one, b"ann", b"x")
    assert held.delay_s(other, b"bob") == 2.0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalties, "REMEMBERED_MAX", 10)
    held, _ = fresh()
    for number in range(50):
        held.failed(f"192.0.2.{number}", b"user%d" % number, b"x")
        held.succeeded(f"198.51.100.{number}", b"user%d" % number)
    assert len(held._failures) <= 10
    assert len(held._known) <= 10
