"""When to try again: qmail's curve (qmail-send(8)). Pure arithmetic on unix milliseconds.

The k-th try stands at birth + (k·c)² seconds, c being 10 for local and 20 for remote: 400 s, 1,600 s, 3,600 s … `scale`
is TIME_SCALE: the curve of a message is the same, only its seconds are shorter.
"""

import math

from mail.routing import Channel

_SKIP = {Channel.LOCAL: 10, Channel.REMOTE: 20}


def next_attempt_ms(born_ms: int, now_ms: int, channel: Channel, scale: float) -> int:
    """The next try of a recipient whose last one started now. A birth that is yet to come counts as age zero."""
    age_ms = max(0, now_ms - born_ms)
    age_s = int(age_ms / (1_000 * scale))
    return now_ms - age_ms + int(1_000 * scale * (math.isqrt(age_s) + _SKIP[channel]) ** 2)


def longest_gap_ms(channel: Channel, lifetime_s: int, scale: float) -> int:
    """The longest that the curve lets a recipient wait while its message lives: (√age + c)² − age = 2c√age + c²."""
    skip = _SKIP[channel]
    return math.ceil(1_000 * scale * (2 * skip * math.sqrt(lifetime_s) + skip**2))


def not_after_gap(due_ms: int, now_ms: int, longest_ms: int) -> int:
    """The time of a try as it may stand: no later than the longest gap from now, however it came to be written."""
    return min(due_ms, now_ms + longest_ms)


def is_too_old(born_ms: int, now_ms: int, lifetime_s: int, scale: float) -> bool:
    """Whether a try that starts now is the last: a message lives `lifetime_s` (control/queuelifetime)."""
    return now_ms > born_ms + int(1_000 * scale * lifetime_s)
