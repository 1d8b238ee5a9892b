"""Names of hosts, and the parts of them that qmail uses."""

import pytest

from mail.hostname import default_domain, is_host, plus_domain


@pytest.mark.parametrize(
    ("name", "default", "plus"),
    [
        ("h.mail.a.test", "mail.a.test", "a.test"),
        ("mail.a.test", "a.test", "a.test"),
        ("a.test", "a.test", "a.test"),
        ("test", "test", "test"),
    ],
)
def test_config_fast_shortens_as_qmail_does(name: str, default: str, plus: str) -> None:
    assert (default_domain(name), plus_domain(name)) == (default, plus)


def test_a_host_name_is_told_from_an_address_or_a_sentence() -> None:
    assert is_host("mail.example.test")
    assert not any(map(is_host, ("", "a b", "a..b", ".a", "a\n", "x" * 64, "@a")))
