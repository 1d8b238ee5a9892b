"""Leases in Redis: a hint to other replicas that an owner is alive, and a quick look at the highest token.

Nothing here decides who owns a log: that is the directory's name on the volume. Redis may be gone, slow, empty, stale
or lying; then a lease is UNREACHABLE or ABSENT, and the rules of ownership.py use the heartbeat. The script is
idempotent, because a client library may send it twice.
"""

import contextlib
from enum import Enum
from typing import Any, cast

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

USER = "fence"
LEASE_MS = 8_000
RENEW_S = 2.0
_TIMEOUT_S = 0.5

# KEYS: lease, highest token. ARGV: holder (owner and incarnation), token, milliseconds. Answers the highest token seen.
_RENEW = """
local highest = tonumber(redis.call('GET', KEYS[2]) or '0')
local token = tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'holder', 'token')
if not held[1] or held[1] == ARGV[1] or tonumber(held[2]) < token then
  redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
if token > highest then
  redis.call('SET', KEYS[2], ARGV[2])
  highest = token
end
return highest
"""

# RuntimeError is what uvloop says of a connection that broke under the client's hands.
_TROUBLE = (redis.exceptions.RedisError, OSError, TimeoutError, ValueError, RuntimeError)


class Lease(Enum):
    """What Redis says of a log's owner."""

    HELD = "held"
    ABSENT = "absent"
    UNREACHABLE = "unreachable"


class Fence:
    """The leases of one cluster, seen by one owner. Without a URL it is UNREACHABLE, always.

    `password` is of the Redis user `fence`; "" when the URL says who we are.
    """

    def __init__(self, url: str, password: str, cluster_id: str, holder: str) -> None:
        self._prefix = f"fence:{cluster_id}:"
        self._holder = holder
        self._url = url
        self._credentials: dict[str, Any] = {"username": USER, "password": password} if password else {}
        self._named = True
        self._redis: Any = None
        if url:
            self._connect()

    def _connect(self) -> None:
        self._redis = redis.asyncio.Redis.from_url(
            self._url,
            **(self._credentials if self._named else {}),
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._renew = self._redis.register_script(_RENEW)

    async def renew(self, log: str, token: int) -> bool:
        """Says that we own the log; False when nobody heard."""
        if self._redis is None:
            return False
        client = self._redis
        keys = [f"{self._prefix}{log}", f"{self._prefix}token"]
        try:
            await self._renew(keys=keys, args=[self._holder, token, LEASE_MS])
        except redis.exceptions.AuthenticationError:
            # A server of the operator's own may have no such user, ours may have it again soon: the next renewal comes
            # without a name, and the one after it, if need be, with it.
            await self._connect_anew(client, not self._named)
            return False
        except RuntimeError:
            await self._connect_anew(client, self._named)
            return False
        except _TROUBLE:
            return False
        return True

    async def _connect_anew(self, client: Any, named: bool) -> None:
        """In place of a client that is of no use; what others, at the same time, found out of it counts once."""
        if client is self._redis:
            self._named = named
            self._connect()
            with contextlib.suppress(*_TROUBLE):
                await client.aclose()

    async def release(self, log: str) -> None:
        """Takes our lease back; when that fails it runs out by itself."""
        if self._redis is None:
            return
        try:
            key = f"{self._prefix}{log}"
            if await self._redis.hget(key, "holder") == self._holder.encode():
                await self._redis.delete(key)
        except _TROUBLE:
            return

    async def lease(self, log: str) -> Lease:
        """Whether somebody holds a lease on the log."""
        if self._redis is None:
            return Lease.UNREACHABLE
        try:
            return Lease.HELD if await self._redis.exists(f"{self._prefix}{log}") else Lease.ABSENT
        except _TROUBLE:
            return Lease.UNREACHABLE

    async def highest_token(self) -> int:
        """The highest token that Redis has seen; 0 when it has none or cannot be reached."""
        if self._redis is None:
            return 0
        try:
            return int(cast(bytes | None, await self._redis.get(f"{self._prefix}token")) or 0)
        except _TROUBLE:
            return 0

    async def close(self) -> None:
        if self._redis is not None:
            with contextlib.suppress(*_TROUBLE):
                await self._redis.aclose()
