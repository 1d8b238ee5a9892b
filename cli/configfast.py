"""qmail's config-fast: the control files of a host whose name is given, without asking DNS."""

import os
import re

from cli.refusal import Refusal
from runtime.durable import Disk

# RFC 1123 2.1, and the underscore that some hosts have.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_HOST_MAX_CHARACTERS = 253  # RFC 1035 2.3.4, without the root's dot


def is_host(name: str) -> bool:
    """Whether `name` can be a host's name, with or without dots."""
    return len(name) <= _HOST_MAX_CHARACTERS and bool(_HOST.match(name))


def shorten(name: str) -> str:
    """The name without its first label, where that leaves at least two: a.b.c becomes b.c, b.c stays."""
    first, _, rest = name.partition(".")
    return rest if first and "." in rest else name


def write(control: str, name: str) -> list[str]:
    """Writes me, defaultdomain and plusdomain, appends the name to locals and rcpthosts; returns what config-fast says.

    A name that already stands in locals or rcpthosts is not appended again.
    """
    if not is_host(name):
        raise Refusal(f"{name!r} is not a host name: give this host's full name, such as mail.example.org")
    os.makedirs(control, mode=0o755, exist_ok=True)
    default_domain = shorten(name)
    said = [f'Your fully qualified host name is "{name}".']
    for file, value in (
        ("defaultdomain", default_domain),
        ("plusdomain", shorten(default_domain)),
        ("locals", name),
        ("rcpthosts", name),
        ("me", name),  # last: its presence says that the others are there
    ):
        said.append(f"Putting {value} into control/{file}...")
        path = os.path.join(control, file)
        content = _appended(path, value) if file in ("locals", "rcpthosts") else f"{value}\n"
        Disk().replace_file(path, content.encode(), 0o644)
    said.append(f"Now Seapost will refuse to accept SMTP messages except to {name}.")
    said.append("Make sure to change rcpthosts if you add hosts to locals or virtualdomains!")
    return said


def _appended(path: str, value: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read()
    except FileNotFoundError:
        content = ""
    if value in content.splitlines():
        return content
    return content + ("" if not content or content.endswith("\n") else "\n") + f"{value}\n"
