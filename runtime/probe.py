"""The health probe of a container: `python -m runtime.probe ROLE` ends with 0 when the service says SERVING, else 1.

It asks the gRPC health of the service in its own container, with the service's own key; the published images have no
program that could. In local and pop3, which start as root, the key is the front's: the probe becomes the front first.
"""

import asyncio
import os
import sys
from dataclasses import dataclass

from runtime import rpc
from runtime.config import EXIT_CONFIG, Address, ConfigError, address, load, setting, text

# A probe that waits longer than this has its answer. Shorter than any probe timeout in docker-compose.yml and k8s/.
PROBE_TIMEOUT_S = 3.0

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """The part of a service's environment that says how to reach it."""

    tls_dir: str = setting("TLS_DIR", text, "var/tls")
    rpc_bind: Address = setting("RPC_BIND", address)
    front_uid: str = setting("FRONT_UID", text, "")


def become(uid: int) -> None:
    """Gives up root for good; raises PermissionError where SETUID and SETGID are missing."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


async def is_serving(config: ProbeConfig, role: str) -> bool:
    """Whether the service that this environment describes says SERVING."""
    bind = config.rpc_bind
    here = Address(_LOOPBACK.get(bind.host, bind.host), bind.port)
    return await rpc.is_healthy(here, rpc.Identity.load(config.tls_dir, role), PROBE_TIMEOUT_S)


def main(role: str) -> int:
    try:
        config = load(ProbeConfig, os.environ)
        if config.front_uid and os.geteuid() == 0:
            become(int(config.front_uid))
        return 0 if asyncio.run(is_serving(config, role)) else 1
    except ConfigError as error:
        sys.stderr.write("".join(f"probe: {mistake}\n" for mistake in error.mistakes))
        return EXIT_CONFIG


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
