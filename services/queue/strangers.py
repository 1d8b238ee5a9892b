"""What lies in a spool and is none of ours: a name that nobody here gives, or a file of a kind that ours never are.

Only looks, and follows nothing. What is strange is told and left where it is; the rest of the queue looks for its own
names, and at regular files and real directories only.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from runtime.events import Events
from services.queue.names import is_large_name, parse_log_name, parse_segment_name

# So many are named at a start; of the others the number is told. There may be a million.
NAMED_MAX = 20

_DRAFT = re.compile(r"(.+)\.\d+\.draft\Z")
_TOKEN = re.compile(r"\d{10}\Z")
_SPOOL = {"FORMAT": False, "logs": True, "tokens": True, "quarantine": True, "nodes": True, "lost+found": True}
_LOG = {"heartbeat": False, "owner.lock": False, "clock": False, "spare": False, "spare.draft": False, "large": True}

# Of a name whether it is a directory's; None: nobody here gives it.
Kind = Callable[[str], bool | None]


def tell(spool: str, events: Events) -> None:
    """Warns of what is strange in the spool."""
    found = strangers(spool)
    for path in islice(found, NAMED_MAX):
        events.warning(f"foreign name in the spool is ignored: {path!r}")
    more = sum(1 for _ in found)
    if more:
        events.warning(f"{more} more foreign names in the spool are ignored")


def strangers(spool: str) -> Iterator[str]:
    """The paths of everything strange; the copies in quarantine/ have any name."""
    yield from _strange(spool, _SPOOL.get)
    yield from _strange(os.path.join(spool, "tokens"), lambda name: False if _TOKEN.match(name) else None)
    logs = os.path.join(spool, "logs")
    yield from _strange(logs, lambda name: True if _is_log(name) else None)
    for name in filter(parse_log_name, _names(logs)):
        log = os.path.join(logs, name)
        if not os.path.islink(log):
            yield from _strange(log, lambda name: False if parse_segment_name(name) else _LOG.get(name))
            yield from _strange(os.path.join(log, "large"), lambda name: False if is_large_name(name) else None)


def _strange(directory: str, kind: Kind) -> Iterator[str]:
    """What is in a directory and is not of the kind that its name says: a directory, a file, or no name of ours."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            draft = _DRAFT.match(entry.name)
            wanted = kind(draft[1] if draft else entry.name)
            is_ours = entry.is_dir(follow_symlinks=False) if wanted else entry.is_file(follow_symlinks=False)
            if wanted is None or not is_ours:
                yield entry.path


def _is_log(name: str) -> bool:
    return parse_log_name(name.removeprefix("new-").removeprefix("gone-")) is not None


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(directory)
    return []
