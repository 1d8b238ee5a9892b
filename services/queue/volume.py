"""Whether the spool's volume may be trusted with mail: tried at every start, before a log is taken.

Puts together what filesystem.py says of the mount, what probe.py finds on this machine, and what neighbours.py proves
of the others. A broken promise refuses to start; SPOOL_UNSAFE_FS makes a warning of it.
"""

import asyncio
import contextlib
import os
import socket

from runtime.config import ConfigError
from runtime.durable import Disk
from runtime.events import Events
from runtime.serve import Process
from services.queue.config import QueueConfig
from services.queue.filesystem import judge as judge_mount
from services.queue.log import NO_SPACE
from services.queue.neighbours import DIRECTORY, Neighbours, Surroundings
from services.queue.probe import Result, judge, probe
from services.queue.spool import Format, Spool


async def open_volume(config: QueueConfig, spool: Spool, process: Process, host: str) -> Format:
    """The spool, ready to be worked in; ConfigError says why it is not."""
    check_filesystem(config, process.events)
    about = spool.prepare(host, config.spool_cluster or process.chance.octets(16).hex())
    check_cluster(config, about)
    await try_volume(config, spool.path, process)
    return about


def check_cluster(config: QueueConfig, about: Format) -> None:
    """Refuses the volume of another cluster: its mail is somebody else's, and ours is not there."""
    if config.spool_cluster and about.cluster_id != config.spool_cluster:
        raise ConfigError(
            [
                f"environment variable SPOOL_CLUSTER={config.spool_cluster}: the spool in {config.spool_dir} is of "
                f"cluster {about.cluster_id}: mount the right volume"
            ]
        )


def check_filesystem(config: QueueConfig, events: Events) -> None:
    """Judges the mount by its type and options; ConfigError when it breaks a promise."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        verdict = judge_mount(file.read(), os.path.realpath(config.spool_dir))
    mistakes = [f"environment variable SPOOL_DIR={config.spool_dir}: {verdict.refusal}"] if verdict.refusal else []
    _conclude(config, events, mistakes, [verdict.warning] if verdict.warning else [])


async def try_volume(config: QueueConfig, spool: str, process: Process) -> None:
    """Tries every promise on the volume, and that we see at once what other machines do; from now on they see us."""
    try:
        results = await asyncio.to_thread(_trials, os.path.join(spool, DIRECTORY), process.instance)
    except OSError as error:
        raise ConfigError([f"{spool}: {error}: SPOOL_DIR must be a directory that can be written"]) from error
    _conclude(config, process.events, *judge(results))
    neighbours = Neighbours(
        spool,
        Surroundings(
            process.instance,
            socket.gethostname(),
            process.clock,
            process.chance,
            process.events,
            unsafe=config.spool_unsafe_fs,
        ),
    )
    await neighbours.start_up()
    process.keep(neighbours.keep())


def _trials(directory: str, name: str) -> list[Result]:
    """The trials, in a corner of the spool where nobody takes them for strangers' files."""
    disk = Disk()
    try:
        with contextlib.suppress(FileExistsError):
            disk.make_directory(directory)
        return probe(directory, name, disk)
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        return []


def _conclude(config: QueueConfig, events: Events, mistakes: list[str], warnings: list[str]) -> None:
    if mistakes and not config.spool_unsafe_fs:
        raise ConfigError(mistakes)
    for warning in (*mistakes, *warnings):
        events.warning(warning)
