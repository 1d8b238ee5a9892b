"""Whose an address is, and who gets mail."""

import pytest

from mail.accounts import (
    Account,
    Candidate,
    candidates,
    may_have_mail,
    parse_group,
    parse_passwd,
    parse_shadow,
    parse_uid_min,
    with_groups,
)


def test_a_passwd_line_becomes_an_account() -> None:
    assert parse_passwd("ann:x:1001:100:Ann,,,:/home/ann:/bin/sh\n") == {
        "ann": Account("ann", 1001, 100, "/home/ann", "/bin/sh")
    }


@pytest.mark.parametrize(
    "line",
    [
        "",
        "# comment",
        "+::::::",
        "Ann:x:1001:100::/home/ann:/bin/sh",
        "ann:x:-1:100::/home/ann:/bin/sh",
        "ann:x:4294967295:100::/home/ann:/bin/sh",
        "ann:x:1001:100:/home/ann:/bin/sh",
        "ann:x:\u0661:100::/home/ann:/bin/sh",
        "../x:x:1001:100::/home/ann:/bin/sh",
        f"{'a' * 32}:x:1001:100::/home/ann:/bin/sh",
    ],
)
def test_a_line_that_is_no_account_is_passed_over(line: str) -> None:
    good = "bob:x:1002:100::/home/bob:/bin/sh"
    assert list(parse_passwd(f"{line}\n{good}\n")) == ["bob"]


def test_the_first_of_equal_names_counts() -> None:
    assert parse_passwd("ann:x:1001:1:::\nann:x:1002:1:::\n")["ann"].uid == 1001


def test_a_shadow_line_has_a_hash_and_an_end() -> None:
    entries = parse_shadow("ann:$y$j9T$x:19000:0:99999:7:::\nbob:!:19000:0:99999:7::20000:\nbroken\n")
    assert entries["ann"].password_hash == "$y$j9T$x"
    assert entries["ann"].expires_day is None
    assert entries["bob"].expires_day == 20000
    assert "broken" not in entries


def test_groups_add_up_without_root_and_without_repeats() -> None:
    groups = parse_group("a:x:5:ann,bob\nb:x:6:ann\nroot:x:0:ann\nown:x:1001:ann\n")
    assert with_groups(Account("ann", 1001, 1001, "/home/ann"), groups).groups == (5, 6)


def test_uid_min_comes_from_login_defs() -> None:
    assert parse_uid_min("#UID_MIN 5\nUID_MAX 60000\nUID_MIN\t\t\t 500\n") == 500
    assert parse_uid_min("SYS_UID_MIN 100\n") == 1_000


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        (Account("ann", 1001, 1001, "/home/ann"), True),
        (Account("root", 0, 0, "/root"), False),
        (Account("toor", 0, 1001, "/root"), False),
        (Account("ann", 1001, 0, "/home/ann"), False),
        (Account("www", 33, 33, "/var/www"), False),
        (Account("alias", 64010, 65534, "/var/qmail/alias"), True),
        (Account("alias", 101, 101, "/var/qmail/alias"), True),
        (Account("alias", 0, 0, "/var/qmail/alias"), False),
        (Account("nobody", 65534, 65534, "/nonexistent"), False),
    ],
)
def test_who_may_have_mail(account: Account, expected: bool) -> None:
    assert may_have_mail(account, 1_000) is expected


def test_the_longest_name_comes_first_and_alias_last() -> None:
    assert list(candidates("Joe-List-Owner")) == [
        Candidate("joe-list-owner", "", ""),
        Candidate("joe-list", "-", "Owner"),
        Candidate("joe", "-", "List-Owner"),
        Candidate("alias", "-", "Joe-List-Owner"),
    ]


def test_a_name_of_32_octets_never_matches() -> None:
    name = "a" * 32
    assert list(candidates(f"{name}-x")) == [Candidate("alias", "-", f"{name}-x")]


@pytest.mark.parametrize("local", ["", "-", "--", "a/b", "ü", "a b", "-x", "..", "+x"])
def test_what_no_account_is_called_belongs_to_alias_alone(local: str) -> None:
    assert list(candidates(local)) == [Candidate("alias", "-", local)]


@pytest.mark.parametrize("name", ["007", "4u", "a+b", "j.doe", "x=y", "a@b", "samba$"])
def test_a_name_need_not_be_one_that_useradd_likes(name: str) -> None:
    assert name in parse_passwd(f"{name}:x:1001:100::/home/x:/bin/sh\n")
    assert Candidate(name, "", "") in candidates(name)


@pytest.mark.parametrize("name", ["=joe", "+joe", "-joe", ".", "..", "~joe", "a/b", "a b", "a:b", "Ann"])
def test_what_looks_like_a_path_or_a_key_is_no_name(name: str) -> None:
    assert parse_passwd(f"{name}:x:1001:100::/home/x:/bin/sh\n") == {}


def test_only_the_letters_a_to_z_have_two_cases() -> None:
    """The Kelvin sign becomes a k in str.lower(): that would be another person's mail."""
    assert list(candidates("\u212aim")) == [Candidate("alias", "-", "\u212aim")]


def test_accounts_are_equal_when_one_process_can_serve_both() -> None:
    ann = Account("ann", 1001, 100, "/home/ann", "/bin/sh")
    assert ann == Account("ann", 1001, 100, "/home/ann", assigned="=ann")
    assert ann != Account("ann", 1001, 100, "/home/other")
    assert (ann.key, Account("ann", 1, 1, "/", assigned="+a").key) == ("ann", "+a")
