"""config: the control files of a host whose name DNS knows, with the words of qmail's script of that name.

Asks the system's resolver for the host's address and the address's name, and for the names of the other addresses of
this machine; says and writes what it found. What it cannot find leaves every file as it was.
"""

import os
import socket
from collections.abc import Sequence

from mail.hostname import is_host
from programs import place
from programs.complaint import PERMANENT, TEMPORARY, because, die, reported
from programs.configfast import names_of, put, putting
from programs.stdio import standard_output

_ADDRESSES = "/proc/net/fib_trie"  # the kernel's routes, the addresses of this machine among them


def main(words: Sequence[str]) -> int:
    """0 when the files are written; 111 when DNS does not know this host, and then nothing was written."""
    if words:
        return die(PERMANENT, "config: usage: config")
    return reported("config", lambda _: configure(place.control(), socket.gethostname()), words)


def configure(control: str, host: str) -> int:
    """The exit status. Fatal when a file cannot be written."""
    host = host.lower()
    if not host:
        return _sorry("Sorry, I couldn't find your hostname.")
    _say(f"Your hostname is {host}.")
    found = _addresses(host)
    name = _name(found[0]) if found else ""
    # A name without a dot is the hosts file's, not DNS's.
    if "." not in name:
        return _sorry("Sorry, I couldn't find your host's canonical name in DNS.")
    _say(f"Your host's fully qualified name in DNS is {name}.", *putting(names_of(name)))
    _say(" ", "Checking local IP addresses:")
    here: list[str] = []
    for address in sorted({*found, *_own_addresses()}):
        local = _name(address)
        if local:
            _say(f"{address}: Adding {local} to control/locals...")
            here.append(local)
        else:
            _say(f"{address}: PTR lookup failed. I assume this address has no DNS name.")
    content = "".join(f"{local}\n" for local in here)
    try:
        os.makedirs(control, mode=0o755, exist_ok=True)
        put(control, names_of(name) | {"locals": content, "rcpthosts": content})
    except OSError as error:
        raise because(f"unable to write to {error.filename or control}: ", error) from error
    _say(
        " ",
        "If there are any other domain names that point to you,",
        f"you will have to add them to {control}/locals.",
        "You don't have to worry about aliases, i.e., domains with CNAME records.",
        " ",
        f"Copying {control}/locals to {control}/rcpthosts...",
        "Now qmail will refuse to accept SMTP messages except to those hosts.",
        "Make sure to change rcpthosts if you add hosts to locals or virtualdomains!",
    )
    return 0


def _sorry(reason: str) -> int:
    _say(reason, "You will have to set up control/me yourself.")
    return TEMPORARY


def _say(*lines: str) -> None:
    standard_output(os.fsencode(f"{line}\n") for line in lines)


def _addresses(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(place[0]) for *_, place in found]


def _name(address: str) -> str:
    """The name of an IPv4 address; "" when it has none that a host may have."""
    try:
        name = socket.gethostbyaddr(address)[0].lower().rstrip(".")
    except (OSError, UnicodeError):
        return ""
    return name if is_host(name) else ""


def _own_addresses() -> list[str]:
    """The IPv4 addresses of this machine."""
    found = []
    last = ""
    try:
        with open(_ADDRESSES, encoding="ascii") as file:
            for line in file:
                if "|--" in line:
                    last = line.split()[-1]
                elif "/32 host LOCAL" in line:
                    found.append(last)
    except OSError:
        pass  # no IPv4 here
    return found
