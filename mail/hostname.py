"""What the name of a host may look like, and which parts of it qmail makes its default domains of. Pure."""

import re

# RFC 1123 2.1, and the underscore that some hosts have.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_HOST_MAX_CHARACTERS = 253  # RFC 1035 2.3.4, without the root's dot


def is_host(name: str) -> bool:
    """Whether `name` can be a host's name, with or without dots."""
    return len(name) <= _HOST_MAX_CHARACTERS and bool(_HOST.match(name))


def default_domain(name: str) -> str:
    """The name without its first label, where that leaves at least two (config-fast): a.b.c is b.c, b.c stays."""
    first, _, rest = name.partition(".")
    return rest if first and "." in rest else name


def plus_domain(name: str) -> str:
    """The last two labels of the name (config-fast)."""
    return ".".join(name.split(".")[-2:])
