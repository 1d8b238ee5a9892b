"""Replies are read strictly, within limits, and their text can forge nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.remote.reply import (
    LINE_MAX_OCTETS,
    LINES_MAX,
    REPLY_MAX_OCTETS,
    TEXT_MAX_OCTETS,
    Reply,
    ReplyReader,
    Violation,
)


def read(data: bytes) -> list[Reply]:
    reader = ReplyReader()
    reader.add(data)
    found = []
    while reply := reader.next():
        found.append(reply)
    return found


def test_a_reply_of_several_lines_keeps_each_with_its_code() -> None:
    assert read(b"250-one\r\n250-two\r\n250 three\r\n") == [Reply(250, "250-one\n250-two\n250 three\n")]


def test_a_reply_may_be_only_digits_and_may_end_in_a_bare_lf() -> None:
    assert read(b"250\r\n220 hello\n") == [Reply(250, "250\n"), Reply(220, "220 hello\n")]


def test_controls_and_broken_utf8_never_reach_the_text() -> None:
    (reply,) = read(b"550 a\x00b\x1b[2Jc\rd\xffe\xc2\x85f\xe2\x80\xa8g\r\n")
    assert reply.text == "550 a?b?[2Jc?d\ufffde?f?g\n"


@pytest.mark.parametrize("line", [b"", b"25", b"000 no", b"999 no", b"150 no", b"250x", b"hello", b"-250", b"2500 x"])
def test_what_is_no_reply_is_a_violation(line: bytes) -> None:
    with pytest.raises(Violation, match="no SMTP reply"):
        read(line + b"\r\n")


def test_lines_of_one_reply_have_one_code() -> None:
    with pytest.raises(Violation, match="different codes"):
        read(b"250-yes\r\n550 no\r\n")


def test_a_line_without_end_is_cut_off() -> None:
    with pytest.raises(Violation, match="line of more"):
        read(b"250 " + b"x" * LINE_MAX_OCTETS)


def test_a_reply_without_end_is_cut_off_by_lines_and_by_octets() -> None:
    with pytest.raises(Violation, match="without end"):
        read(b"250-\r\n" * (LINES_MAX + 1))
    with pytest.raises(Violation, match="without end"):
        read((b"250-" + b"x" * 4_000 + b"\r\n") * (REPLY_MAX_OCTETS // 4_000 + 1))


def test_a_long_reply_is_quoted_as_far_as_qmail_does() -> None:
    (reply,) = read((b"250-" + b"x" * 1_000 + b"\r\n") * 9 + b"250 end\r\n")
    assert len(reply.text) == TEXT_MAX_OCTETS + 1


def test_keywords_are_those_of_the_lines_after_the_first() -> None:
    reply = Reply(250, "250-mx.example.org size 1\n250-size 1000\n250-PIPELINING\n250-\n250 Auth PLAIN LOGIN\n")
    assert reply.keywords() == {"SIZE": "1000", "PIPELINING": "", "AUTH": "PLAIN LOGIN"}


@given(st.lists(st.sampled_from([b"250-a\r\n250 b\r\n", b"354 go\n", b"550\r\n", b"220 \xff\r\n"])), st.data())
def test_replies_do_not_depend_on_how_the_octets_arrive(parts: list[bytes], data: st.DataObject) -> None:
    octets = b"".join(parts)
    cut = data.draw(st.integers(0, len(octets)))
    reader = ReplyReader()
    found = []
    for piece in (octets[:cut], octets[cut:]):
        reader.add(piece)
        while reply := reader.next():
            found.append(reply)
    assert found == read(octets)
    assert len(found) == len(parts)
    assert reader.is_empty


@given(st.binary(max_size=300))
def test_any_octets_are_replies_or_a_violation(octets: bytes) -> None:
    try:
        replies = read(octets)
    except Violation:
        return
    for reply in replies:
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", reply.text)
        assert reply.text.endswith("\n")
