"""qmail's retry curve, in its own numbers (qmail-send(8); verified instants of the qmail reference, 2.5)."""

import pytest

from mail.routing import Channel
from services.queue import retry

BORN = 1_000_000_000_000


def instants(channel: Channel, count: int, scale: float = 1.0) -> list[float]:
    """The ages in seconds at which tries stand when each starts exactly when it is due."""
    now, ages = BORN, []
    for _ in range(count):
        now = retry.next_attempt_ms(BORN, now, channel, scale)
        ages.append((now - BORN) / 1_000)
    return ages


def test_local_tries_follow_the_curve() -> None:
    assert instants(Channel.LOCAL, 8) == [100, 400, 900, 1600, 2500, 3600, 4900, 6400]


def test_remote_tries_follow_the_curve() -> None:
    assert instants(Channel.REMOTE, 8) == [400, 1600, 3600, 6400, 10000, 14400, 19600, 25600]


def test_a_scaled_curve_is_the_same_curve() -> None:
    assert instants(Channel.REMOTE, 4, scale=0.01) == pytest.approx([4, 16, 36, 64])


def test_a_clock_that_jumped_back_counts_as_age_zero() -> None:
    assert retry.next_attempt_ms(BORN, BORN - 10_000_000, Channel.REMOTE, 1.0) == BORN + 400_000


def test_a_message_is_too_old_only_after_its_lifetime() -> None:
    assert not retry.is_too_old(BORN, BORN + 604_800_000, 604_800, 1.0)
    assert retry.is_too_old(BORN, BORN + 604_800_001, 604_800, 1.0)
