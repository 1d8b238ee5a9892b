"""Password hashes: what opens an account, and what never does."""

import pytest

from runtime import passwords

SHA512 = "$6$saltsalt$"
REFERENCE = passwords.make_hash("nobody's")


def hashed(password: bytes, setting: str) -> str:
    computed = passwords._crypt(password, setting)
    assert computed is not None
    return computed.decode()


@pytest.mark.parametrize(
    "setting", ["$y$j9T$abcdefghijklmnop$", "$6$saltsalt$", "$5$saltsalt$", "$2b$04$abcdefghijklmnopqrstuu", "$1$salt$"]
)
def test_every_scheme_of_libcrypt_is_checked(setting: str) -> None:
    stored = hashed(b"correct horse", setting)
    assert passwords.check(b"correct horse", stored, REFERENCE)
    assert not passwords.check(b"correct horses", stored, REFERENCE)
    assert not passwords.check(b"correct hors", stored, REFERENCE)


def test_the_example_of_the_sha512crypt_specification_is_checked() -> None:
    stored = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
    assert passwords.check(b"Hello world!", stored, REFERENCE)


def test_a_made_hash_opens_with_its_password_only() -> None:
    stored = passwords.make_hash("Grüße aus Köln")
    assert stored.startswith(("$y$", "$6$"))
    assert passwords.check("Grüße aus Köln".encode(), stored, REFERENCE)
    assert not passwords.check(b"Gruesse aus Koeln", stored, REFERENCE)
    assert passwords.make_hash("Grüße aus Köln") != stored, "each hash has its own salt"


@pytest.mark.parametrize("stored", [None, "", "!", "*", "!!", "x", "*0", "*1", "NP", "$9$unknown$abc", "\0", "$6$a\0b"])
def test_what_is_not_a_hash_opens_nothing(stored: str | None) -> None:
    for password in (b"", b"x", b"*0", b"nobody's", (stored or "").encode()):
        assert not passwords.check(password, stored, REFERENCE)


def test_a_locked_hash_opens_nothing_even_with_its_password() -> None:
    stored = hashed(b"secret", SHA512)
    assert not passwords.check(b"secret", "!" + stored, REFERENCE)
    assert not passwords.check(b"secret", "*" + stored, REFERENCE)


def test_the_reference_itself_opens_nothing() -> None:
    reference = hashed(b"secret", SHA512)
    assert not passwords.check(b"secret", None, reference)
    assert not passwords.check(b"secret", "", reference)


def test_a_password_is_never_cut_at_a_nul() -> None:
    stored = hashed(b"secret", SHA512)
    assert not passwords.check(b"secret\0more", stored, REFERENCE)


def test_an_empty_or_endless_password_opens_nothing() -> None:
    assert not passwords.check(b"", hashed(b"", SHA512), REFERENCE)
    assert not passwords.check(b"a" * 100_000, hashed(b"a", SHA512), REFERENCE)
    assert not passwords.check(b"stand-in" * 100, hashed(b"stand-in", SHA512), REFERENCE)


def test_the_stand_in_phrase_opens_nothing() -> None:
    assert not passwords.check(b"", hashed(b"stand-in", SHA512), REFERENCE)


def test_the_longest_password_is_whole() -> None:
    longest = "a" * passwords.PASSWORD_MAX_OCTETS
    stored = passwords.make_hash(longest)
    assert passwords.check(longest.encode(), stored, REFERENCE)
    assert not passwords.check(longest[:-1].encode(), stored, REFERENCE)


@pytest.mark.parametrize("password", ["", "a\0b", "a" * (passwords.PASSWORD_MAX_OCTETS + 1)])
def test_no_hash_is_made_of_what_could_not_be_checked(password: str) -> None:
    with pytest.raises(passwords.PasswordError):
        passwords.make_hash(password)


def test_the_reference_is_of_the_scheme_and_cost_most_used() -> None:
    sha = hashed(b"a", SHA512)
    costly = hashed(b"a", "$6$rounds=9000$saltsalt$")
    other = hashed(b"b", "$6$rounds=9000$othersalt$")
    assert passwords.reference_of(["!", "", sha, costly, "*", other]) == costly
    assert passwords.is_usable(passwords.reference_of(["!", ""])), "with no hash at all one is made"
