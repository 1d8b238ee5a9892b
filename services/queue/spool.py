"""The spool directory: its format file, its tokens, the names of its logs and segments.

Everything is worked by full path: a directory descriptor would follow the rename by which a log is taken over. Foreign
names are ignored and reported, never followed.
"""

import contextlib
import errno
import fcntl
import os
import re
from dataclasses import dataclass

from mail.maildir import CLUSTER_MAX_CHARACTERS
from runtime.config import ConfigError
from runtime.durable import Disk
from services.queue.names import LogName, parse_log_name, parse_segment_name
from services.queue.quarantine import Quarantine

VERSION = 1

# What a log is called while it is made and while it is removed: neither is taken by anybody.
_NEW = "new-"
_GONE = "gone-"

# What a person has to mend. Any other error of the file system may pass by itself, and is worth another start.
_MISTAKES = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})

# Redis may lie: a hint further ahead than this of what the volume shows is not believed. A token has ten digits: beyond
# them a log's name would be none of ours.
HINT_AHEAD_MAX = 1_000_000

# The kernel drops the lock on it when its holder dies.
LOCK = "owner.lock"

# What opening says of something that is not a file.
_NO_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO})

_TOKEN_NAME = re.compile(r"\d{10}\Z")
_FORMAT = re.compile(r"seapost spool (\d+)\ncluster ([0-9a-f]{32})\nname ([A-Za-z0-9-]+)\n\Z")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9-]+")


@dataclass(frozen=True, slots=True)
class Format:
    """What spool/FORMAT says."""

    cluster_id: str
    cluster: str


def try_lock(log_path: str) -> int | None:
    """A descriptor that holds the lock of a log until it is closed, or None when a living process holds it."""
    path = os.path.join(log_path, LOCK)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in _NO_FILE:
            return None  # then the heartbeat tells
        raise
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        return None
    return fd


def _read_format(marker: str) -> str | None:
    """What the file says; None when it is missing, and only then."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in its place is not waited for
        with open(os.open(marker, flags), encoding="ascii") as file:
            return file.read(1_000)
    except FileNotFoundError:
        return None


class Spool:
    """The spool at one path."""

    def __init__(self, path: str, disk: Disk) -> None:
        self.path = os.path.abspath(path)
        self._disk = disk
        self._logs = os.path.join(self.path, "logs")
        self._tokens = os.path.join(self.path, "tokens")
        self._quarantine = os.path.join(self.path, "quarantine")

    def prepare(self, host: str, cluster_id: str) -> Format:
        """Makes an empty directory a spool; of a spool, checks that we can read it. ConfigError says what is wrong."""
        marker = os.path.join(self.path, "FORMAT")
        try:
            text = _read_format(marker)
            if text is None:
                self._make(marker, host, cluster_id)
                text = _read_format(marker) or ""
        except (OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno not in _MISTAKES:
                raise
            mistake = f"{marker}: {error}: SPOOL_DIR must be a directory that uid {os.geteuid()} can write"
            raise ConfigError([mistake]) from error
        found = _FORMAT.match(text)
        if not found:
            raise ConfigError([f"{marker}: does not read as a spool's format: is this the right volume?"])
        if int(found[1]) != VERSION:
            raise ConfigError([f"{marker}: version {found[1]}, this Seapost knows {VERSION}: start the newer Seapost"])
        for directory in (self._logs, self._tokens, self._quarantine):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        self._disk.sync_directory(self.path)
        return Format(found[2], found[3])

    def _make(self, marker: str, host: str, cluster_id: str) -> None:
        if os.path.isdir(self._logs) and os.listdir(self._logs):
            raise ConfigError(
                [f"{marker}: missing, but there are logs beside it: restore the file or the right volume"]
            )
        name = _NOT_A_NAME.sub("-", host.partition(".")[0])[:CLUSTER_MAX_CHARACTERS] or "seapost"
        text = f"seapost spool {VERSION}\ncluster {cluster_id}\nname {name}\n"
        with contextlib.suppress(FileExistsError):  # another replica was quicker, and wrote as good a one
            self._disk.write_new_file(marker, text.encode())

    def log_path(self, name: LogName) -> str:
        return os.path.join(self._logs, str(name))

    def logs(self) -> tuple[list[LogName], list[str]]:
        """The logs, and the names in logs/ that are none of ours."""
        names, foreign = [], []
        with os.scandir(self._logs) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        for entry, is_directory in found:
            name = parse_log_name(entry)
            if name and is_directory:
                names.append(name)
            elif not entry.startswith((_GONE, _NEW)):
                foreign.append(entry)
        return names, foreign

    def octets(self, name: LogName) -> int:
        """How much a log takes on the disk; 0 when it is not there any more."""
        try:
            with os.scandir(self.log_path(name)) as entries:
                return sum(entry.stat().st_size for entry in entries if parse_segment_name(entry.name))
        except FileNotFoundError:
            return 0

    def claim_token(self, hint: int) -> int:
        """A token above every one ever used here, ours alone: its file in tokens/ was created by us, durably."""
        token = max([0, *self._tokens_seen()])
        if hint <= token + HINT_AHEAD_MAX:
            token = max(hint, token)
        while True:
            token += 1
            try:
                fd = self._disk.create(os.path.join(self._tokens, f"{token:010}"))
            except FileExistsError:
                continue
            os.close(fd)
            self._disk.sync_directory(self._tokens)
            highest = max(self._claimed())
            if highest == token:
                self._remove_tokens_below(token)
                return token
            token = highest  # who was quicker has removed the files below: ours may have been another's

    def _remove_tokens_below(self, highest: int) -> None:
        """One file is enough to say what was used; ours is durable."""
        for entry in os.listdir(self._tokens):
            if _TOKEN_NAME.match(entry) and int(entry) < highest:
                # Another replica claims too; and a stranger may have a token's name.
                with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
                    self._disk.unlink(os.path.join(self._tokens, entry))

    def _claimed(self) -> list[int]:
        return [int(name) for name in os.listdir(self._tokens) if _TOKEN_NAME.match(name)]

    def _tokens_seen(self) -> list[int]:
        seen = self._claimed()
        for name in self.logs()[0]:
            seen.append(name.token)
            try:
                entries = os.listdir(self.log_path(name))
            except FileNotFoundError:
                continue  # taken over in this moment; its new name has a higher token in tokens/
            seen.extend(segment.token for entry in entries if (segment := parse_segment_name(entry)))
        return seen

    def create_log(self, name: LogName) -> tuple[str, int]:
        """A new, empty log directory that appears with its final name, and its lock, held before others can see it."""
        draft = os.path.join(self._logs, f"{_NEW}{name}")
        self._disk.make_directory(draft)
        self._disk.make_directory(os.path.join(draft, "large"))
        lock = try_lock(draft)
        if lock is None:  # and nobody else knows of this directory
            raise OSError(errno.ENOLCK, "no lock is given here", draft)
        self._disk.sync_directory(draft)
        path = self.log_path(name)
        self._disk.rename(draft, path)
        self._disk.sync_directory(self._logs)
        return path, lock

    def rename_log(self, old: LogName, new: LogName) -> str:
        """The takeover itself: one winner, durable. FileNotFoundError when another was quicker."""
        path = self.log_path(new)
        self._disk.rename(self.log_path(old), path)
        self._disk.sync_directory(self._logs)
        return path

    def remove_log(self, name: LogName) -> None:
        """Removes a log that nothing needs any more; after a crash in here `sweep` finishes it."""
        self._disk.rename(self.log_path(name), os.path.join(self._logs, f"{_GONE}{name}"))
        self._disk.sync_directory(self._logs)
        self.sweep(name.owner)

    def sweep(self, owner: str) -> None:
        """Removes what is left of removed logs, and of those that an earlier life of the owner did not finish."""
        for entry in os.listdir(self._logs):
            name = parse_log_name(entry.partition("-")[2])
            path = os.path.join(self._logs, entry)
            if name is None or os.path.islink(path) or not os.path.isdir(path):
                continue
            if entry.startswith(_GONE) or (entry.startswith(_NEW) and name.owner == owner):
                with contextlib.suppress(FileNotFoundError):  # another replica sweeps too
                    self._disk.remove_tree(path)

    def set_aside(self, label: str, octets: bytes) -> str:
        """Copies octets that count for nothing into quarantine/, for somebody to look at; says where to, or why not."""
        return Quarantine(self._quarantine, self._disk).set_aside(label, octets)
