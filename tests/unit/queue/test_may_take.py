"""The whole rule of when a log may be taken from its owner."""

import pytest

from services.queue.fence import LEASE_MS, RENEW_S, Lease
from services.queue.ownership import HEARTBEAT_S, STILL_S, STILL_WITHOUT_REDIS_S, may_take


@pytest.mark.parametrize("lease", Lease)
def test_a_free_lock_means_that_the_owner_is_dead(lease: Lease) -> None:
    assert may_take(True, lease, 0.0)


def test_a_lease_protects_however_long_the_heart_stands_still() -> None:
    assert not may_take(False, Lease.HELD, STILL_WITHOUT_REDIS_S * 10)


def test_without_a_lease_the_heart_must_have_stood_still() -> None:
    assert not may_take(False, Lease.ABSENT, STILL_S - 0.1)
    assert may_take(False, Lease.ABSENT, STILL_S)


def test_without_redis_the_heart_must_have_stood_still_for_longer() -> None:
    assert not may_take(False, Lease.UNREACHABLE, STILL_WITHOUT_REDIS_S - 0.1)
    assert may_take(False, Lease.UNREACHABLE, STILL_WITHOUT_REDIS_S)


def test_the_times_are_those_of_the_design() -> None:
    assert (HEARTBEAT_S, STILL_S, STILL_WITHOUT_REDIS_S) == (1.0, 8.0, 60.0)
    assert RENEW_S * 2 < LEASE_MS / 1_000 <= STILL_S, "an owner whose renewal is late once is not taken for gone"
