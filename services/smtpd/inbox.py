"""What a client has sent and nobody has read yet: whole lines for commands, large pieces for messages.

An asyncio.StreamReader with a look ahead, built on its public methods, so that aiosmtpd's own use of a reader still
works. Knows nothing of SMTP.
"""

import asyncio

from services.smtpd.limits import PIECE_OCTETS


class Inbox(asyncio.StreamReader):
    """A stream reader that knows whether more has come than was asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=PIECE_OCTETS, loop=loop)
        self._ahead = b""
        self._position = 0
        self._unread = 0

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # typeshed asks for an Iterable of bytes
        self._unread += len(data)
        super().feed_data(data)

    @property
    def waiting(self) -> int:
        """Octets that are here and not yet taken."""
        return len(self._ahead) - self._position + self._unread

    def line(self) -> bytes | None:
        """The next line with its LF; None when no whole one has been looked at yet."""
        start = self._position
        end = self._ahead.find(b"\n", start) + 1
        if not end:
            return None
        self._position = end
        return self._ahead[start:end]

    def partial(self) -> int:
        """Octets looked at that are no whole line."""
        return len(self._ahead) - self._position

    async def look(self) -> bool:
        """Waits for more to come and looks at it; False at the end of the stream."""
        piece = await self.read(PIECE_OCTETS)
        self._unread -= len(piece)
        self._ahead = self._ahead[self._position :] + piece if self.partial() else piece
        self._position = 0
        return bool(piece)

    async def piece(self) -> bytes:
        """The next octets, whatever they are; b"" at the end of the stream."""
        if self.partial():
            piece = self._ahead[self._position :]
            self._ahead, self._position = b"", 0
            return piece
        piece = await self.read(PIECE_OCTETS)
        self._unread -= len(piece)
        return piece

    def put_back(self, octets: bytes) -> None:
        """Octets taken too many: they come first again."""
        if octets:
            self._ahead, self._position = octets + self._ahead[self._position :], 0
