"""What a failed system call means: qmail's words for it (error(3)), and whether trying again may help.

Pure: an errno in, a text or a judgement out. Every program and every report says it in these words; scripts read them.
"""

import errno

_WORDS = {
    errno.E2BIG: "argument list too long",
    errno.EACCES: "access denied",
    errno.EADDRINUSE: "address already used",
    errno.EADDRNOTAVAIL: "address not available",
    errno.EAFNOSUPPORT: "address family not supported",
    errno.EAGAIN: "temporary failure",
    errno.EBADF: "file descriptor not open",
    errno.EBUSY: "device busy",
    errno.ECHILD: "no child processes",
    errno.ECONNABORTED: "connection aborted",
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EDEADLK: "operation would cause deadlock",
    errno.EDQUOT: "disk quota exceeded",
    errno.EEXIST: "file already exists",
    errno.EFAULT: "bad address",
    errno.EFBIG: "file too big",
    errno.EHOSTDOWN: "host down",
    errno.EHOSTUNREACH: "host unreachable",
    errno.EINPROGRESS: "operation in progress",
    errno.EINTR: "interrupted system call",
    errno.EINVAL: "invalid argument",
    errno.EIO: "input/output error",
    errno.EISDIR: "is a directory",
    errno.ELOOP: "symbolic link loop",
    errno.EMFILE: "process cannot open more files",
    errno.EMLINK: "too many links",
    errno.EMSGSIZE: "message too long",
    errno.ENAMETOOLONG: "file name too long",
    errno.ENETDOWN: "network down",
    errno.ENETUNREACH: "network unreachable",
    errno.ENFILE: "system cannot open more files",
    errno.ENOBUFS: "out of buffer space",
    errno.ENODEV: "device does not support operation",
    errno.ENOENT: "file does not exist",
    errno.ENOEXEC: "exec format error",
    errno.ENOLCK: "no locks available",
    errno.ENOMEM: "out of memory",
    errno.ENOSPC: "out of disk space",
    errno.ENOSYS: "system call not available",
    errno.ENOTCONN: "not connected",
    errno.ENOTDIR: "not a directory",
    errno.ENOTEMPTY: "directory not empty",
    errno.ENOTSOCK: "not a socket",
    errno.ENOTTY: "not a tty",
    errno.ENXIO: "device not configured",
    errno.EOPNOTSUPP: "operation not supported",
    errno.EPERM: "permission denied",
    errno.EPIPE: "broken pipe",
    errno.EROFS: "read-only file system",
    errno.ESPIPE: "unseekable descriptor",
    errno.ESRCH: "no such process",
    errno.ESTALE: "stale NFS file handle",
    errno.ETIMEDOUT: "timed out",
    errno.ETXTBSY: "text busy",
    errno.EXDEV: "cross-device link",
}

# error_temp(3): it may go better another time.
_TEMPORARY = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EDEADLK,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOLCK,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ETOOMANYREFS,
        errno.ETXTBSY,
        errno.EUSERS,
    }
)


def words(number: int | None) -> str:
    """qmail's words for an errno; the system's name of those that it had none for."""
    return _WORDS.get(number or 0) or errno.errorcode.get(number or 0, "unknown error")


def is_temporary(number: int | None) -> bool:
    """Whether the same may succeed later (error_temp(3))."""
    return number in _TEMPORARY
