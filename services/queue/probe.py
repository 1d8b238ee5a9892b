"""Whether the spool's volume does what the queue relies on: each promise is tried once, in a directory of our own.

A file system may be of a good type and break a promise all the same, by its options, its server or what lies between.
So a start tries: exclusive creation, links, the rename by which a log is taken, the look by full path behind it, the
three syncs, preallocation, locks. `judge` is pure; the trials work on the disk and change nothing but their directory.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Barrier, Thread

from runtime.durable import Disk
from services.queue.log import NO_SPACE
from services.queue.spool import try_lock

# What a trial writes: some blocks, and no more than a spool that is nearly full can spare.
_OCTETS = 64 * 1024

# How often two threads race for one name. A race that both win is seen by the first round in which they meet.
_ROUNDS = 8

# What a start that was cut off has left is removed by the next; what other replicas have left, when it is so much older
# than ours by the file system's own clock.
_LEFTOVER_S = 3_600
PREFIX = "trial-"


class BrokenPromise(Exception):
    """The volume did something else than it must; the text says what."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A promise: what it is called, what comes without it, how it is tried. One that is not grave only costs time."""

    promise: str
    reason: str
    run: Callable[["Ground"], None]
    grave: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a trial; `trouble` is "" when the promise was kept."""

    trial: Trial
    trouble: str = ""


FIX = (
    "use ext4, xfs, btrfs, cephfs, or NFS with lookupcache=none,actimeo=0,local_lock=none, "
    "or set SPOOL_UNSAFE_FS=1 to risk it"
)


def judge(results: list[Result]) -> tuple[list[str], list[str]]:
    """What to refuse the volume for, each with what breaks and the fix, and what to warn of."""
    broken = [result for result in results if result.trouble]
    said = {result: f"{result.trial.promise}: {result.trouble}; {result.trial.reason}" for result in broken}
    mistakes = [f"the volume breaks a promise: {said[one]}: {FIX}" for one in broken if one.trial.grave]
    return mistakes, [f"the volume: {said[one]}" for one in broken if not one.trial.grave]


class Ground:
    """A directory for one trial."""

    def __init__(self, path: str, disk: Disk) -> None:
        self.path = path
        self.disk = disk

    def at(self, *names: str) -> str:
        return os.path.join(self.path, *names)

    def write(self, name: str, octets: bytes = b"x") -> str:
        path = self.at(name)
        fd = self.disk.create(path)
        try:
            self.disk.write_all(fd, [octets])
        finally:
            os.close(fd)
        return path


def probe(spool: str, name: str, disk: Disk) -> list[Result]:
    """Tries every promise on the volume of the spool, in a directory called after `name`; OSError when it makes none.

    A full disk breaks no promise: it is found by those who write.
    """
    home = os.path.join(spool, f"{PREFIX}{name}")
    with contextlib.suppress(FileNotFoundError):
        disk.remove_tree(home)
    try:
        disk.make_directory(home)
    except OSError as error:
        if error.errno in NO_SPACE:
            return []
        raise
    try:
        _sweep(spool, os.stat(home).st_mtime, disk)
        return [_try(trial, home, number, disk) for number, trial in enumerate(TRIALS)]
    finally:
        disk.remove_tree(home)


def _sweep(spool: str, now_s: float, disk: Disk) -> None:
    """Removes what other replicas have left long ago; one that is at its trials now is left alone."""
    for entry in os.listdir(spool):
        path = os.path.join(spool, entry)
        if entry.startswith(PREFIX):
            with contextlib.suppress(OSError):  # another replica sweeps too
                if now_s - os.lstat(path).st_mtime > _LEFTOVER_S:
                    disk.remove_tree(path)


def _try(trial: Trial, home: str, number: int, disk: Disk) -> Result:
    path = os.path.join(home, str(number))
    try:
        disk.make_directory(path)
        trial.run(Ground(path, disk))
    except BrokenPromise as error:
        return Result(trial, str(error))
    except OSError as error:
        if error.errno in NO_SPACE:
            return Result(trial)
        return Result(trial, error.strerror or str(error))
    return Result(trial)


def _winners(act: Callable[[int], None]) -> int:
    """How many of two threads that act at the same time succeed; whoever comes too late gets FileExistsError or
    FileNotFoundError."""
    gate, won, failed = Barrier(2), [], list[OSError]()

    def run(number: int) -> None:
        gate.wait()
        try:
            act(number)
            won.append(number)
        except (FileExistsError, FileNotFoundError):
            pass
        except OSError as error:
            failed.append(error)

    threads = [Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return len(won)


def _creates_once(ground: Ground) -> None:
    for turn in range(_ROUNDS):
        path = ground.at(str(turn))
        winners = _winners(lambda _, path=path: os.close(ground.disk.create(path)))  # type: ignore[misc]
        if winners != 1:
            raise BrokenPromise(f"{winners} of two creators of one name succeeded")


def _links_once(ground: Ground) -> None:
    drafts = [ground.write("a"), ground.write("b")]
    for turn in range(_ROUNDS):
        path = ground.at(str(turn))
        winners = _winners(lambda number, path=path: ground.disk.link(drafts[number], path))  # type: ignore[misc]
        if winners != 1:
            raise BrokenPromise(f"{winners} of two links with one name succeeded")
    if os.stat(ground.at("0")).st_ino not in {os.stat(draft).st_ino for draft in drafts}:
        raise BrokenPromise("a link is another file than the one it was made of")


def _renames_once(ground: Ground) -> None:
    """As a log is taken: two takers rename one directory to names of their own."""
    for turn in range(_ROUNDS):
        old, new = ground.at(f"log-{turn}"), [ground.at(f"{taker}-{turn}") for taker in "ab"]
        ground.disk.make_directory(old)
        os.close(ground.disk.create(os.path.join(old, "segment")))
        identity = _identity(old)
        winners = _winners(lambda number, old=old, new=new: ground.disk.rename(old, new[number]))  # type: ignore[misc]
        if winners != 1:
            raise BrokenPromise(f"{winners} of two renames of one directory succeeded")
        if os.path.exists(old):
            raise BrokenPromise("a directory is still found by its old name after it was renamed")
        found = [path for path in new if os.path.exists(path)]
        if list(map(_identity, found)) != [identity] or os.listdir(found[0]) != ["segment"]:
            raise BrokenPromise("a renamed directory is another one than before")


def _keeps_descriptors(ground: Ground) -> None:
    """A former owner writes on into the file that it had open, and can make none by the old path."""
    old, new = ground.at("old"), ground.at("new")
    ground.disk.make_directory(old)
    fd = ground.disk.create(os.path.join(old, "segment"))
    try:
        ground.disk.rename(old, new)
        ground.disk.write_all(fd, [b"late"])
        ground.disk.sync_data(fd)
    finally:
        os.close(fd)
    try:
        os.close(ground.disk.create(os.path.join(old, "another")))
    except FileNotFoundError:
        pass
    else:
        raise BrokenPromise("a file was made by the old path of a renamed directory")
    if os.stat(os.path.join(new, "segment")).st_size != len(b"late"):
        raise BrokenPromise("what was written through an open file is not seen by its new path")


def _replaces(ground: Ground) -> None:
    path = ground.at("file")
    for content in (b"first", b"second"):
        ground.disk.replace_file(path, content)
        with open(path, "rb") as file:
            if file.read() != content:
                raise BrokenPromise("a file that was replaced shows other contents")


def _syncs(ground: Ground) -> None:
    fd = ground.disk.create(ground.at("file"))
    try:
        ground.disk.write_all(fd, [bytes(_OCTETS)])
        ground.disk.sync_data(fd)
        ground.disk.sync_file(fd)
    finally:
        os.close(fd)
    ground.disk.sync_directory(ground.path)


def _preallocates(ground: Ground) -> None:
    fd = ground.disk.create(ground.at("file"))
    try:
        ground.disk.preallocate(fd, _OCTETS)
        ground.disk.sync_file(fd)
        found = os.fstat(fd)
        if found.st_size != _OCTETS or os.pread(fd, _OCTETS, 0).strip(b"\0"):
            raise BrokenPromise("preallocated blocks are not there, or not empty")
    finally:
        os.close(fd)


def _has_fallocate(ground: Ground) -> None:
    fd = ground.disk.create(ground.at("file"))
    try:
        if not ground.disk.can_preallocate(fd, _OCTETS):
            raise BrokenPromise("there is no fallocate(2)")
    finally:
        os.close(fd)


def _locks(ground: Ground) -> None:
    first = try_lock(ground.path)
    if first is None:
        raise BrokenPromise("a new file cannot be locked")
    try:
        second = try_lock(ground.path)
        if second is not None:
            os.close(second)
            raise BrokenPromise("two owners hold one lock")
    finally:
        os.close(first)
    again = try_lock(ground.path)
    if again is None:
        raise BrokenPromise("a lock outlives its holder")
    os.close(again)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


TRIALS = (
    Trial("a name is created once", "two owners may claim one token", _creates_once),
    Trial("a link has a name for itself", "two replicas may make one spool", _links_once),
    Trial("a directory is renamed once, and its old name is gone", "two replicas may own one log", _renames_once),
    Trial("an open file survives a rename, its old path does not", "a former owner may go on", _keeps_descriptors),
    Trial("a file is replaced whole", "a small file may be read in halves", _replaces),
    Trial("fdatasync, fsync and the sync of a directory", "accepted mail may be lost in a power cut", _syncs),
    Trial("blocks are preallocated", "a full disk may not record outcomes", _preallocates),
    Trial("a lock has one holder and ends with it", "a living owner may be taken for a dead one", _locks),
    Trial("blocks are given at once", "each new segment is written twice", _has_fallocate, grave=False),
)
