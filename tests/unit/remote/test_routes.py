"""control/smtproutes decides as qmail-remote(8) says."""

import pytest

from mail import control
from services.remote.routes import Relay, relay

TABLE = control.mapping(
    "# where mail goes\n"
    "example.org:relay.example.net\n"
    ".example.org:[192.0.2.1]:26\n"
    ".deep.example.org:192.0.2.2:587\n"
    "Direct.Example.ORG:\n"
    "[192.0.2.9]:literal.example.net\n"
    "six.example:[2001:db8::1]:2525\n"
    "badport.example:relay.example.net:99999\n"
    "noport.example:relay.example.net:\n"
)


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("example.org", Relay("relay.example.net", None)),
        ("EXAMPLE.org", Relay("relay.example.net", None)),
        ("a.example.org", Relay("192.0.2.1", 26)),
        ("a.b.example.org", Relay("192.0.2.1", 26)),
        ("a.deep.example.org", Relay("192.0.2.2", 587)),
        ("deep.example.org", Relay("192.0.2.1", 26)),
        ("direct.example.org", None),
        ("[192.0.2.9]", Relay("literal.example.net", None)),
        ("six.example", Relay("2001:db8::1", 2525)),
        ("badport.example", Relay("relay.example.net", None)),
        ("noport.example", Relay("relay.example.net", None)),
        ("elsewhere.example", None),
        ("notexample.org", None),
        ("", None),
    ],
)
def test_the_first_key_that_matches_decides(domain: str, found: Relay | None) -> None:
    assert relay(TABLE, domain) == found


def test_the_empty_key_takes_everything_that_nothing_else_takes() -> None:
    table = control.mapping(":smart.example.net:2525\nlocal.example:\n")
    assert relay(table, "anything.example") == Relay("smart.example.net", 2525)
    assert relay(table, "") == Relay("smart.example.net", 2525)
    assert relay(table, "local.example") is None
