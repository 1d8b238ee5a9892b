"""What completes an address in /etc/aliases and :include: files: the names of the control directory.

Unlike qmail-inject, fastforward takes `me` for whatever is not there, and the word `me` where there is none.
"""

import os
from collections.abc import Mapping

from mail.aliases import Names
from programs import naming, place
from programs.complaint import because


def names(overriding: Mapping[bytes, bytes] | None = None) -> Names:
    """The names as the control files say them, or as `overriding` says by QMAILDEFAULTHOST and its kind. Fatal."""
    instead = overriding or {}
    directory = place.control()
    try:
        os.stat(os.path.join(directory, ""))
    except OSError as error:
        raise because(f"unable to chdir to {directory}: ", error) from error
    try:
        me = naming.line("me")
        found = {name: naming.line(name) for name in ("defaulthost", "defaultdomain", "plusdomain")}
    except OSError as error:
        raise because("unable to read controls: ", error) from error

    def named(name: str) -> bytes:
        said = instead.get(b"QMAIL" + name.upper().encode(), found[name])
        return said if said is not None else b"me" if me is None else me

    return Names(host=named("defaulthost"), domain=named("defaultdomain"), plus=named("plusdomain"))
