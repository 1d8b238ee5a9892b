"""The names that the control directory gives this host, as programs read them (qmail-control(5), control_rldef).

A name is the first line of its file, else that of `me`, else the word itself. `OSError` is for whoever asks to explain.
"""

from collections.abc import Mapping

from programs import place

_BLANKS = b" \t"


def line(name: str) -> bytes | None:
    """The first line of a control file without blanks at its end; None when there is no such file."""
    text = place.control_text(name)
    return None if text is None else text.partition(b"\n")[0].rstrip(_BLANKS)


def listing(text: bytes) -> list[bytes]:
    """The lines of a file of names: blanks at the end do not count, nor do empty lines and comments."""
    lines = (one.rstrip(_BLANKS) for one in text.split(b"\n"))
    return [one for one in lines if one and not one.startswith(b"#")]


class Names:
    """What this host is called; asks for each file once."""

    def __init__(self, overriding: Mapping[str, bytes | None] | None = None) -> None:
        """`overriding` says instead what the environment says."""
        self._overriding = overriding or {}
        self._me = line("me")

    def __getitem__(self, name: str) -> bytes:
        said = line(name)
        instead = self._overriding.get(name)
        if instead is not None:
            return instead
        if said is not None:
            return said
        return name.encode("ascii") if self._me is None else self._me
