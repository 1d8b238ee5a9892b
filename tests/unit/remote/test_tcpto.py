"""qmail's rule about addresses that do not answer."""

from services.remote.tcpto import Tcpto

IP = "192.0.2.1"


def test_one_timeout_does_not_stop_the_mail() -> None:
    tcpto = Tcpto()
    tcpto.timed_out(IP, 0)
    assert not tcpto.is_skipped(IP, 1, 0)


def test_two_timeouts_apart_skip_the_address_for_an_hour_or_more() -> None:
    tcpto = Tcpto()
    tcpto.timed_out(IP, 0)
    tcpto.timed_out(IP, 119)
    assert not tcpto.is_skipped(IP, 119, 0)
    tcpto.timed_out(IP, 120)
    assert tcpto.is_skipped(IP, 120 + 64 * 60 - 1, 0)
    assert not tcpto.is_skipped(IP, 120 + 64 * 60, 0)
    assert tcpto.is_skipped(IP, 120 + (60 + 31) * 64 - 1, 255)
    assert not tcpto.is_skipped(IP, 120 + (60 + 31) * 64, 255)


def test_an_answer_of_any_kind_forgets_the_timeouts() -> None:
    tcpto = Tcpto()
    tcpto.timed_out(IP, 0)
    tcpto.timed_out(IP, 200)
    tcpto.answered(IP)
    tcpto.timed_out(IP, 400)
    assert not tcpto.is_skipped(IP, 400, 0)


def test_the_operator_can_have_all_forgotten() -> None:
    tcpto = Tcpto(scale=0.01)
    tcpto.timed_out(IP, 0)
    tcpto.timed_out(IP, 1.2)
    assert tcpto.is_skipped(IP, 2, 0)
    tcpto.forget()
    assert not tcpto.is_skipped(IP, 2, 0)


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    tcpto = Tcpto()
    for now in (0, 200):
        for number in range(1_001):
            tcpto.timed_out(f"10.0.{number // 256}.{number % 256}", now)
    assert len(tcpto) == 1_000
    assert not tcpto.is_skipped("10.0.0.0", 200, 0)
