"""The front's side of the submission socket: what qmail-queue(8) took from programs, taken over a local socket.

A client hears `+` when it is its turn, sends the message in pieces with their length in front, a piece of length zero,
then the envelope in the same way, and hears `K<id>` or `<exit code of qmail-queue> <text>`. The kernel says who it is
(SO_PEERCRED). Until both zeros have come nothing is queued; how much one user can hold up is bounded.
"""

import asyncio
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field

from mail.header import received_from_local
from mail.limits import MESSAGE_MAX_OCTETS, MIB, RECIPIENTS_MAX
from runtime.accounts import Accounts, AccountsError
from runtime.clock import fresh_id
from runtime.config import Address
from runtime.producer import UNREACHABLE, Producer, Submission
from runtime.serve import Process
from services.local.envelope import Envelope, Unfit, parse

# qmail-queue's alarm: a program that takes its time, such as a build piped into mail, may take a day.
ALARM_S = 86_400.0

# Connections at once. A user with more is told to come back, which programs/submit.py does; when all are taken, a
# newcomer gets the place of whoever holds most and says nothing.
CONNECTIONS_MAX = 512
CONNECTIONS_PER_UID_MAX = 128

# Octets of messages that have not been queued yet: one of the largest size for each of two users. Python holds a
# message twice for the moment in which its pieces are put together.
HELD_MAX_OCTETS = 2 * MESSAGE_MAX_OCTETS + 32 * MIB
HELD_PER_UID_MAX_OCTETS = MESSAGE_MAX_OCTETS + 16 * MIB

# An envelope may be to many more than one message can carry (a mailing list); it becomes several messages then.
ENVELOPE_MAX_OCTETS = 8 * MIB

# Accepting one costs the loop a tenth of a millisecond: so many at once and a pause leave most of it to deliveries.
_ACCEPTS_AT_ONCE = 32
_ACCEPT_PAUSE_S = 0.01
_TROUBLE_PAUSE_S = 0.5

_SIZE = struct.Struct("!I")
# Only the last piece of a part may be smaller: many small ones would cost the loop more than they cost the client.
_PIECE_MIN_OCTETS = 4 * 1024
_PIECE_MAX_OCTETS = MIB
_BUFFER_OCTETS = 64 * 1024
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)

_OUT_OF_MEMORY = 51
_DISK_FULL = 53
_TIMEOUT = 52
_REJECTED = 31
_REJECTED_FOR_NOW = 71
_NO_QUEUE = 74
_GARBLED = 81

_TOO_BIG = Unfit(_REJECTED, f"message is larger than {MESSAGE_MAX_OCTETS} octets (#5.3.4)")
_TOO_MANY = Unfit(_REJECTED, f"envelope is larger than {ENVELOPE_MAX_OCTETS} octets (#5.5.3)")

TURN = b"+\n"
BUSY = b"71 too many at once, try again\n"


@dataclass(eq=False, slots=True)
class _Guest:
    """A connection, from its first moment on. `size` is what its message has come to, `whole` that all has come."""

    uid: int
    task: "asyncio.Task[None] | None" = None
    size: int = 0
    heard_s: float = 0.0
    whole: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Submissions:
    """Takes mail from programs and hands it to the queue."""

    def __init__(
        self, sock: socket.socket | None, queues: tuple[Address, ...], process: Process, accounts: Accounts
    ) -> None:
        self._sock = sock
        self._producer = Producer(queues, process)
        self._process = process
        self._accounts = accounts
        self._guests: set[_Guest] = set()
        self._of: Counter[int] = Counter()
        self._held: Counter[int] = Counter()
        self._closing = False

    async def run(self) -> None:
        """Keeps the queue's streams and accepts, until cancelled."""
        if self._sock is None:
            await asyncio.Event().wait()
        else:
            await asyncio.gather(self._producer.run(), self._accept(self._sock))

    async def _accept(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(_ACCEPTS_AT_ONCE):
                try:
                    client, _ = await loop.sock_accept(door)
                except OSError as error:  # no descriptor left: those who are inside will leave some
                    self._process.events.warning(f"a program cannot be heard: {error.strerror}")
                    await asyncio.sleep(_TROUBLE_PAUSE_S)
                    break
                self._welcome(client)
            await asyncio.sleep(_ACCEPT_PAUSE_S)

    async def close(self, within_s: float) -> None:
        """Lets nobody in any more, sends home who has sent nothing, and gives the others this long. Call it while `run`
        is running: who comes now is told to come back."""
        self._closing = True
        for guest in list(self._guests):
            if not guest.size and not guest.whole and guest.task:
                guest.task.cancel()
        waiting = [asyncio.ensure_future(guest.ended.wait()) for guest in self._guests]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=within_s)
            for one in late:
                one.cancel()
        for guest in list(self._guests):
            if guest.task:
                guest.task.cancel()

    # -- who is inside ------------------------------------------------------------------------------------------------

    def _welcome(self, client: socket.socket) -> None:
        _, uid, _ = _CREDENTIALS.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        full = len(self._guests) >= CONNECTIONS_MAX and not self._make_room(uid)
        if self._closing or full or self._of[uid] >= CONNECTIONS_PER_UID_MAX:
            client.setblocking(False)
            client.send(BUSY)  # an empty buffer takes it
            client.close()
            return
        guest = _Guest(uid, heard_s=self._process.clock.monotonic())
        self._guests.add(guest)
        self._of[uid] += 1
        guest.task = asyncio.get_running_loop().create_task(self._attend(guest, client))

    def _make_room(self, newcomer: int) -> bool:
        """Sends home the longest silent guest of the user who has most, if that is more than the newcomer has."""
        hog, most = self._of.most_common(1)[0]
        if most <= self._of[newcomer] + 1:
            return False
        silent = [guest for guest in self._guests if guest.uid == hog and not guest.whole]
        if not silent:
            return False
        first = min(silent, key=lambda guest: guest.heard_s)
        self._forget(first)
        if first.task:
            first.task.cancel()
        return True

    def _forget(self, guest: _Guest) -> None:
        if guest not in self._guests:
            return
        self._guests.remove(guest)
        for counter, count in ((self._of, 1), (self._held, guest.size)):
            counter[guest.uid] -= count
            if not counter[guest.uid]:
                del counter[guest.uid]
        guest.ended.set()

    # -- one client ---------------------------------------------------------------------------------------------------

    async def _attend(self, guest: _Guest, client: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(sock=client, limit=_BUFFER_OCTETS)
        except OSError:
            client.close()
            return self._forget(guest)
        try:
            writer.write(TURN)
            async with asyncio.timeout(self._process.clock.scaled(ALARM_S)):
                answer = await self._converse(guest, reader)
            writer.write(answer)
            await writer.drain()
        except TimeoutError:
            writer.write(b"%d \n" % _TIMEOUT)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it ended before the end: nothing was queued
        finally:
            self._forget(guest)
            writer.close()

    async def _converse(self, guest: _Guest, reader: asyncio.StreamReader) -> bytes:
        """Reads one submission and sees it queued; the answer."""
        try:
            message = await self._part(guest, reader, MESSAGE_MAX_OCTETS, _TOO_BIG)
            octets = await self._part(guest, reader, ENVELOPE_MAX_OCTETS, _TOO_MANY)
            guest.whole = True
            envelope = parse(bytes(octets))
        except Unfit as unfit:
            return b"%d %b\n" % (unfit.code, unfit.text.encode())
        return await self._queue(guest, message, envelope)

    async def _part(self, guest: _Guest, reader: asyncio.StreamReader, most: int, too_much: Unfit) -> bytearray:
        """The octets of all pieces up to the one of length zero."""
        octets = bytearray()
        size = _PIECE_MAX_OCTETS
        while True:
            before, (size,) = size, _SIZE.unpack(await reader.readexactly(_SIZE.size))
            if not size:
                return octets
            if size > _PIECE_MAX_OCTETS or before < _PIECE_MIN_OCTETS:
                raise Unfit(_GARBLED)
            if len(octets) + size > most:
                raise too_much
            self._hold(guest, size)
            octets += await reader.readexactly(size)
            guest.heard_s = self._process.clock.monotonic()

    def _hold(self, guest: _Guest, octets: int) -> None:
        if self._held[guest.uid] + octets > HELD_PER_UID_MAX_OCTETS or self._held.total() + octets > HELD_MAX_OCTETS:
            raise Unfit(_OUT_OF_MEMORY)
        self._held[guest.uid] += octets
        guest.size += octets

    async def _queue(self, guest: _Guest, sent: bytearray, envelope: Envelope) -> bytes:
        """One message for each thousand recipients, one after the other: what is refused is so before any is queued,
        as far as anybody can know."""
        why = self._who(guest.uid)
        first = ""
        for start in range(0, len(envelope.recipients) or 1, RECIPIENTS_MAX):
            message, unix_s = (
                fresh_id(self._process.clock, self._process.chance),
                self._process.clock.wall_ms() // 1_000,
            )
            recipients = envelope.recipients[start : start + RECIPIENTS_MAX]
            body = b"".join((received_from_local(message, why, unix_s).encode("ascii"), sent))
            refusal = None
            if recipients:  # qmail takes a message to nobody and ends it at once
                refusal = await self._producer.submit(
                    Submission(id=message, sender=envelope.sender, recipients=recipients, body=body, uid=guest.uid)
                )
            if refusal is not None:
                code, text = _in_qmails_words(refusal)
                self._refused(
                    guest, code, f"{message} {refusal}" if not first else f"after {first}: {message} {refusal}"
                )
                return b"%d %b\n" % (code, text.encode())
            first = first or message
            self._process.events.accepted(message, f"uid {guest.uid}", envelope.sender, list(recipients), len(body))
        return b"K%b\n" % first.encode()

    def _who(self, uid: int) -> str:
        try:
            alias = self._accounts.find("alias")
        except AccountsError:  # an alert of whoever needs them more
            alias = None
        return "by alias" if alias is not None and alias.uid == uid else f"by uid {uid}"

    def _refused(self, guest: _Guest, code: int, about: str) -> None:
        self._process.events.refused(f"uid {guest.uid}", str(code), about)


def _in_qmails_words(reply: str) -> tuple[int, str]:
    """The exit code of qmail-queue for an SMTP reply of the queue, and its text with the status where qmail has it."""
    code, _, rest = reply.partition(" ")
    status, _, text = rest.partition(" ")
    if reply == UNREACHABLE:
        return _NO_QUEUE, ""
    if code == "452":
        return _DISK_FULL, ""
    shown = "".join(one if one.isprintable() else "?" for one in f"{text} (#{status})")
    return (_REJECTED if code.startswith("5") else _REJECTED_FOR_NOW), shown
