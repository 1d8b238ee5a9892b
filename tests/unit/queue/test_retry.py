"""qmail's retry curve, in its own numbers (qmail-send(8); verified instants of the qmail reference, 2.5)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.routing import Channel
from services.queue import retry

BORN = 1_000_000_000_000
WEEK_S = 604_800


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


def test_a_message_from_the_future_is_of_age_zero_and_is_tried_again_soon() -> None:
    now = BORN - 10 * 365 * 86_400_000
    assert retry.next_attempt_ms(BORN, now, Channel.REMOTE, 1.0) == now + 400_000


@given(
    age_ms=st.integers(-(10**12), WEEK_S * 1_000),
    channel=st.sampled_from(list(Channel)),
    scale=st.sampled_from([1.0, 0.01, 0.002]),
)
def test_no_gap_of_a_living_message_is_longer_than_the_longest(age_ms: int, channel: Channel, scale: float) -> None:
    now = BORN + int(age_ms * scale)
    gap_ms = retry.next_attempt_ms(BORN, now, channel, scale) - now
    assert 0 < gap_ms <= retry.longest_gap_ms(channel, WEEK_S, scale)


def test_the_longest_gap_of_a_week_is_under_nine_hours() -> None:
    assert retry.longest_gap_ms(Channel.REMOTE, WEEK_S, 1.0) == pytest.approx(31_508_000, abs=1_000)


def test_a_try_that_is_written_too_far_ahead_comes_after_the_longest_gap() -> None:
    assert retry.not_after_gap(BORN + 10**12, BORN, 31_508_000) == BORN + 31_508_000
    assert retry.not_after_gap(BORN + 5, BORN, 31_508_000) == BORN + 5


def test_a_message_is_too_old_only_after_its_lifetime() -> None:
    assert not retry.is_too_old(BORN, BORN + 604_800_000, WEEK_S, 1.0)
    assert retry.is_too_old(BORN, BORN + 604_800_001, WEEK_S, 1.0)
