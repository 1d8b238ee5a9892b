"""Exactly once into a Maildir, a batch at a time, by descriptor, whatever is killed when and however often it is tried.

Every attempt writes a file of its own, `tmp/NAME.<chance>.w`; the link to `tmp/NAME.d` elects the one that is
published, by rename into `new/`. NAME is the same at every attempt. `NAME.d` stays when the reader moves or deletes the
message, so a later attempt learns that it was published; services/local/sweep.py removes it when nobody will ask again.
"""

import contextlib
import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from runtime import faults
from runtime.clock import Chance, Clock
from runtime.durable import Disk
from runtime.faults import Point
from services.local import texts

# A `.d` older than this counts only if its message is still found (window W5: someone emptied tmp/ in between).
ELECTION_LASTS_S = 36 * 3_600
# From so many files on, one syncfs(2) is faster than a sync for each: measured on ext4, 32 files of 4 KiB took 3.6 ms
# with it, 6 ms with writeback begun for all and then fdatasync one by one, 11 ms with fdatasync alone.
SYNC_TOGETHER_MIN = 4
# syncfs(2) also waits for what others wrote. When it takes longer than this, files are synced one by one for a while.
SYNC_TOGETHER_SLOW_S = 0.5
SYNC_APART_FOR_S = 60.0
_CHANCE_OCTETS = 6
_KERNEL_TELLS_ERRORS = (5, 8)  # before it, syncfs(2) kept silent about failed writes
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(slots=True)
class Copy:
    """One message for one Maildir, and what became of it: `trouble` is "" or the report of a deferral."""

    name: str
    head: bytes
    body: memoryview
    trouble: str = ""
    forgotten: bool = False  # window W5 was entered: this may be a second copy
    _draft: str = ""
    _fd: int = -1


class Publisher:
    """Publishes batches, one Maildir each. Not for two threads at once."""

    def __init__(self, disk: Disk, clock: Clock, chance: Chance) -> None:
        self._disk = disk
        self._clock = clock
        self._chance = chance
        self._apart_until = 0.0
        self._together = False
        release = os.uname().release.split(".")
        kernel = (int(release[0]), int("".join(filter(str.isdigit, release[1])) or 0))
        self._may_sync_together = kernel >= _KERNEL_TELLS_ERRORS

    def publish(self, path: str, copies: Sequence[Copy], make: bool, crowded: bool = False) -> None:
        """Puts every copy into the Maildir at `path`, durably, or says in its `trouble` why not. A missing Maildir is
        made when `make` says so. `crowded`: many others write at the same time."""
        try:
            root = self._open(path, make)
        except OSError as error:
            _fail(copies, texts.NO_MAILDIR if _is_absent(error) else texts.maildir_trouble(error.errno or 0))
            return
        try:
            tmp, new, cur = self._open_parts(root)
        except OSError as error:
            _fail(copies, texts.maildir_trouble(error.errno or 0))
            return
        try:
            self._together = not crowded and len(copies) >= SYNC_TOGETHER_MIN and self._may_sync_together
            self._run(tmp, new, cur, copies)
        except OSError as error:
            _fail(copies, texts.maildir_trouble(error.errno or 0))
        finally:
            for fd in (tmp, new, cur):
                with contextlib.suppress(OSError):  # of a directory: nothing was written through it
                    os.close(fd)

    def _run(self, tmp: int, new: int, cur: int, copies: Sequence[Copy]) -> None:
        for copy in copies:
            self._write(tmp, copy)
        # A crash here leaves drafts that nobody publishes; the sweep finds them.
        faults.point(Point.PUBLISH_AFTER_WRITE)
        self._sync(tmp, [copy for copy in copies if copy._fd >= 0])
        publishing = [copy for copy in copies if self._elect(tmp, new, cur, copy)]
        self._disk.sync_file(tmp)
        # A crash here leaves an elected draft; the next attempt finds it by its inode and publishes it.
        faults.point(Point.PUBLISH_AFTER_LINK)
        faults.point(Point.PUBLISH_BEFORE_RENAME)
        for copy in publishing:
            self._rename(tmp, new, copy)
        # A crash here leaves messages that are visible; the next attempt finds `.d` without a draft, and syncs new/.
        faults.point(Point.PUBLISH_AFTER_RENAME)
        self._disk.sync_file(new)
        faults.point(Point.PUBLISH_AFTER_SYNC)

    def _open(self, path: str, make: bool) -> int:
        if make:
            self._make(path)
        return os.open(path, _DIRECTORY)

    def _open_parts(self, root: int) -> tuple[int, int, int]:
        opened: list[int] = []
        try:
            for name in ("tmp", "new", "cur"):
                opened.append(self._open_part(root, name))
        except OSError:
            for fd in opened:
                os.close(fd)
            raise
        finally:
            with contextlib.suppress(OSError):
                os.close(root)
        return opened[0], opened[1], opened[2]

    def _open_part(self, root: int, name: str) -> int:
        try:
            return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
        except FileNotFoundError:
            if name != "cur":
                raise
        self._disk.make_directory(name, dir_fd=root)  # qmail delivers without one, and a reader misses it
        return os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=root)

    def _make(self, path: str) -> None:
        """The Maildir with all its parts, 0700, durable. One that was half made is finished."""
        if os.path.isdir(os.path.join(path, "cur")):
            return
        for part in ("", "tmp", "new", "cur"):  # cur comes last: it says that all are there
            try:
                self._disk.make_directory(os.path.join(path, part).rstrip("/"))
            except FileExistsError:
                continue
        self._disk.sync_directory(path)
        self._disk.sync_directory(os.path.dirname(path.rstrip("/")) or ".")

    def _write(self, tmp: int, copy: Copy) -> None:
        copy._draft = f"{copy.name}.{self._chance.octets(_CHANCE_OCTETS).hex()}.w"
        try:
            copy._fd = self._disk.create(copy._draft, dir_fd=tmp)
            self._disk.write_all(copy._fd, (copy.head, copy.body))
        except OSError as error:
            copy.trouble = texts.maildir_trouble(error.errno or 0)
            if copy._fd >= 0:
                os.close(copy._fd)
                copy._fd = -1
                self._discard(tmp, copy._draft)

    def _sync(self, tmp: int, copies: Sequence[Copy]) -> None:
        """Every draft is durable, or has its trouble: what is not on the disk is never elected."""
        now = self._clock.monotonic()
        together = self._together and now >= self._apart_until
        try:
            if together:
                self._disk.sync_filesystem(tmp)
                if self._clock.monotonic() - now > SYNC_TOGETHER_SLOW_S:
                    self._apart_until = self._clock.monotonic() + SYNC_APART_FOR_S
            else:
                for copy in copies:
                    self._disk.start_writing(copy._fd)
        except OSError as error:
            _fail(copies, texts.maildir_trouble(error.errno or 0))
        for copy in copies:
            try:
                if not together:
                    self._disk.sync_data(copy._fd)
            except OSError as error:
                copy.trouble = texts.maildir_trouble(error.errno or 0)
            self._close(copy)

    def _close(self, copy: Copy) -> None:
        try:
            os.close(copy._fd)
        except OSError as error:  # NFS tells of a full disk here
            copy.trouble = texts.maildir_trouble(error.errno or 0)
        copy._fd = -1

    def _elect(self, tmp: int, new: int, cur: int, copy: Copy) -> bool:
        """Whether this attempt renames a draft: its own, or one elected before it that is still there."""
        if copy.trouble:
            if copy._draft:
                self._discard(tmp, copy._draft)
            return False
        elected = f"{copy.name}.d"
        try:
            self._disk.link(copy._draft, elected, dir_fd=tmp)
            return True
        except FileExistsError:
            pass
        if self._is_forgotten(tmp, new, cur, copy.name):
            copy.forgotten = True
            self._discard(tmp, elected)
            self._disk.link(copy._draft, elected, dir_fd=tmp)
            return True
        self._discard(tmp, copy._draft)
        copy._draft = self._elected_draft(tmp, copy.name)
        return bool(copy._draft)

    def _elected_draft(self, tmp: int, name: str) -> str:
        """The draft that an earlier attempt elected and did not publish; "" when it did."""
        winner = os.stat(f"{name}.d", dir_fd=tmp, follow_symlinks=False).st_ino
        for entry in os.listdir(tmp):
            if entry.startswith(f"{name}.") and entry.endswith(".w"):
                try:
                    if os.stat(entry, dir_fd=tmp, follow_symlinks=False).st_ino == winner:
                        return entry
                except FileNotFoundError:
                    continue
        return ""

    def _is_forgotten(self, tmp: int, new: int, cur: int, name: str) -> bool:
        """Whether the election is so old that what it elected may have been cleaned away unpublished (W5)."""
        found = os.stat(f"{name}.d", dir_fd=tmp, follow_symlinks=False)
        age_s = self._clock.wall_ms() / 1_000 - found.st_mtime
        if age_s <= self._clock.scaled(ELECTION_LASTS_S) or self._elected_draft(tmp, name):
            return False
        return name not in os.listdir(new) and not any(entry.startswith(f"{name}:") for entry in os.listdir(cur))

    def _rename(self, tmp: int, new: int, copy: Copy) -> None:
        try:
            # Nothing of this name can be in new/: whoever put it there would have taken the draft.
            self._disk.rename_across((tmp, copy._draft), (new, copy.name))
        except FileNotFoundError:
            return  # another attempt has just published this very draft
        except OSError as error:
            copy.trouble = texts.maildir_trouble(error.errno or 0)

    def _discard(self, tmp: int, name: str) -> None:
        with contextlib.suppress(OSError):  # what stays is swept
            self._disk.unlink(name, dir_fd=tmp)


def _fail(copies: Sequence[Copy], trouble: str) -> None:
    for copy in copies:
        copy.trouble = copy.trouble or trouble


def _is_absent(error: OSError) -> bool:
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)
