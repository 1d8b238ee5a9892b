"""The probe of a container tells a service that serves from one that does not, and says what it lacks."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli import certs
from runtime import rpc
from runtime.clock import SystemClock
from runtime.config import EXIT_CONFIG, Address
from tests.conftest import free_port

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def tls(tmp_path: Path) -> str:
    certs.ensure(str(tmp_path / "tls"), SystemClock())
    return str(tmp_path / "tls")


@pytest.fixture
async def server(tls: str) -> AsyncIterator[rpc.Server]:
    server = rpc.Server(rpc.Identity.load(tls, "queue"), Address("127.0.0.1", 0))
    await server.start()
    yield server
    await server.stop(0)


async def probe(bind: str, tls: str, role: str = "queue") -> tuple[int | None, str]:
    """The exit status of `python -m runtime.probe` and what it says on standard error."""
    environment = {"PATH": os.environ["PATH"], "RPC_BIND": bind, "TLS_DIR": tls}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime.probe", role, cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_a_service_that_serves_is_healthy(server: rpc.Server, tls: str) -> None:
    await server.set_ready(True)
    assert await probe(f"0.0.0.0:{server.address.port}", tls) == (0, "")


async def test_a_service_that_drains_is_not(server: rpc.Server, tls: str) -> None:
    await server.set_ready(False)
    assert await probe(f"0.0.0.0:{server.address.port}", tls) == (1, "")


async def test_nobody_there_is_not_healthy(tls: str) -> None:
    assert await probe(f"127.0.0.1:{free_port()}", tls) == (1, "")


async def test_a_key_that_is_missing_is_named(tls: str) -> None:
    status, said = await probe("0.0.0.0:5700", tls, "nobody")
    assert status == EXIT_CONFIG
    assert f"{tls}/nobody/key.pem" in said
