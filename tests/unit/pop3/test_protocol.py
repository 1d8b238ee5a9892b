"""The POP3 conversation as a value: whole dialogues, however they are cut, and what misuse of it does."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pop3 import protocol
from services.pop3.protocol import (
    NEED_DATA,
    TRANSITIONS,
    Cause,
    Ended,
    Login,
    Maildrop,
    Misuse,
    NeedData,
    Protocol,
    Refusal,
    Retrieve,
    Send,
    State,
    Update,
)
from services.pop3.stuffing import OctetCount, Stuffer, TopCut
from tests.harness import pop3_dialogues
from tests.harness.pop3_dialogues import Dialogue

PASSWORD = "correct horse"


class Server:
    """What session.py does around the protocol, with messages that are values."""

    def __init__(self, messages: list[tuple[str, bytes]]) -> None:
        self.said = b""
        self.update: Update | None = None
        self.protocol = Protocol("1.1700000000@mail.example.test")
        self._messages = messages
        self.said += self.protocol.greet()

    def hears(self, data: bytes) -> None:
        self.protocol.receive(data)
        while True:
            match self.protocol.next_event():
                case NeedData() | Ended():
                    return
                case Send(data):
                    self.said += data
                case Login(user, password):
                    if (user, password) == (b"ann", PASSWORD.encode()):
                        self.said += self.protocol.accept(self._maildrop())
                    else:
                        self.said += self.protocol.refuse(Refusal.WRONG)
                case Retrieve(number, lines):
                    self._send(self._messages[number - 1][1], lines)
                case Update() as update:
                    self.update = update
                    self.said += self.protocol.updated(True)

    def _maildrop(self) -> Maildrop:
        octets = []
        for _, text in self._messages:
            count = OctetCount()
            count.add(text)
            octets.append(count.total())
        return Maildrop([name for name, _ in self._messages], octets)

    def _send(self, text: bytes, lines: int | None) -> None:
        stuffer = Stuffer()
        self.said += self.protocol.begin_message()
        self.said += stuffer.stuff(text if lines is None else TopCut(lines).cut(text)) + stuffer.finish()
        self.protocol.end_message()


@pytest.fixture(params=pop3_dialogues.DIALOGUES, ids=lambda path: path.stem)
def dialogue(request: pytest.FixtureRequest) -> Dialogue:
    path: Path = request.param
    return pop3_dialogues.read(path, "ann", PASSWORD)


def test_a_dialogue_goes_as_written(dialogue: Dialogue) -> None:
    server = Server(dialogue.messages)
    for line in dialogue.client:
        server.hears(line)
    assert not dialogue.differs(server.said)
    assert server.protocol.state is State.ENDED


def test_a_dialogue_cut_into_single_octets_goes_the_same_way(dialogue: Dialogue) -> None:
    server = Server(dialogue.messages)
    for octet in b"".join(dialogue.client):
        server.hears(bytes([octet]))
    assert not dialogue.differs(server.said)


def test_a_dialogue_sent_all_at_once_goes_the_same_way(dialogue: Dialogue) -> None:
    server = Server(dialogue.messages)
    server.hears(b"".join(dialogue.client))
    assert not dialogue.differs(server.said)


def logged_in(*octets: int) -> Protocol:
    conversation = Protocol("x@y")
    conversation.receive(b"USER ann\r\nPASS p\r\n")
    conversation.next_event()
    conversation.next_event()
    conversation.accept(Maildrop([f"uid{size}" for size in octets], octets))
    return conversation


def answer(conversation: Protocol, line: bytes) -> protocol.Event:
    conversation.receive(line + b"\r\n")
    return conversation.next_event()


def test_ok_has_qmails_blank_at_its_end() -> None:
    assert answer(logged_in(1), b"NOOP") == Send(b"+OK \r\n")


def test_a_password_keeps_its_blanks_and_is_not_in_any_reply() -> None:
    conversation = Protocol("x@y")
    assert answer(conversation, b"USER   ann ") == Send(b"+OK \r\n")
    assert answer(conversation, b"PASS  two  words ") == Login(b"ann", b" two  words ")


@pytest.mark.parametrize("line", [b"USER a\0nn", b"PASS p\0", b"\0", b"NOOP\0"])
def test_a_nul_is_a_syntax_error_wherever_it_stands(line: bytes) -> None:
    conversation = Protocol("x@y")
    answer(conversation, b"USER ann")
    assert answer(conversation, line) == Send(b"-ERR syntax error\r\n")
    assert conversation.user == b"ann"


def test_quit_names_what_is_to_go_and_breaking_off_names_nothing() -> None:
    conversation = logged_in(1, 2, 3)
    for line in (b"DELE 3", b"DELE 1"):
        answer(conversation, line)
    assert answer(conversation, b"QUIT") == Update((1, 3))
    assert conversation.updated(False).startswith(b"-ERR ")
    assert conversation.next_event() == Ended()


def test_other_refusals_than_a_wrong_password_are_no_tries() -> None:
    conversation = Protocol("x@y")
    for _ in range(protocol.LOGIN_TRIES_MAX + 1):
        answer(conversation, b"USER ann")
        answer(conversation, b"PASS p")
        assert conversation.refuse(Refusal.IN_USE).startswith(b"-ERR [IN-USE] ")
    assert conversation.state is State.AUTHORIZATION


def test_no_command_is_read_while_a_question_waits() -> None:
    conversation = logged_in(1)
    assert answer(conversation, b"RETR 1\r\nNOOP") == Retrieve(1, None)
    with pytest.raises(Misuse):
        conversation.next_event()
    conversation.begin_message()
    conversation.end_message()
    assert conversation.next_event() == Send(b"+OK \r\n")


def test_a_long_listing_comes_in_pieces_before_the_next_command() -> None:
    count = protocol.LISTED_AT_ONCE * 2 + 1
    conversation = logged_in(*range(count))
    answer(conversation, b"DELE 2")
    assert answer(conversation, b"LIST\r\nNOOP") == Send(b"+OK \r\n")
    pieces = [conversation.next_event() for _ in range(4)]
    assert conversation.next_event() == Send(b"+OK \r\n")
    lines = b"".join(piece.data for piece in pieces if isinstance(piece, Send)).split(b"\r\n")
    assert lines == [*(b"%d %d" % (number, number - 1) for number in range(1, count + 1) if number != 2), b".", b""]


def test_an_answer_without_its_question_is_misuse() -> None:
    conversation = logged_in(1)
    for call in (conversation.begin_message, conversation.end_message, conversation.no_message):
        with pytest.raises(Misuse):
            call()
    with pytest.raises(Misuse):
        conversation.accept(Maildrop((), ()))
    with pytest.raises(Misuse):
        conversation.updated(True)


def test_every_state_can_be_left_and_every_cause_has_a_place() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.ENDED}
    assert {cause for _, cause in TRANSITIONS} == set(Cause)


def test_the_readme_shows_the_table_of_states() -> None:
    readme = (Path(protocol.__file__).parent / "README.md").read_text()
    rows = {tuple(cell.strip(" `") for cell in line.split("|")[1:-1]) for line in readme.splitlines() if "|" in line}
    table = {(state.name, cause.name, to.name) for (state, cause), to in TRANSITIONS.items()}
    assert table <= rows, f"add to services/pop3/README.md: {sorted(table - rows)}"
    shown = {row for row in rows if len(row) == 3 and row[0] in State.__members__}
    assert shown == table, f"services/pop3/README.md shows moves that are none: {sorted(shown - table)}"


def test_a_line_of_the_longest_length_is_taken() -> None:
    conversation = Protocol("x@y")
    name = b"a" * (protocol.LINE_MAX_OCTETS - len(b"USER "))
    conversation.receive(b"USER " + name + b"\n")
    assert conversation.next_event() == Send(b"+OK \r\n")
    assert conversation.user == name


def test_an_endless_line_is_refused_before_its_end() -> None:
    conversation = Protocol("x@y")
    conversation.receive(b"A" * protocol.LINE_MAX_OCTETS)
    assert conversation.next_event() is NEED_DATA
    conversation.receive(b"A")
    assert conversation.next_event() == Send(b"-ERR line too long\r\n")
    assert conversation.next_event() == Ended()


@given(st.lists(st.binary(max_size=200), max_size=40))
def test_no_garbage_breaks_a_conversation_or_deletes_anything(pieces: list[bytes]) -> None:
    server = Server([("a", b"text\n")])
    for piece in (b"USER ann\r\n", b"PASS " + PASSWORD.encode() + b"\r\n", *pieces):
        server.hears(piece)
    if b"DELE" not in b"".join(pieces).upper():
        assert server.update is None or not server.update.deleted
    assert all(line.startswith((b"+OK", b"-ERR")) for line in server.said.split(b"\r\n")[:3])
