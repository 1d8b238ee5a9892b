"""What the queue is told by its environment and by the control directory."""

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from runtime.config import ConfigError, ServiceConfig, flag, integer, redis_url, setting, text
from runtime.controls import Controls, read_all
from runtime.serve import Process
from services.queue.bounce import BounceRules
from services.queue.log import SEGMENT_OCTETS
from services.queue.rules import Rules
from services.queue.store import Store

# Small segments are for tests, which want to see many; smaller ones than this would hold hardly a message each.
SEGMENT_MIN_OCTETS = 16 * 1024

_LIFETIME_S = 604_800  # qmail-control(5): queuelifetime

_NO_DELAY_WARNING = 0  # control/delaywarning, which qmail does not have: seconds


def cluster_id(value: str) -> str:
    """The cluster that the spool has to be of, as its FORMAT says it; "" for whichever it is."""
    if value and not re.fullmatch(r"[0-9a-f]{32}", value):
        raise ValueError("is not 32 hexadecimal digits, as after `cluster` in the spool's FORMAT")
    return value


@dataclass(frozen=True, kw_only=True)
class QueueConfig(ServiceConfig):
    spool_dir: str = setting("SPOOL_DIR", text, "var/spool")
    redis_url: str = setting("REDIS_URL", redis_url, "")
    spool_segment_octets: int = setting(
        "SPOOL_SEGMENT_OCTETS", integer(SEGMENT_MIN_OCTETS, SEGMENT_OCTETS), str(SEGMENT_OCTETS)
    )
    spool_unsafe_fs: bool = setting("SPOOL_UNSAFE_FS", flag, "0")
    spool_cluster: str = setting("SPOOL_CLUSTER", cluster_id, "")


def read_redis_password(config: QueueConfig) -> str:
    """The password of the Redis user `fence`; "" without Redis and when REDIS_URL itself says who we are."""
    if not config.redis_url or urlsplit(config.redis_url).username or urlsplit(config.redis_url).password:
        return ""
    path = os.path.join(config.tls_dir, "queue", "redis-password")
    try:
        with open(path, encoding="ascii") as file:
            return file.read(1_000).strip()
    except FileNotFoundError:
        return ""  # a Redis that asks for none; one that does is reported when it refuses us
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: {error}: make it with `bin/seapost certs`"]) from error


def read_rules(controls: Controls, scale: float) -> Rules:
    """The control files that the queue obeys; ConfigError with every mistake in them."""
    read_all(
        controls.me,
        controls.routing,
        lambda: controls.integer("queuelifetime", _LIFETIME_S),
        lambda: controls.integer("delaywarning", _NO_DELAY_WARNING),
    )
    me = controls.me()
    to = controls.line("doublebounceto", "postmaster")
    host = controls.line("doublebouncehost", me)
    return Rules(
        routing=controls.routing(),
        bounce=BounceRules(
            bouncefrom=controls.line("bouncefrom", "MAILER-DAEMON"),
            bouncehost=controls.line("bouncehost", me),
            doublebounceto=f"{to}@{host}",
        ),
        lifetime_s=controls.integer("queuelifetime", _LIFETIME_S),
        scale=scale,
        delaywarning_s=controls.integer("delaywarning", _NO_DELAY_WARNING),
    )


def reread(controls: Controls, store: Store, process: Process) -> None:
    """SIGHUP: routes from now on by the files as they are now; with a mistake in them, as before."""
    try:
        store.set_rules(read_rules(controls, store.rules.scale))
    except ConfigError as error:
        for mistake in error.mistakes:
            process.events.alert(f"unable to reread controls: {mistake}")
