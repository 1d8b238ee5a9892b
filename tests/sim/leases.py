"""Redis as the fence sees it: a model with the same commands, which may be gone, slow, emptied, or an old copy.

The fence's script is modelled in Python, and refused when it is not the one that was modelled; the contract test runs
both and the model beside a real server. Expiry is in the server's own time.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import redis.exceptions

# SHA-256 of the script of services/queue/fence.py that `_renew` follows line by line.
RENEW_SHA256 = "d44c79ced712745d2ee4510488252a3e24afca5d9939bb2974302d5b497a30bc"

_TIMEOUT_S = 0.5


class Leases:
    """The one server of a world."""

    def __init__(self, chance: Random, now_ms: Callable[[], int]) -> None:
        self._chance = chance
        self._now_ms = now_ms
        self.up = True
        self.slow = False
        self.values: dict[str, Any] = {}
        self.ends_ms: dict[str, int] = {}
        self._copy: tuple[dict[str, Any], dict[str, int]] = ({}, {})

    # -- what may happen to it ----------------------------------------------------------------------------------------

    def flush(self) -> None:
        self.values.clear()
        self.ends_ms.clear()

    def remember(self) -> None:
        """A replica gets a copy, which will be behind."""
        self._copy = (
            {key: dict(value) if isinstance(value, dict) else value for key, value in self.values.items()},
            dict(self.ends_ms),
        )

    def fail_over(self) -> None:
        """The replica takes over with its old copy."""
        self.values, self.ends_ms = self._copy
        self.remember()

    # -- commands -----------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        self._expire(key)
        found = self.values.get(key)
        if isinstance(found, dict):
            raise redis.exceptions.ResponseError("WRONGTYPE")
        return None if found is None else str(found).encode()

    def hget(self, key: str, name: str) -> bytes | None:
        self._expire(key)
        found = self.values.get(key, {}).get(name)
        return None if found is None else str(found).encode()

    def exists(self, key: str) -> int:
        self._expire(key)
        return int(key in self.values)

    def delete(self, key: str) -> int:
        self.ends_ms.pop(key, None)
        return int(self.values.pop(key, None) is not None)

    def renew(self, keys: list[str], args: list[Any]) -> int:
        """The script _RENEW of services/queue/fence.py."""
        highest = int(self.get(keys[1]) or b"0")
        token = int(args[1])
        holder, held_token = self.hget(keys[0], "holder"), self.hget(keys[0], "token")
        if holder is None or holder == str(args[0]).encode() or int(held_token or b"0") < token:
            self.values.setdefault(keys[0], {}).update(holder=args[0], token=args[1])
            self.ends_ms[keys[0]] = self._now_ms() + int(args[2])
        if token > highest:
            self.values[keys[1]] = args[1]
            highest = token
        return highest

    def _expire(self, key: str) -> None:
        if key in self.ends_ms and self.ends_ms[key] <= self._now_ms():
            del self.ends_ms[key]
            self.values.pop(key, None)

    # -- the way there ------------------------------------------------------------------------------------------------

    async def answer(self, reaches: Callable[[], bool], command: Callable[[], Any]) -> Any:
        """A command from a client, who may wait in vain; the server may have done it all the same."""
        there_s = self._chance.uniform(0.0002, 0.3 if self.slow else 0.002)
        await asyncio.sleep(there_s)
        if not self.up:
            raise redis.exceptions.ConnectionError("connection refused")
        if not reaches():
            await asyncio.sleep(_TIMEOUT_S)
            raise redis.exceptions.TimeoutError("timeout")
        said = command()
        back_s = self._chance.uniform(0.0002, 0.6 if self.slow else 0.002)
        if there_s + back_s > _TIMEOUT_S or not self.up:
            await asyncio.sleep(_TIMEOUT_S - min(there_s, _TIMEOUT_S))
            raise redis.exceptions.TimeoutError("timeout")
        await asyncio.sleep(back_s)
        return said


class LeaseClient:
    """redis.asyncio.Redis, as far as services/queue/fence.py goes."""

    def __init__(self, leases: Leases, reaches: Callable[[], bool]) -> None:
        self._leases = leases
        self._reaches = reaches

    def register_script(self, script: str) -> Callable[..., Awaitable[int]]:
        sha256 = hashlib.sha256(script.encode()).hexdigest()
        assert sha256 == RENEW_SHA256, f"the fence has another script now ({sha256}): follow it in `Leases.renew`"

        async def run(keys: list[str], args: list[Any]) -> int:
            return int(await self._leases.answer(self._reaches, lambda: self._leases.renew(keys, args)))

        return run

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = await self._leases.answer(self._reaches, lambda: self._leases.get(key))
        return found

    async def hget(self, key: str, name: str) -> bytes | None:
        found: bytes | None = await self._leases.answer(self._reaches, lambda: self._leases.hget(key, name))
        return found

    async def exists(self, key: str) -> int:
        return int(await self._leases.answer(self._reaches, lambda: self._leases.exists(key)))

    async def delete(self, key: str) -> int:
        return int(await self._leases.answer(self._reaches, lambda: self._leases.delete(key)))

    async def aclose(self) -> None:
        pass
