"""Connections that wait a moment for the next message to the same server: a handshake saved for each that comes.

The waiting time is short, since an idle connection costs the other side a process.
"""

import asyncio
from collections import deque

from runtime.clock import Clock
from services.remote.session import Session

# How long a connection waits for the next message. Postfix's smtp_connection_cache_time_limit is 2 s.
_IDLE_S = 3.0

# Idle connections in all, and to one address; each costs two sockets and some KiB, theirs and ours.
_IDLE_MAX = 200
_IDLE_PER_ADDRESS_MAX = 20

# After this many messages a connection is closed: servers behind one name get their turn.
_TRANSACTIONS_MAX = 100

_Key = tuple[str, str, int]


class Pool:
    """Idle connections by host, address and port; the one used last is used next."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: dict[_Key, deque[tuple[Session, asyncio.TimerHandle]]] = {}
        self._count = 0

    def take(self, host: str, ip: str, port: int) -> Session | None:
        """An idle connection to this address that still seems to be open."""
        waiting = self._idle.get((host, ip, port))
        while waiting:
            session, timer = waiting.pop()
            timer.cancel()
            self._left((host, ip, port))
            if session.is_usable:
                return session
            session.close()
        return None

    def give(self, session: Session) -> None:
        """Keeps a connection for a moment, or closes it."""
        one = session.exchanger
        key = (one.host, one.ip, one.port)
        here = len(self._idle.get(key, ()))
        is_spent = session.transactions >= _TRANSACTIONS_MAX
        if not session.is_usable or is_spent or here >= _IDLE_PER_ADDRESS_MAX or self._count >= _IDLE_MAX:
            session.close()
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._clock.scaled(_IDLE_S), self._expire, key, session)
        self._idle.setdefault(key, deque()).append((session, timer))
        self._count += 1

    def close(self) -> None:
        """Closes every idle connection."""
        for waiting in self._idle.values():
            for session, timer in waiting:
                timer.cancel()
                session.close()
        self._idle.clear()
        self._count = 0

    def _expire(self, key: _Key, session: Session) -> None:
        waiting = self._idle[key]
        for position, (one, _) in enumerate(waiting):
            if one is session:
                del waiting[position]
                self._left(key)
                break
        session.close()

    def _left(self, key: _Key) -> None:
        self._count -= 1
        if not self._idle[key]:
            del self._idle[key]
