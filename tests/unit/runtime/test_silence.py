"""What a worker may still end after its queue was silent."""

from runtime.silence import LAPSE_S, Silence

LOG = "0a1b2c3d"
PATIENCE_S = 20.0


def test_what_was_begun_waits_for_a_word_and_then_goes_on() -> None:
    silence = Silence(PATIENCE_S)
    assert silence.is_bearable(LOG, heard_at=100.0, begun_at=90.0, now=119.0)
    assert not silence.is_bearable(LOG, heard_at=100.0, begun_at=90.0, now=120.0)
    silence.end([LOG], 100.0, 121.0)
    assert silence.is_bearable(LOG, heard_at=121.0, begun_at=90.0, now=121.0)


def test_after_too_long_a_word_is_too_late_for_what_was_begun_before() -> None:
    silence = Silence(PATIENCE_S)
    silence.end([LOG], 100.0, 100.0 + LAPSE_S)
    assert not silence.is_bearable(LOG, heard_at=125.0, begun_at=99.0, now=125.0)
    assert silence.is_bearable(LOG, heard_at=125.0, begun_at=125.0, now=126.0)


def test_the_time_without_any_owner_counts() -> None:
    silence = Silence(PATIENCE_S)
    silence.begin([LOG], 100.0)
    assert silence.is_bearable(LOG, heard_at=None, begun_at=90.0, now=119.0)
    silence.end([LOG], None, 130.0)
    assert not silence.is_bearable(LOG, heard_at=130.0, begun_at=90.0, now=130.0)


def test_of_a_log_that_nobody_ever_spoke_for_nothing_is_ended() -> None:
    assert not Silence(PATIENCE_S).is_bearable(LOG, heard_at=None, begun_at=90.0, now=91.0)
