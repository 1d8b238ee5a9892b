"""Addresses inside our own walls are out of reach unless the operator names them."""

import pytest

from services.remote.nets import is_loopback, may_reach, networks

FORBIDDEN = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "10.1.2.3",
    "172.17.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::127.0.0.1",
    "64:ff9b::a9fe:a9fe",
]


@pytest.mark.parametrize("ip", FORBIDDEN)
def test_addresses_that_are_not_of_the_world_are_out_of_reach(ip: str) -> None:
    assert not may_reach(ip, ())


@pytest.mark.parametrize("ip", ["8.8.8.8", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_world_are_within_reach(ip: str) -> None:
    assert may_reach(ip, ())


def test_a_network_that_the_operator_names_is_within_reach() -> None:
    allowed = networks("127.0.0.0/8, fd00::/8")
    assert may_reach("127.0.1.4", allowed)
    assert may_reach("::ffff:127.0.1.4", allowed)
    assert may_reach("fd00::25", allowed)
    assert not may_reach("10.0.0.1", allowed)
    assert not may_reach("::1", allowed)


@pytest.mark.parametrize("value", ["10.0.0.1/8", "example.org", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="is not a list of networks"):
        networks(value)


def test_loopback_has_many_forms() -> None:
    assert all(is_loopback(ip) for ip in ("127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.1.1.1"))
    assert not is_loopback("10.0.0.1")
