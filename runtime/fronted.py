"""Starting a service that is a front with a spawner behind it: local and pop3.

The spawner is forked first, while this process is small and has no threads; then the front gives up root; only then is
imported what has threads (gRPC, uvloop). So nothing here may import those at the top.
"""

import functools
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from runtime import capacity, privilege
from runtime.accounts import Places
from runtime.config import ConfigError, ServiceConfig, load
from runtime.offspring import Work
from runtime.spawner import Spawner

if TYPE_CHECKING:
    from runtime.serve import Process


class FrontedConfig(ServiceConfig):
    """What such a service's configuration must say: where accounts are, and who its front becomes (None: nobody)."""

    front_uid: int | None

    def places(self) -> Places:
        """Where accounts are, as this process sees them before the front gives up root."""
        raise NotImplementedError


C = TypeVar("C", bound=FrontedConfig)
Main = Callable[[Spawner, C, "Process"], Coroutine[Any, Any, None]]


def run(
    role: str, kind: type[C], work: Callable[[C], Work], main: Main[C], as_root: Callable[[C], None] | None = None
) -> None:
    """Forks the spawner, calls `as_root` (which may raise ConfigError), drops to FRONT_UID, runs `main` as
    runtime/serve.py does."""
    try:
        config = load(kind, os.environ)
        capacity.take_all_descriptors()
        spawner = Spawner.fork(config.places(), work(config))
        if as_root is not None:
            as_root(config)
    except ConfigError as error:
        from runtime import serve

        return serve.refuse(role, error)
    if config.front_uid is not None:
        privilege.become(config.front_uid, config.front_uid)
    from runtime import serve

    serve.run(role, kind, functools.partial(main, spawner))
