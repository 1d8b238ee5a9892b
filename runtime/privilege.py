"""Giving up power, for good: a user's child, a front, a spawner each keep only what they need.

Every step is checked by asking the kernel afterwards, and a step that fails is PrivilegeError: nothing ever goes on
with more power than it was meant to have. Linux only; what os has no call for goes through libc by ctypes.
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from enum import IntEnum

_PR_SET_PDEATHSIG = 1
_PR_GET_PDEATHSIG = 2
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x2008_0522
_CAPABILITIES = 64  # how many the interface can name; the kernel refuses the ones it does not have

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """capabilities(7): the ones anything here keeps."""

    SETGID = 6
    SETUID = 7


class PrivilegeError(OSError):
    """Power could not be given up. The process must end."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def become(uid: int, gid: int, groups: Iterable[int] = ()) -> None:
    """This process is that user for ever: groups, gid, uid, no new privileges, no capability, not dumpable.

    Already being that user (a stack run without root) leaves uid and groups as they are. Never uid 0 or gid 0. What
    `end_with_parent` arranged is kept, though the kernel forgets it at a change of uid.
    """
    parent, number = os.getppid(), ctypes.c_int()
    _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    if os.getresuid() != (uid, uid, uid):
        _drop_bounding(frozenset())  # while there may still be CAP_SETPCAP
        _change(uid, gid, sorted({gid, *groups}))
    if uid == 0 or os.getresuid() != (uid, uid, uid):
        raise PrivilegeError(errno.EPERM, "the uid did not change")
    seal(())
    _must_not_regain()
    if number.value:
        end_with_parent(parent, number.value)


def seal(keep: Iterable[Capability]) -> None:
    """No new privileges, none of the capabilities but `keep`, and a memory that nobody else may look into."""
    kept = frozenset(int(one) for one in keep)
    _drop_bounding(kept)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _set_capabilities(kept)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    if _libc.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        raise PrivilegeError(errno.EPERM, "no_new_privs was not set")


def end_with_parent(parent: int, number: int) -> None:
    """The signal `number` comes when the parent ends; when it has already, this process ends at once. Needs the
    parent's right to signal us, so it is never the only way."""
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Whoever loses its parent anywhere below this process becomes its child, and not init's."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _change(uid: int, gid: int, groups: list[int]) -> None:
    if uid <= 0 or gid <= 0:
        raise PrivilegeError(errno.EPERM, f"will not run as uid {uid}, gid {gid}")
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise PrivilegeError(error.errno, f"cannot become uid {uid}: {error.strerror}") from error
    if sorted(os.getgroups()) != groups or os.getresgid() != (gid, gid, gid):
        raise PrivilegeError(errno.EPERM, "the groups did not change")


def _must_not_regain() -> None:
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        pass
    else:
        raise PrivilegeError(errno.EPERM, "root could be regained")
    try:
        os.setgroups([0])
    except PermissionError:
        return
    raise PrivilegeError(errno.EPERM, "the groups could be changed again")


def _drop_bounding(kept: frozenset[int]) -> None:
    """Fails without CAP_SETPCAP or for a number the kernel lacks; no_new_privs closes the same door."""
    for number in range(_CAPABILITIES):
        if number not in kept:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)


def _set_capabilities(kept: frozenset[int]) -> None:
    header = _Header(_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)(_Data(0, 0, 0), _Data(0, 0, 0))
    if _libc.capget(ctypes.byref(header), data):
        raise PrivilegeError(ctypes.get_errno(), "capget")
    for half in range(2):
        mask = sum(1 << (number - 32 * half) for number in kept if number // 32 == half) & data[half].permitted
        data[half] = _Data(mask, mask, 0)
    if _libc.capset(ctypes.byref(header), data):
        raise PrivilegeError(ctypes.get_errno(), "capset")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0):
        raise PrivilegeError(ctypes.get_errno(), f"prctl {option}")
