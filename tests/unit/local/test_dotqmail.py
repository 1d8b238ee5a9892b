"""The grammar of .qmail files, as dot-qmail(5) and qmail-local's source have it."""

import pytest

from services.local import dotqmail, texts
from services.local.dotqmail import Forward, Maildir, Mbox, Program, Stop, file_names, owner_names, parse


def test_the_files_of_an_extension_in_order() -> None:
    assert list(file_names("-", "A-b.c-D")) == [
        ".qmail-a-b:c-d",
        ".qmail-a-b:c-default",
        ".qmail-a-default",
        ".qmail-default",
    ]


def test_an_account_itself_has_two_files_as_in_qmail() -> None:
    assert list(file_names("", "")) == [".qmail", ".qmaildefault"]


def test_an_extension_that_ends_in_a_break_has_its_default_at_once() -> None:
    assert list(file_names("-", "a-")) == [".qmail-a-", ".qmail-a-default", ".qmail-default"]
    assert list(file_names("-", "")) == [".qmail-", ".qmail-default"]


def test_no_extension_leads_upwards() -> None:
    assert all(".." not in name for name in file_names("-", "../../etc/passwd-..-."))


def test_the_owner_files_keep_the_whole_extension() -> None:
    assert owner_names("-", "List.X") == (".qmail-list:x-owner", ".qmail-list:x-owner-default")


def test_each_kind_of_line() -> None:
    text = b"# comment\n./Maildir/ \t\n./Mailbox\n/var/mail/ann\n/home/ann/lists/\n|cat >x\n&bob@x.test\ncarl@y.test\n"
    assert parse(text) == (
        Maildir(1, "./Maildir/"),
        Mbox(2, "./Mailbox"),
        Mbox(3, "/var/mail/ann"),
        Maildir(4, "/home/ann/lists/"),
        Program(5, "cat >x"),
        Forward(6, "bob@x.test"),
        Forward(7, "carl@y.test"),
    )


def test_a_last_line_needs_no_newline() -> None:
    assert parse(b"./Maildir/") == (Maildir(0, "./Maildir/"),)


def test_later_blank_lines_are_nothing() -> None:
    assert parse(b"&a@x\n\n  \n&b@x\n") == (Forward(0, "a@x"), Forward(3, "b@x"))


@pytest.mark.parametrize("text", [b"\n./Maildir/\n", b"  \t\n./Maildir/\n"])
def test_a_first_line_that_is_blank_stops(text: bytes) -> None:
    assert parse(text) == (Stop(0, texts.DOT_BLANK),)


def test_a_file_of_comments_delivers_nowhere() -> None:
    assert parse(b"# nothing\n#\n") == ()


def test_list_mode_stops_at_files_and_programs_only() -> None:
    text = b"&a@x\n./Maildir/\n|cat\nb@x\n"
    assert parse(text, forward_only=True) == (
        Forward(0, "a@x"),
        Stop(1, texts.DOT_FILE_IN_LIST),
        Stop(2, texts.DOT_PROGRAM_IN_LIST),
        Forward(3, "b@x"),
    )
    assert parse(b"./Maildir/\n+list\n./Maildir/\n") == (Maildir(0, "./Maildir/"), Stop(2, texts.DOT_FILE_IN_LIST))


def test_other_plus_lines_are_ignored() -> None:
    assert parse(b"+lists\n+\n./Maildir/\n") == (Maildir(2, "./Maildir/"),)


def test_a_nul_stops() -> None:
    assert parse(b"./Maildir/\n&a\0b@x\n") == (Stop(0, texts.DOT_NUL),)


def test_too_much_stops() -> None:
    assert parse(b"#" * (dotqmail.FILE_MAX_OCTETS + 1)) == (Stop(0, texts.DOT_TOO_LONG),)
    most = b"|x\n" * dotqmail.INSTRUCTIONS_MAX + b"&a@x\n" * dotqmail.FORWARDS_MAX
    assert len(parse(most)) == dotqmail.INSTRUCTIONS_MAX + dotqmail.FORWARDS_MAX
    assert parse(most + b"|x\n") == (Stop(0, texts.DOT_TOO_MANY),)
    assert parse(most + b"a@x\n") == (Stop(0, texts.DOT_TOO_MANY),)


def test_octets_that_are_not_utf8_survive_in_paths() -> None:
    (found,) = parse(b"./Bo\xeete/\n")
    assert isinstance(found, Maildir)
    assert found.path.encode("utf-8", "surrogateescape") == b"./Bo\xeete/"
