"""config-fast: the control files of a host whose name is given, without asking DNS.

Knows the five files and what qmail's script of that name says while it writes them. A name that already stands in
`locals` or `rcpthosts` is not written there again; everything else is as the script does it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence

from mail.hostname import default_domain, is_host, plus_domain
from programs import place
from programs.complaint import PERMANENT, Fatal, because, die, reported
from programs.stdio import standard_output
from runtime.durable import Disk


def main(words: Sequence[str]) -> int:
    """0 when the files are written; 100 or 111 with a reason."""
    if len(words) != 1 or words[0].startswith("-"):
        return die(PERMANENT, "config-fast: usage: config-fast host")
    return reported("config-fast", lambda words: _say(write(place.control(), words[0])), words)


def _say(lines: Sequence[str]) -> int:
    standard_output(os.fsencode(f"{line}\n") for line in lines)
    return 0


def write(control: str, name: str) -> list[str]:
    """Writes me, defaultdomain and plusdomain, appends the name to locals and rcpthosts; returns what config-fast says.
    Fatal when it is no name or a file cannot be written."""
    if not is_host(name):
        raise Fatal(PERMANENT, f"{name!r} is not a host name: give this host's full name, such as mail.example.org")
    try:
        os.makedirs(control, mode=0o755, exist_ok=True)
        files = names_of(name) | {
            file: _appended(os.path.join(control, file), name) for file in ("locals", "rcpthosts")
        }
        put(control, files)
    except OSError as error:
        raise because(f"unable to write to {error.filename or control}: ", error) from error
    return [
        f"Your fully qualified host name is {name}.",
        *putting(names_of(name)),
        f"Putting {name} into control/locals...",
        f"Putting {name} into control/rcpthosts...",
        f"Now qmail will refuse to accept SMTP messages except to {name}.",
        "Make sure to change rcpthosts if you add hosts to locals or virtualdomains!",
    ]


def names_of(name: str) -> dict[str, str]:
    """me, defaultdomain and plusdomain of the host with this name."""
    return {"me": f"{name}\n", "defaultdomain": f"{default_domain(name)}\n", "plusdomain": f"{plus_domain(name)}\n"}


def putting(files: Mapping[str, str]) -> Iterator[str]:
    """What qmail's scripts say of files that have one line."""
    return (f"Putting {content.rstrip()} into control/{file}..." for file, content in files.items())


def put(control: str, files: Mapping[str, str]) -> None:
    """Writes them all, `me` last: its presence says that the others are there."""
    for file in sorted(files, key=lambda file: file == "me"):
        Disk().replace_file(os.path.join(control, file), os.fsencode(files[file]), 0o644)


def _appended(path: str, value: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            content = file.read()
    except FileNotFoundError:
        content = ""
    if value in content.splitlines():
        return content
    return content + ("" if not content or content.endswith("\n") else "\n") + f"{value}\n"
