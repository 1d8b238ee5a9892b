"""qmail-send's rewriting of recipients, and its undoing for a bounce (sections 2.4 and 2.7 of the qmail reference)."""

import pytest

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
