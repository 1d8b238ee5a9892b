"""The formats of qmail's control files (qmail-control(5)): text in, values out. Reading them is runtime/controls.py."""

import re

_DIGITS = re.compile(r"\d+")


def line(text: str) -> str:
    """The first line, blanks at its end removed."""
    return text.split("\n", 1)[0].rstrip(" \t")


def integer(text: str) -> int | None:
    """The leading decimal number of the first line; None when there is none, which means the default."""
    found = _DIGITS.match(text)
    return int(found.group()) if found else None


def listing(text: str) -> tuple[str, ...]:
    """Every line, blanks at its end removed, without empty lines and comments."""
    lines = (raw.rstrip(" \t") for raw in text.split("\n"))
    return tuple(entry for entry in lines if entry and not entry.startswith("#"))


def mapping(text: str) -> dict[str, str]:
    """`key:value` lines; keys in lower case; a line without a colon is ignored. Of equal keys the last counts, as in
    qmail's maps."""
    pairs: dict[str, str] = {}
    for entry in listing(text):
        key, colon, value = entry.partition(":")
        if colon:
            pairs[key.lower()] = value
    return pairs


def suffixes(domain: str) -> tuple[str, ...]:
    """Every `.suffix` of a domain, longest first: what a list of domains may name besides the domain itself."""
    domain = domain.lower()
    return tuple(domain[i:] for i in range(len(domain)) if domain[i] == ".")
