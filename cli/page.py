"""One HTTP page for the whole stack: /metrics of every service together, /healthz and /readyz.

Knows addresses and a little HTTP/1.0; asks all services at once and gives none of them long.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from cli.exposition import merge
from runtime.config import Address

_FETCH_S = 2.0
_REQUEST_S = 5.0
_REQUEST_MAX_OCTETS = 8 * 1024
_PAGE_MAX_OCTETS = 4 * 1024 * 1024  # a service's page is some ten KiB
_AT_ONCE_MAX = 32  # requests being answered; more are turned away

Answer = tuple[int, str, str]


class Page:
    """Serves the page; `services` says who is there now, `own` gives metrics of the caller's."""

    def __init__(self, services: Callable[[], Mapping[str, Address]], own: Callable[[], str]) -> None:
        self._services = services
        self._own = own
        self._busy = 0
        self._server: asyncio.Server | None = None

    async def start(self, bind: Address) -> None:
        """Listens at `bind`; OSError when it cannot."""
        self._server = await asyncio.start_server(self._serve, bind.host, bind.port, limit=_REQUEST_MAX_OCTETS)

    async def close(self) -> None:
        if self._server:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._busy += 1
        try:
            if self._busy > _AT_ONCE_MAX:
                return
            async with asyncio.timeout(_REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._answer(head.split(b" ", 2)[1].decode("ascii", "replace"))
                content = body.encode()
                writer.write(
                    f"HTTP/1.0 {status} {'OK' if status == 200 else 'No'}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode()
                )
                writer.write(content)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, IndexError):
            return  # whoever asked is gone, too slow, or does not speak HTTP
        finally:
            self._busy -= 1
            writer.close()

    async def _answer(self, path: str) -> Answer:
        if path == "/metrics":
            pages = await self._ask_all("/metrics")
            merged = merge({name: page for name, (status, page) in pages.items() if status == 200})
            return 200, "text/plain; version=0.0.4; charset=utf-8", self._own() + merged
        if path == "/healthz":
            return 200, "text/plain", "alive\n"
        if path == "/readyz":
            unready = [name for name, (status, _) in (await self._ask_all("/readyz")).items() if status != 200]
            return (
                (503, "text/plain", f"not ready: {' '.join(unready)}\n") if unready else (200, "text/plain", "ready\n")
            )
        return 404, "text/plain", "try /healthz, /readyz or /metrics\n"

    async def _ask_all(self, path: str) -> dict[str, tuple[int, str]]:
        services = self._services()
        replies = await asyncio.gather(*(fetch(address, path) for address in services.values()))
        return dict(zip(services, replies, strict=True))


async def fetch(address: Address, path: str) -> tuple[int, str]:
    """Status and body of a page of ours; status 0 when nobody answered in time."""
    writer = None
    try:
        async with asyncio.timeout(_FETCH_S):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode())
            reply = bytearray()
            while len(reply) < _PAGE_MAX_OCTETS and (data := await reader.read(64 * 1024)):
                reply += data
    except (OSError, TimeoutError):
        return 0, ""
    finally:
        if writer:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    head, _, body = bytes(reply).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return status, body.decode("utf-8", "replace")
