"""Runs tests in forks of a process that has already imported what no sabotage changes: half a second less for each.

Reads one order a line from standard input (JSON: tests, seconds, said), answers one line each: the exit status, or
"late" when the time was up. Started in the copy of the tree whose tests it runs; imports nothing of ours itself.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback

import pytest

PRELOADED = (
    "asyncio",
    "google.protobuf.message",
    "grpc.aio",
    "grpc_health.v1.health",
    "hypothesis",
    "prometheus_client",
    "pytest_asyncio.plugin",
    "redis.asyncio",
    "uvloop",
)
# The oven itself does not work: that must never pass for a test that noticed something.
_BROKEN = 70
OPTIONS = ("-q", "-x", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=short")
_PRELOADED_PLUGIN = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"


def main() -> None:
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.write(json.dumps(_bake(order["tests"], order["seconds"], order["said"])) + "\n")
        sys.stdout.flush()


def _bake(tests: list[str], seconds: float, said: str) -> int | str:
    child = os.fork()
    if child == 0:
        _run(tests, said)
    ended = os.pidfd_open(child)
    in_time = bool(select.select([ended], [], [], seconds)[0])
    os.close(ended)
    with contextlib.suppress(ProcessLookupError):  # what the tests started and left behind goes with them
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if in_time else "late"


def _run(tests: list[str], said: str) -> None:
    """In the child: what the tests say goes to a file, and no descriptor of ours to what they start."""
    os.setsid()
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, to in ((null, 0), (out, 1), (out, 2)):
        os.dup2(fd, to)
    status = _BROKEN
    try:
        status = int(pytest.main([*OPTIONS, "-W", _PRELOADED_PLUGIN, f"--basetemp={said}.tmp", *tests]))
    except BaseException:  # what this fork is of must not go on in it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
