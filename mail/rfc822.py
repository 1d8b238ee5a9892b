"""Addresses in header fields the way qmail reads and writes them: RFC 822's words, leniently, to the byte.

Text becomes tokens, an address list of tokens is walked from right to left with every address handed to a callback, and
tokens become text again, folded after commas. Octets in, octets out; nothing is decoded, and what an address should
look like is the callback's affair (mail/qualify.py). Time and memory grow with the length of the text and nothing
recurses, so the caller's limit on a header is the only one that is needed.
"""

import re
from collections.abc import Callable, Iterable, Sequence

ATOM = 1
QUOTE = 2
LITERAL = 3
COMMENT = 4
LEFT = 5
RIGHT = 6
AT = 7
COMMA = 8
SEMI = 9
COLON = 10
DOT = 11

# A kind and, for the first four kinds, the text within: without quotes, brackets, parentheses and backslashes.
Token = tuple[int, bytes]
Rewrite = Callable[[list[Token]], list[Token]]

# Where qmail-inject folds.
LINE_OCTETS = 80

_GLYPH = {DOT: b".", COMMA: b",", AT: b"@", LEFT: b"<", RIGHT: b">", COLON: b":", SEMI: b";"}
_SPECIAL: dict[bytes, Token] = {glyph: (kind, b"") for kind, glyph in _GLYPH.items()}
_FRAME = {QUOTE: (b'"', b'"'), LITERAL: (b"[", b"]"), COMMENT: (b"(", b")")}
_WORDS = frozenset((ATOM, QUOTE, LITERAL, COMMENT))
_PHRASE = frozenset((COMMENT, ATOM, QUOTE, AT, DOT))

# Possessive throughout: what a quote or a bracket that never ends has taken is not given back piece by piece.
_NEXT = re.compile(
    rb'([ \t\r\n]++)|([.,@<>:;])|((?:[^ \t\r\n()\[\]"<>;:@,.\\]|\\.|\\\Z)(?:[^ \t\r\n(\["<>;:@,.\\]++|\\.|\\\Z)*+)'
    rb'|"((?:[^"\\]++|\\.)*+)"|\[((?:[^\]\\]++|\\.)*+)\]|(\()',
    re.DOTALL,
)
_BLANKS, _PUNCTUATION, _ATOM_TEXT, _QUOTE_TEXT, _LITERAL_TEXT, _OPENING = range(1, 7)
_IN_COMMENT = re.compile(rb"([^()\\]++)|\\(.)|([()])", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.?)", re.DOTALL)
_NOT_IN_ATOM = re.compile(rb"[^ -~]|[)\]\\]")
_TO_ESCAPE = re.compile(rb'["\[\]()\\\r\n]')


class Unparsable(ValueError):
    """The text is not a list of addresses, not even for qmail."""


def tokenise(text: bytes) -> list[Token]:
    """The tokens of a field or an address; raises Unparsable for what is opened and not closed, or closed unopened."""
    tokens: list[Token] = []
    position, end = 0, len(text)
    while position < end:
        found = _NEXT.match(text, position)
        if found is None:
            raise Unparsable(text)
        position = found.end()
        kind = found.lastindex or 0
        if kind == _BLANKS:
            continue
        if kind == _OPENING:
            comment, position = _comment(text, position)
            tokens.append((COMMENT, comment))
        elif kind == _PUNCTUATION:
            tokens.append(_SPECIAL[found[kind]])
        else:
            word = found[kind]
            if b"\\" in word:
                word = _ESCAPED.sub(rb"\1", word)
            if kind == _ATOM_TEXT:
                tokens.append((QUOTE if _NOT_IN_ATOM.search(word) else ATOM, word))
            else:
                tokens.append((QUOTE if kind == _QUOTE_TEXT else LITERAL, word))
    return tokens


def _comment(text: bytes, position: int) -> tuple[bytes, int]:
    """The comment that was opened before `position`, its inner parentheses dropped as qmail drops them, and its end."""
    parts: list[bytes] = []
    level = 1
    while level:
        found = _IN_COMMENT.match(text, position)
        if found is None:
            raise Unparsable(text)
        position = found.end()
        if found[3]:
            level += 1 if found[3] == b"(" else -1
        else:
            parts.append(found[1] or found[2])
    return b"".join(parts), position


def addresses(tokens: Sequence[Token], rewrite: Rewrite, first: int = 2) -> list[Token]:
    """The tokens with every address of the list rewritten, the rightmost first, and commas where blanks parted two.

    The first `first` tokens stay: a field's name and its colon. `rewrite` gets an address without its comments, an
    empty one for `<>`. Raises Unparsable for groups that are not closed or nested; what `rewrite` was given until then
    it was given.
    """
    return _Walk(tokens, rewrite, first).run()


class _Walk:
    """One walk over a list from right to left, where RFC 822's lists need no looking ahead."""

    def __init__(self, tokens: Sequence[Token], rewrite: Rewrite, first: int) -> None:
        self._tokens = tokens
        self._rewrite = rewrite
        self._first = first
        self._at = len(tokens) - 1
        self._out: list[Token] = []  # reversed, and so is the address
        self._address: list[Token] = []

    def run(self) -> list[Token]:
        in_group = False
        word_may_follow = True
        while self._at >= self._first:
            kind = self._tokens[self._at][0]
            if kind == SEMI:
                self._flush(comma=True)
                if in_group:
                    raise Unparsable("a group within a group")
                in_group = word_may_follow = True
                self._keep()
            elif kind == COLON:
                self._flush()
                if not in_group:
                    raise Unparsable("a group without an end")
                in_group, word_may_follow = False, True
                self._group_name()
            elif kind == RIGHT:
                self._flush(comma=True)
                self._bracketed()
                word_may_follow = False
            elif kind in (ATOM, QUOTE, LITERAL):
                if not word_may_follow:
                    self._flush(comma=True)
                word_may_follow = False
                self._take()
            elif kind == COMMENT:  # lexically a blank
                self._keep()
            elif kind == COMMA:
                self._flush()
                word_may_follow = True
                self._keep()
            else:
                word_may_follow = True
                self._take()
        self._flush()
        self._out.extend(reversed(self._tokens[: self._at + 1]))
        self._out.reverse()
        return self._out

    def _keep(self) -> None:
        self._out.append(self._tokens[self._at])
        self._at -= 1

    def _take(self) -> None:
        self._address.append(self._tokens[self._at])
        self._at -= 1

    def _flush(self, comma: bool = False) -> None:
        if self._address:
            self._hand_over()
            if comma:
                self._out.append((COMMA, b""))

    def _hand_over(self) -> None:
        self._address.reverse()
        self._out.extend(reversed(self._rewrite(self._address)))
        self._address = []

    def _group_name(self) -> None:
        while self._at >= self._first and self._tokens[self._at][0] != COMMA:
            self._keep()
        if self._at >= self._first:
            self._keep()

    def _bracketed(self) -> None:
        """`phrase <address>`: the address is handed over even if it is empty, the phrase is kept."""
        self._keep()
        while self._at >= self._first and self._tokens[self._at][0] != LEFT:
            self._take()
        self._hand_over()
        if self._at < self._first:
            raise Unparsable("a bracket that was not opened")
        self._keep()
        while self._at >= self._first and self._tokens[self._at][0] in _PHRASE:
            self._keep()


def unquoted(tokens: Iterable[Token]) -> bytes:
    """The address as an envelope has it: no comments, no quotes, no blanks."""
    return b"".join(
        b"[%b]" % text if kind == LITERAL else text if kind in _WORDS else _GLYPH[kind]
        for kind, text in tokens
        if kind != COMMENT
    )


def unparse(tokens: Iterable[Token], line_octets: int = LINE_OCTETS) -> bytes:
    """The tokens as a line with its LF, folded after a comma where more than `line_octets` (0: never) would follow."""
    out: list[bytes] = []
    length = -1  # of the line so far; before the first piece there is none
    for piece in _pieces(tokens):
        # The LF and the blank that part two pieces until it is known that they need not be parted count too.
        if length >= 0 and line_octets and length + 2 + len(piece) > line_octets:
            out.append(b"\n ")
            length = 1
        out.append(piece)
        length = max(length, 0) + len(piece)
    out.append(b"\n")
    return b"".join(out)


def _pieces(tokens: Iterable[Token]) -> Iterable[bytes]:
    """What stands up to and including each comma, and the rest, which may be empty."""
    parts: list[bytes] = []
    last = 0
    for kind, text in tokens:
        if last and (last in (COLON, COMMA) or kind == LEFT or (last in _WORDS and kind in _WORDS)):
            parts.append(b" ")
        last = kind
        if kind not in _WORDS:
            parts.append(_GLYPH[kind])
            if kind == COMMA:
                yield b"".join(parts)
                parts = []
            continue
        opening, closing = _FRAME.get(kind, (b"", b""))
        parts += (opening, _TO_ESCAPE.sub(rb"\\\g<0>", text), closing)
    yield b"".join(parts)


# -- an envelope's address in a header --------------------------------------------------------------------------------

# What may stand in a box name without quotes (qmail's quote(3)): atoms and dots. Octets from 128 on may not.
_PLAIN_BOX = re.compile(rb"[!#$%&'*+/0-9=?A-Z^_`a-z{|}~.-]+\Z")
_TO_ESCAPE_IN_BOX = re.compile(rb'[\r\n"\\]')


def needs_quotes(box: bytes) -> bool:
    """Whether a local part cannot be written as it is in a header or an SMTP command."""
    return not _PLAIN_BOX.match(box) or box.startswith(b".") or box.endswith(b".") or b".." in box


def quoted(address: bytes) -> bytes:
    """The address as a header writes it: its local part in quotes where needed; an empty address is empty."""
    box, at, host = address.rpartition(b"@")
    if not at:
        box, host = address, b""
    if address and needs_quotes(box):
        box = b'"%b"' % _TO_ESCAPE_IN_BOX.sub(rb"\\\g<0>", box)
    return box + at + host
