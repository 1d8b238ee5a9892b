"""Password hashes: whatever this machine's libcrypt knows (crypt(5)), yescrypt included, asked through ctypes.

Knows schemes and time; must not know where accounts are kept or who asks. A check takes 1 ms (sha512crypt) to 250 ms
(bcrypt) of one core, so callers run it outside the event loop and bound how many run at once. The time it takes
depends on the hash's scheme and cost only, not on whether the account exists, is locked, or the password is nearly
right.
"""

import base64
import ctypes
import functools
import hmac
from collections import Counter
from collections.abc import Iterable

from runtime.clock import Chance, SystemChance

# libxcrypt refuses phrases of 512 octets and more (CRYPT_MAX_PASSPHRASE_SIZE counts the NUL).
PASSWORD_MAX_OCTETS = 511

# struct crypt_data is 131,232 octets in glibc's libcrypt and 32,768 in libxcrypt's; the larger serves both.
_CRYPT_DATA_OCTETS = 131_232
_GENSALT_OUTPUT_OCTETS = 192  # CRYPT_GENSALT_OUTPUT_SIZE of libxcrypt
_SALT_OCTETS = 12  # 16 characters, the most that sha512crypt uses

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_SCHEMES = ("$y$", "$6$")  # the best first; crypt(5) calls both suitable for new hashes
_SHA512_SCHEME = "$6$"

# What is hashed in place of a phrase that crypt(3) would refuse or cut: the time must be spent, the result is not used.
_STAND_IN = b"stand-in"


class PasswordError(Exception):
    """This machine's libcrypt cannot do what was asked."""


def check(password: bytes, stored: str | None, reference: str) -> bool:
    """Whether `password` is the one whose hash an account file holds.

    `stored` None means that there is no such account; an empty, locked (`!`, `*`) or unknown hash opens nothing.
    `reference` (see `reference_of`) is then hashed against, so that all of these take the time of a wrong password.
    """
    setting = stored if stored is not None and is_usable(stored) else reference
    phrase = password if _is_phrase(password) else _STAND_IN
    computed = _crypt(phrase, setting)
    if computed is None and setting != reference:  # a damaged hash must not answer sooner than a good one
        _crypt(phrase, reference)
    equal = hmac.compare_digest(computed or b"", setting.encode("utf-8", "surrogateescape"))
    return equal and setting is stored and phrase is password


def is_usable(stored: str) -> bool:
    """Whether a password field can open an account at all: not empty, not locked, not `x` (which points elsewhere)."""
    return len(stored) > 1 and not stored.startswith(("!", "*")) and "\0" not in stored and ":" not in stored


def reference_of(hashes: Iterable[str]) -> str:
    """The hash that accounts without one are checked against: one of the scheme and cost most used among `hashes`."""
    usable = [stored for stored in hashes if is_usable(stored)]
    if not usable:
        return _reference()
    common, _ = Counter(_scheme(stored) for stored in usable).most_common(1)[0]
    return next(stored for stored in usable if _scheme(stored) == common)


def make_hash(password: str) -> str:
    """A new hash of `password` in this machine's best scheme; PasswordError when it is empty, too long or has a NUL."""
    phrase = password.encode()
    if not _is_phrase(phrase):
        raise PasswordError(f"a password has 1 to {PASSWORD_MAX_OCTETS} octets and no NUL")
    for scheme in _SCHEMES:
        setting = _setting(scheme, SystemChance())
        computed = _crypt(phrase, setting) if setting else None
        if computed is not None:
            return computed.decode("ascii")
    raise PasswordError(f"libcrypt knows none of the schemes {', '.join(_SCHEMES)}")


@functools.cache
def _reference() -> str:
    return make_hash(base64.b64encode(SystemChance().octets(_SALT_OCTETS)).decode("ascii"))


def _is_phrase(password: bytes) -> bool:
    """Whether crypt(3) sees the whole of it: it stops at a NUL, so `right\\0wrong` would pass for `right`."""
    return 0 < len(password) <= PASSWORD_MAX_OCTETS and b"\0" not in password


def _scheme(stored: str) -> str:
    """Scheme and cost: the hash up to its salt."""
    parts = stored.split("$")
    if len(parts) < 4:
        return parts[1] if len(parts) > 1 else "DES"
    costed = parts[1] in ("y", "gy", "7", "2a", "2b", "2x", "2y") or parts[2].startswith("rounds=")
    return "$".join(parts[1:3]) if costed else parts[1]


@functools.cache
def _library() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.crypt_r.restype = ctypes.c_char_p
        library.crypt_r.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        return library
    raise PasswordError(f"none of {', '.join(_LIBRARIES)} is installed: install Debian's libcrypt1")


def _crypt(phrase: bytes, setting: str) -> bytes | None:
    """crypt_r(3); None for a setting that the library does not know or that is damaged."""
    room = ctypes.create_string_buffer(_CRYPT_DATA_OCTETS)
    computed: bytes | None = _library().crypt_r(phrase, setting.encode("utf-8", "surrogateescape"), room)
    ctypes.memset(room, 0, _CRYPT_DATA_OCTETS)  # the room holds the phrase
    return None if computed is None or computed.startswith(b"*") else computed


def _setting(scheme: str, chance: Chance) -> str | None:
    """A fresh salt with the library's default cost; None when it does not know the scheme."""
    try:
        generate = _library().crypt_gensalt_rn
    except AttributeError:  # glibc's own libcrypt, which knows sha512crypt but makes no salts
        if scheme != _SHA512_SCHEME:
            return None
        salt = base64.b64encode(chance.octets(_SALT_OCTETS), altchars=b"./").decode("ascii")
        return f"{_SHA512_SCHEME}{salt}$"
    generate.restype = ctypes.c_char_p
    generate.argtypes = (
        ctypes.c_char_p,
        ctypes.c_ulong,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
    )
    output = ctypes.create_string_buffer(_GENSALT_OUTPUT_OCTETS)
    made: bytes | None = generate(scheme.encode("ascii"), 0, None, 0, output, _GENSALT_OUTPUT_OCTETS)
    return made.decode("ascii") if made else None
