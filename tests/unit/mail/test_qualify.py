"""qmail's completion of addresses, as compiled qmail-inject did it."""

import pytest

from mail import rfc822
from mail.qualify import Qualification

RULES = Qualification({"defaulthost": b"host1", "defaultdomain": b"example.org", "plusdomain": b"plus.net"})


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        (b"a", b"a@host1.example.org"),
        (b"c@h", b"c@h.example.org"),
        (b"d@h.k+", b"d@h.k.plus.net"),
        (b"d@h+", b"d@h.plus.net"),
        (b"e@[1.2.3.4]", b"e@[1.2.3.4]"),
        (b"x@[]", b"x@[]"),
        (b"@r1,@r2:z@w.x", b"z@w.x"),
        (b"@r1", b""),
        (b"a@h.", b"a@h.example.org"),
        (b"a@", b"a@host1.example.org"),
        (b"a@h.k.", b"a@h.k"),
        (b".", b""),
        (b"@", b""),
        (b"", b""),
        (b"a+", b"a+@host1.example.org"),
        (b"a.b", b"a.b@host1.example.org"),
        (b'"a b"@h', b"a b@h.example.org"),
    ],
)
def test_an_address_in_a_header_is_completed(typed: bytes, full: bytes) -> None:
    assert rfc822.unquoted(RULES(rfc822.tokenise(typed))) == full


@pytest.mark.parametrize(
    ("typed", "full"),
    [
        (b"", b""),
        (b"a b", b"a b@host1.example.org"),
        (b"a@b@h", b"a@b@h.example.org"),
        (b"a@h (x)", b"a@h.example.org"),
    ],
)
def test_an_address_of_an_envelope_is_completed(typed: bytes, full: bytes) -> None:
    assert RULES.envelope(typed) == full


def test_the_names_themselves_are_completed() -> None:
    plus = Qualification({"defaulthost": b"h+", "defaultdomain": b"example.org", "plusdomain": b"plus"})
    assert plus.envelope(b"a") == b"a@h.plus"


def test_a_name_that_is_no_piece_of_an_address_is_refused() -> None:
    with pytest.raises(rfc822.Unparsable) as refused:
        Qualification({"defaulthost": b"h", "defaultdomain": b"(", "plusdomain": b"p"})
    assert refused.value.args == (b".(",)
