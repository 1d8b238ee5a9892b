"""qmail-send's rewriting of recipients, and its undoing for a bounce (sections 2.4 and 2.7 of the qmail reference)."""

import pytest

from mail import control
from mail.routing import Channel, RoutingTable

TABLE = RoutingTable(
    locals=frozenset({"here.example"}),
    virtualdomains={
        "v.example": "bob",
        "joe@w.example": "joe-w",
        "w.example": "",
        ".sub.example": "all",
        "out.sub.example": "",
    },
    percenthack=frozenset({"here.example"}),
    envnoathost="here.example",
)


@pytest.mark.parametrize(
    ("recipient", "channel", "rewritten", "shown"),
    [
        ("a@here.example", Channel.LOCAL, "a@here.example", "a@here.example"),
        ("a@Here.Example", Channel.LOCAL, "a@Here.Example", "a@Here.Example"),
        ("a", Channel.LOCAL, "a@here.example", "a@here.example"),
        ("bob-a@here.example", Channel.LOCAL, "bob-a@here.example", "bob-a@here.example"),
        ("a%v.example@here.example", Channel.LOCAL, "bob-a@v.example", "a@v.example"),
        ("a%far.example@here.example", Channel.REMOTE, "a@far.example", "a@far.example"),
        ("k@v.example", Channel.LOCAL, "bob-k@v.example", "k@v.example"),
        ("bob-k@v.example", Channel.LOCAL, "bob-bob-k@v.example", "bob-k@v.example"),
        ("k@x.sub.example", Channel.LOCAL, "all-k@x.sub.example", "k@x.sub.example"),
        ("k@out.sub.example", Channel.REMOTE, "k@out.sub.example", "k@out.sub.example"),
        ("k@far.example", Channel.REMOTE, "k@far.example", "k@far.example"),
        # qmail looks only for the domain when it takes a prepend away: that of one address stays
        ("joe@w.example", Channel.LOCAL, "joe-w-joe@w.example", "joe-w-joe@w.example"),
    ],
)
def test_a_recipient_is_rewritten_and_a_bounce_shows_it_without_the_prepend(
    recipient: str, channel: Channel, rewritten: str, shown: str
) -> None:
    route = TABLE.route(recipient)
    assert (route.channel, route.address) == (channel, rewritten)
    assert TABLE.without_prepend(route.address) == shown


def test_an_entry_for_every_domain_is_undone_too() -> None:
    table = RoutingTable(frozenset({"here.example"}), {"": "all"}, frozenset(), "here.example")
    assert table.route("a@far.example").address == "all-a@far.example"
    assert table.without_prepend("all-a@far.example") == "a@far.example"
    assert table.without_prepend("a@here.example") == "a@here.example"


VERIFIED = RoutingTable(
    locals=frozenset({"d.test"}),
    virtualdomains=control.mapping("v.test:bob\n.w.test:joe-w\nno.w.test:\nx@y.test:ann\nno colon here\n# c:d\n"),
    percenthack=frozenset({"p.test"}),
    envnoathost="mail.d.test",
)


@pytest.mark.parametrize(
    ("recipient", "channel", "rewritten"),
    [
        ("a@v.test", Channel.LOCAL, "bob-a@v.test"),
        ("b@q.w.test", Channel.LOCAL, "joe-w-b@q.w.test"),
        ("c@w.test", Channel.REMOTE, "c@w.test"),
        ("X@Y.test", Channel.LOCAL, "ann-X@Y.test"),
        ("z@y.test", Channel.REMOTE, "z@y.test"),
        ("e@no.w.test", Channel.REMOTE, "e@no.w.test"),
        ("U%far.test@p.test", Channel.REMOTE, "U@far.test"),
        ("a%b%d.test@p.test", Channel.LOCAL, "a%b@d.test"),
        ("u%v%p.test@p.test", Channel.REMOTE, "u@v"),
        ("a%b@p.test@p.test", Channel.REMOTE, "a@b@p.test"),
        ("noat", Channel.REMOTE, "noat@mail.d.test"),
        ("@d.test", Channel.LOCAL, "@d.test"),
        ("a@b@d.test", Channel.LOCAL, "a@b@d.test"),
    ],
)
def test_what_a_compiled_qmail_made_of_recipients(recipient: str, channel: Channel, rewritten: str) -> None:
    route = VERIFIED.route(recipient)
    assert (route.channel, route.address) == (channel, rewritten)


def test_of_two_lines_for_one_key_the_last_counts() -> None:
    """constmap of qmail finds what was put in last."""
    assert control.mapping("v.test:ann\nV.test:bob\n") == {"v.test": "bob"}
