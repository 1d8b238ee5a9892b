"""Front and child understand each other, and the front believes nothing that has no place."""

from array import array

import pytest

from services.pop3 import exchange
from services.pop3.exchange import ExchangeError, Listing, Opened, OpenMaildrop, OpenMessage, Request, Settle
from services.pop3.protocol import Maildrop


@pytest.mark.parametrize("request_", [OpenMaildrop(), OpenMessage(3), Settle(()), Settle((1, 2, 3))])
def test_a_request_arrives_as_it_was_sent(request_: Request) -> None:
    line = exchange.request_line(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert exchange.parse_request(line, messages=3) == request_


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[" * 10_000,
        b"[]",
        b"{}",
        b'{"message":0}',
        b'{"message":4}',
        b'{"message":"1"}',
        b'{"delete":[0]}',
        b'{"delete":["x"]}',
    ],
)
def test_other_requests_have_no_place(line: bytes) -> None:
    with pytest.raises(ExchangeError):
        exchange.parse_request(line, messages=3)


@pytest.mark.parametrize("messages", [0, 1, 500, 501, 1_234])
def test_a_listing_arrives_whole(messages: int) -> None:
    sent = Maildrop([f"uid{number}" for number in range(messages)], array("Q", range(messages)))
    listing = Listing()
    for line in exchange.listing_lines(sent):
        assert listing.finished is None
        assert len(line) <= exchange.LINE_MAX_OCTETS
        listing.add(line)
    assert listing.finished is Opened.OK
    assert listing.maildrop().uids == sent.uids
    assert list(listing.maildrop().octets) == list(sent.octets)


def test_a_refusal_arrives() -> None:
    listing = Listing()
    listing.add(exchange.refusal_line(Opened.IN_USE))
    assert listing.finished is Opened.IN_USE


@pytest.mark.parametrize(
    "line",
    [
        b'{"uids":["a"],"octets":[]}',
        b'{"uids":["a\\r\\n."],"octets":[1]}',
        b'{"uids":[""],"octets":[1]}',
        b'{"uids":["%s"],"octets":[1]}' % (b"x" * 71),
        b'{"uids":["a"],"octets":[-1]}',
        b'{"uids":["a"],"octets":["1"]}',
        b'{"uids":["a"],"octets":[1e300]}',
        b'{"opened":"perhaps"}',
        b"nonsense",
    ],
)
def test_a_listing_that_lies_is_not_believed(line: bytes) -> None:
    with pytest.raises(ExchangeError):
        Listing().add(line)


def test_a_listing_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MESSAGES_MAX", 3)
    listing = Listing()
    listing.add(b'{"uids":["a","b"],"octets":[1,2]}')
    with pytest.raises(ExchangeError):
        listing.add(b'{"uids":["c","d"],"octets":[1,2]}')


def test_an_answer_is_yes_or_no() -> None:
    assert exchange.parse_done(exchange.done_line(True))
    assert not exchange.parse_done(exchange.done_line(False))
    with pytest.raises(ExchangeError):
        exchange.parse_done(b'{"done":1}')
