"""Conversations as values: what the server says, what we say, what comes out; whole and octet by octet."""

from dataclasses import dataclass, field

import pytest

from mail.dsn import DELAY, NEVER, NO_WISH, SUCCESS, Wish
from services.remote.protocol import (
    Client,
    Done,
    Envelope,
    Event,
    Ready,
    Refused,
    SendBody,
    Stage,
    StartTls,
    Violated,
    is_path,
)

PIPELINING = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
LOCKSTEP = "250 mx\r\n"


def envelope(*recipients: str, sender: str = "me@here.example") -> Envelope:
    return Envelope(sender, recipients or ("a@there.example",), 24, has_8bit=False)


@dataclass
class Talk:
    """A conversation under test: `says` feeds what the server says, and collects what we answer and conclude."""

    client: Client = field(default_factory=lambda: Client("here.example", wants_tls=True))
    octets_at_once: int = 1_000_000
    wrote: str = ""
    events: list[Event] = field(default_factory=list)

    def says(self, text: str | bytes) -> list[Event]:
        data = text.encode() if isinstance(text, str) else text
        self.wrote = ""
        fresh: list[Event] = []
        for start in range(0, len(data), self.octets_at_once):
            fresh.extend(self.client.receive(data[start : start + self.octets_at_once]))
            self.wrote += self.client.take_output().decode()
        self.events.extend(fresh)
        return fresh

    def introduced(self, ehlo: str) -> "Talk":
        self.says("220 mx.example.org ESMTP\r\n")
        assert self.wrote == "EHLO here.example\r\n"
        assert self.says(ehlo) == [Ready()]
        return self

    def begins(self, mail: Envelope) -> str:
        self.client.begin(mail)
        return self.client.take_output().decode()


@pytest.fixture(params=[1, 2, 3, 1_000_000], ids=["octets", "pairs", "triples", "whole"])
def talk(request: pytest.FixtureRequest) -> Talk:
    return Talk(octets_at_once=request.param)


def decided(done: Event) -> list[tuple[str, int, bool] | None]:
    assert isinstance(done, Done)
    return [(one.stage.value, one.reply.code, one.is_temporary) if one else None for one in done.verdicts]


# -- introductions ----------------------------------------------------------------------------------------------------


def test_ehlo_that_is_refused_for_good_is_followed_by_helo(talk: Talk) -> None:
    talk.says("220 old\r\n")
    assert talk.says("502 what\r\n") == []
    assert talk.wrote == "HELO here.example\r\n"
    assert talk.says("250 hello\r\n") == [Ready()]
    assert talk.begins(envelope()) == "MAIL FROM:<me@here.example>\r\n"


@pytest.mark.parametrize(
    ("replies", "stage"),
    [
        (["554 go away\r\n"], Stage.GREETING),
        (["421 busy\r\n"], Stage.GREETING),
        (["250 odd\r\n"], Stage.GREETING),
        (["220 hi\r\n", "421 busy\r\n"], Stage.EHLO),
        (["220 hi\r\n", "500 what\r\n", "550 not you\r\n"], Stage.HELO),
    ],
)
def test_a_server_that_does_not_want_us_says_so_at_a_stage(talk: Talk, replies: list[str], stage: Stage) -> None:
    for reply in replies:
        events = talk.says(reply)
    assert [type(one) for one in events] == [Refused]
    assert isinstance(events[0], Refused)
    assert events[0].stage is stage


def test_nothing_learned_before_tls_is_used_after_it(talk: Talk) -> None:
    talk.says("220 hi\r\n")
    talk.says("250-mx\r\n250-PIPELINING\r\n250-SIZE 10\r\n250 STARTTLS\r\n")
    assert talk.wrote == "STARTTLS\r\n"
    assert talk.says("220 go\r\n") == [StartTls()]
    assert talk.wrote == ""
    talk.client.secured()
    assert talk.client.take_output() == b"EHLO here.example\r\n"
    assert talk.client.offers == {}
    assert talk.says("250-mx\r\n250 STARTTLS\r\n") == [Ready()]
    assert talk.begins(envelope("a@x.example", "b@x.example")) == "MAIL FROM:<me@here.example>\r\n"


@pytest.mark.parametrize("reply", ["454 not now\r\n", "502 no\r\n"])
def test_tls_that_is_offered_and_refused_leaves_the_connection_as_it_is(talk: Talk, reply: str) -> None:
    talk.says("220 hi\r\n")
    talk.says("250-mx\r\n250-STARTTLS\r\n250 PIPELINING\r\n")
    assert talk.says(reply) == [Ready()]
    assert "PIPELINING" in talk.client.offers


def test_without_the_wish_for_tls_none_is_begun() -> None:
    talk = Talk(Client("here.example", wants_tls=False))
    talk.introduced("250-mx\r\n250 STARTTLS\r\n")


# -- octets that come too early ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("injected", ["250 fake\r\n", "2", "\r\n", "\x16\x03\x01"])
def test_octets_behind_the_starttls_reply_end_the_conversation(injected: str) -> None:
    talk = Talk()
    talk.says("220 hi\r\n")
    talk.says("250-mx\r\n250 STARTTLS\r\n")
    assert [type(one) for one in talk.says("220 go\r\n" + injected)] == [Violated]
    assert talk.wrote == ""
    assert talk.says("250 more\r\n") == []


@pytest.mark.parametrize("injected", ["250 fake\r\n", "2"])
def test_octets_during_the_handshake_end_the_conversation(talk: Talk, injected: str) -> None:
    talk.says("220 hi\r\n")
    talk.says("250-mx\r\n250 STARTTLS\r\n")
    assert talk.says("220 go\r\n") == [StartTls()]
    assert isinstance(talk.says(injected)[0], Violated)


def test_a_reply_does_not_count_when_it_was_there_before_its_command() -> None:
    for early in ("220 hi\r\n250 mx\r\n", "220 hi\r\n250 mx\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n"):
        talk = Talk()
        assert [type(one) for one in talk.says(early)] == [Violated]


@pytest.mark.parametrize("ehlo", [LOCKSTEP, PIPELINING])
def test_an_early_reply_to_the_message_is_no_acceptance(ehlo: str) -> None:
    talk = Talk().introduced(ehlo)
    talk.begins(envelope())
    if ehlo == LOCKSTEP:
        talk.says("250 ok\r\n")
        talk.says("250 ok\r\n")
        events = talk.says("354 go\r\n250 taken\r\n")
    else:
        events = talk.says("250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n")
    assert [type(one) for one in events] == [Violated]


def test_a_reply_while_the_message_is_being_sent_ends_the_conversation(talk: Talk) -> None:
    talk.introduced(PIPELINING).begins(envelope())
    assert talk.says("250 ok\r\n250 ok\r\n354 go\r\n") == [SendBody()]
    assert not talk.client.may_quit
    assert isinstance(talk.says("552 too big\r\n")[0], Violated)


def test_the_reply_to_the_dot_stands_though_more_follows() -> None:
    talk = Talk().introduced(PIPELINING)
    talk.begins(envelope())
    talk.says("250 ok\r\n250 ok\r\n354 go\r\n")
    talk.client.dot()
    done, violated = talk.says("250 taken\r\n250 taken twice\r\n")
    assert decided(done) == [("dot", 250, False)]
    assert isinstance(violated, Violated)


def test_an_idle_connection_that_speaks_is_no_good(talk: Talk) -> None:
    talk.introduced(PIPELINING)
    assert isinstance(talk.says("421 idle too long\r\n")[0], Violated)


# -- transactions -----------------------------------------------------------------------------------------------------


def test_with_pipelining_the_whole_group_goes_at_once(talk: Talk) -> None:
    talk.introduced(PIPELINING)
    wrote = talk.begins(envelope("a@there.example", "b@there.example"))
    assert wrote == (
        "MAIL FROM:<me@here.example> SIZE=24\r\nRCPT TO:<a@there.example>\r\nRCPT TO:<b@there.example>\r\nDATA\r\n"
    )
    before = talk.client.replies
    assert talk.says("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n") == [SendBody()]
    assert talk.client.replies == before + 4  # each has a time limit of its own
    assert talk.client.dot() == b".\r\n"
    (done,) = talk.says("250 2.0.0 ok 123 qp 456\r\n")
    assert decided(done) == [("dot", 250, False)] * 2
    assert isinstance(done, Done)
    assert done.may_go_on
    assert talk.client.may_quit


def test_without_pipelining_each_command_waits_for_its_reply(talk: Talk) -> None:
    talk.introduced(LOCKSTEP)
    assert talk.begins(envelope("a@there.example", "b@there.example")) == "MAIL FROM:<me@here.example>\r\n"
    talk.says("250 ok\r\n")
    assert talk.wrote == "RCPT TO:<a@there.example>\r\n"
    talk.says("550 no\r\n")
    assert talk.wrote == "RCPT TO:<b@there.example>\r\n"
    talk.says("251 forwards\r\n")
    assert talk.wrote == "DATA\r\n"
    assert talk.says("354 go\r\n") == [SendBody()]
    talk.client.dot()
    (done,) = talk.says("250 ok\r\n")
    assert decided(done) == [("RCPT", 550, False), ("dot", 250, False)]


MIXED = [
    # after EHLO with PIPELINING and MAIL: replies to three RCPT and DATA, then to the dot; verdicts
    ("250 ok\r\n450 later\r\n550 no\r\n354 go\r\n", "250 ok\r\n", [("dot", 250), ("RCPT", 450), ("RCPT", 550)]),
    ("250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n", "451 oops\r\n", [("dot", 451), ("RCPT", 550), ("dot", 451)]),
    ("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n", "554 spam\r\n", [("dot", 554)] * 3),
    ("250 ok\r\n452 enough\r\n552 enough\r\n354 go\r\n", "250 ok\r\n", [("dot", 250), ("RCPT", 452), ("RCPT", 552)]),
    ("250 ok\r\n250 ok\r\n550 no\r\n554 no data\r\n", "", [("DATA", 554), ("DATA", 554), ("RCPT", 550)]),
    ("250 ok\r\n250 ok\r\n550 no\r\n451 later\r\n", "", [("DATA", 451), ("DATA", 451), ("RCPT", 550)]),
    ("550 a\r\n551 b\r\n450 c\r\n503 no rcpt\r\n", "", [("RCPT", 550), ("RCPT", 551), ("RCPT", 450)]),
    ("550 a\r\n421 shutting down\r\n", "", [("RCPT", 550), ("RCPT", 421), ("RCPT", 421)]),
]


@pytest.mark.parametrize(("replies", "after_dot", "verdicts"), MIXED)
def test_every_recipient_has_the_verdict_that_was_given_on_it(
    talk: Talk, replies: str, after_dot: str, verdicts: list[tuple[str, int]]
) -> None:
    talk.introduced(PIPELINING).begins(envelope("a@x.example", "b@x.example", "c@x.example"))
    events = talk.says("250 sender ok\r\n" + replies)
    if after_dot:
        assert events == [SendBody()]
        talk.client.dot()
        events = talk.says(after_dot)
    found = decided(events[0])
    assert [one and one[:2] for one in found] == verdicts
    for one in found:
        assert one
        assert one[2] == (400 <= one[1] < 500 or one[:2] == ("RCPT", 552))


def test_552_to_the_first_recipient_is_permanent(talk: Talk) -> None:
    talk.introduced(LOCKSTEP).begins(envelope())
    talk.says("250 ok\r\n")
    (done,) = talk.says("552 mailbox full\r\n")
    assert decided(done) == [("RCPT", 552, False)]


@pytest.mark.parametrize("code", [450, 550])
def test_a_refused_sender_decides_over_all_recipients(talk: Talk, code: int) -> None:
    talk.introduced(PIPELINING).begins(envelope("a@x.example", "b@x.example"))
    assert talk.says(f"{code} not from you\r\n") == []
    (done,) = talk.says("503 mail first\r\n503 mail first\r\n503 rcpt first\r\n")
    assert decided(done) == [("MAIL", code, code == 450)] * 2
    lockstep = Talk().introduced(LOCKSTEP)
    lockstep.begins(envelope())
    (done,) = lockstep.says(f"{code} not from you\r\n")
    assert decided(done) == [("MAIL", code, code == 450)]


def test_data_that_is_accepted_for_nobody_gets_a_lone_dot(talk: Talk) -> None:
    talk.introduced(PIPELINING).begins(envelope("a@x.example", "b@x.example"))
    assert talk.says("250 ok\r\n550 no\r\n450 later\r\n354 go\r\n") == []
    assert talk.wrote == ".\r\n"
    (done,) = talk.says("250 thank you for nothing\r\n")
    assert decided(done) == [("RCPT", 550, False), ("RCPT", 450, True)]


def test_a_refused_sender_is_not_overruled_by_what_follows(talk: Talk) -> None:
    talk.introduced(PIPELINING).begins(envelope())
    talk.says("550 not from you\r\n250 ok\r\n354 go\r\n")
    assert talk.wrote == ".\r\n"
    (done,) = talk.says("250 ok\r\n")
    assert decided(done) == [("MAIL", 550, False)]


@pytest.mark.parametrize("reply", ["250 ok\r\n", "220 odd\r\n"])
def test_data_must_be_answered_by_a_question_for_the_message(talk: Talk, reply: str) -> None:
    talk.introduced(PIPELINING).begins(envelope())
    talk.says("250 ok\r\n250 ok\r\n")
    assert isinstance(talk.says(reply)[-1], Violated)


def test_an_answer_to_the_dot_that_is_neither_yes_nor_no_decides_nothing(talk: Talk) -> None:
    talk.introduced(PIPELINING).begins(envelope())
    talk.says("250 ok\r\n250 ok\r\n354 go\r\n")
    talk.client.dot()
    assert isinstance(talk.says("354 what\r\n")[-1], Violated)
    assert talk.client.verdicts == (None,)


def test_one_transaction_follows_another(talk: Talk) -> None:
    talk.introduced(PIPELINING)
    for _ in range(3):
        talk.begins(envelope())
        talk.says("250 ok\r\n250 ok\r\n354 go\r\n")
        talk.client.dot()
        (done,) = talk.says("250 ok\r\n")
        assert decided(done) == [("dot", 250, False)]
    talk.client.quit()
    assert talk.client.take_output() == b"QUIT\r\n"


# -- what MAIL and RCPT say -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mail", "offers", "first"),
    [
        (Envelope("", ("a@x",), 7, False), "", "MAIL FROM:<>"),
        (Envelope("s@x", ("a@x",), 7, True), "", "MAIL FROM:<s@x>"),
        (Envelope("s@x", ("a@x",), 7, True), "8bitmime", "MAIL FROM:<s@x> BODY=8BITMIME"),
        (Envelope("s@x", ("a@x",), 7, False), "8BITMIME", "MAIL FROM:<s@x>"),
        (Envelope("s@x", ("a@x",), 7, False), "SIZE", "MAIL FROM:<s@x> SIZE=7"),
        (Envelope("s@x", ("ü@x",), 7, False), "SMTPUTF8", "MAIL FROM:<s@x> SMTPUTF8"),
        (Envelope("ü@x", ("a@x",), 7, False), "SMTPUTF8", "MAIL FROM:<ü@x> SMTPUTF8"),
        (Envelope("s@x", ("a@x",), 7, True, True), "SMTPUTF8", "MAIL FROM:<s@x> SMTPUTF8"),
        (Envelope("s@x", ("a@x",), 7, True), "SMTPUTF8", "MAIL FROM:<s@x>"),
        (Envelope('a b"c@x', ("a@x",), 7, False), "", 'MAIL FROM:<"a b\\"c"@x>'),
        (Envelope("#@[]", ("a@x",), 7, False), "", "MAIL FROM:<#@[]>"),
    ],
)
def test_mail_says_what_the_message_needs_and_the_server_knows(
    talk: Talk, mail: Envelope, offers: str, first: str
) -> None:
    talk.introduced(f"250-mx\r\n250 {offers}\r\n")
    assert talk.begins(mail) == first + "\r\n"


@pytest.mark.parametrize("address", ["a@x> SIZE=1", "a@x y", "a@x\r\nRSET", "a\nb@x", "a@<x", "x" * 901 + "@x"])
def test_an_address_that_would_end_its_command_cannot_stand_in_one(address: str) -> None:
    assert not is_path(address)
    talk = Talk().introduced(PIPELINING)
    with pytest.raises(ValueError, match="cannot stand"):
        talk.client.begin(envelope(address))
    assert talk.client.take_output() == b""


# -- what the sender wishes to be told (RFC 3461 5.2.1) ---------------------------------------------------------------

WISHES = (Wish(SUCCESS | DELAY, "rfc822;Bob+40old.example"), NO_WISH, Wish(NEVER), Wish(0, "utf-8;j@x"))
WISHED = Envelope("s@x", ("a@x", "b@x", "c@x", "d@x"), 7, has_8bit=False, envid="QQ+3D1", ret="HDRS", wishes=WISHES)


def test_wishes_go_on_to_a_server_that_announces_dsn(talk: Talk) -> None:
    talk.introduced("250-mx\r\n250-PIPELINING\r\n250 DSN\r\n")
    assert talk.begins(WISHED).split("\r\n") == [
        "MAIL FROM:<s@x> RET=HDRS ENVID=QQ+3D1",
        "RCPT TO:<a@x> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+40old.example",
        "RCPT TO:<b@x>",
        "RCPT TO:<c@x> NOTIFY=NEVER",
        "RCPT TO:<d@x> ORCPT=utf-8;j@x",
        "DATA",
        "",
    ]


def test_no_other_server_hears_of_them(talk: Talk) -> None:
    talk.introduced("250-mx\r\n250 PIPELINING\r\n")
    assert (
        talk.begins(WISHED) == "MAIL FROM:<s@x>\r\n" + "".join(f"RCPT TO:<{one}@x>\r\n" for one in "abcd") + "DATA\r\n"
    )


@pytest.mark.parametrize(
    "mail",
    [
        Envelope("s@x", ("a@x",), 7, has_8bit=False, envid="a\r\nRSET"),
        Envelope("s@x", ("a@x",), 7, has_8bit=False, ret="FULL SIZE=1"),
        Envelope("s@x", ("a@x",), 7, has_8bit=False, wishes=(Wish(0, "rfc822;a b"),)),
        Envelope("s@x", ("a@x",), 7, has_8bit=False, wishes=(Wish(NEVER | SUCCESS),)),
        Envelope("s@x", ("a@x",), 7, has_8bit=False, wishes=(NO_WISH, NO_WISH)),
    ],
)
def test_a_wish_that_would_end_its_command_cannot_stand_in_one(mail: Envelope) -> None:
    talk = Talk().introduced("250-mx\r\n250-PIPELINING\r\n250 DSN\r\n")
    with pytest.raises(ValueError):  # noqa: PT011 - which of them it was is not the point
        talk.begins(mail)
